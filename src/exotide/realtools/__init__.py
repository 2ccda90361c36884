"""Runs Exoscale's official tools against a local cloud, in a network where nothing else is."""

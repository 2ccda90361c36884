"""Faults on demand: what can go wrong with a cloud, when, and how often; repeatable by a seed."""

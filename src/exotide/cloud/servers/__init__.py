"""Servers that are real processes: own address, own CPU limit, own node exporter."""

"""Servers of an ordinary user: loopback addresses, and a governor instead of control groups."""

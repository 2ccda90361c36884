"""
What can go wrong around a load test, as one tree:

* LoadTestError
  x ControlFileInvalid    the generator cannot read what is wanted of it
"""

from __future__ import annotations


class LoadTestError(Exception):
    """Base of all errors of the load test."""


class ControlFileInvalid(LoadTestError):
    """The control file holds something else than a control."""

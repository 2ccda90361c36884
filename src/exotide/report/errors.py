"""
What can go wrong around a report, as one tree:

* ReportError
  x RecordInvalid    the file is not a recorded run
"""

from __future__ import annotations


class ReportError(Exception):
    """Base of all errors of the report."""


class RecordInvalid(ReportError):
    """The record cannot be read as a run; the message says what is wrong with it."""

"""
What keeps checks from being made, as one tree:

* CheckError
  x CannotRun       options, credentials or endpoint that cannot work      exit 2
  x WebFault        a page did not come, or was not what it should be      tolerated during a wait
  x ProgramFault    an agent could not be started, or ended by itself      the check has failed

What the API does wrong is exotide.stack.errors.
"""

from __future__ import annotations


class CheckError(Exception):
    """Base of all errors of the checks."""


class CannotRun(CheckError):
    """Nothing was checked; the message says what to change."""


class WebFault(CheckError):
    """An HTTP request got no answer, or not the one that was hoped for."""


class ProgramFault(CheckError):
    """A program under check is missing or has ended."""

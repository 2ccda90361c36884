"""
Why a command cannot even begin, as one tree. All end the program with exit 2; nothing was changed.

* CannotRun            an option, a variable or the folder; names it and the next step
  x Busy               another exotide or another terraform works in this folder; names its process
"""

from __future__ import annotations


class CannotRun(Exception):
    """The command cannot begin; the message is for the user."""


class Busy(CannotRun):
    """Someone else works on this stack at this moment."""

"""
What can end a demo before its time, as one tree:

* DemoError
  x SettingsWrong      the command's options cannot work      exit 2
  x ProgramDied        one of the programs ended by itself    carries its log's last lines
  x ProgramUnready     it runs, but did not get ready in time

Ctrl-C and TERM are exotide.stopping.Stopped.
"""

from __future__ import annotations


class DemoError(Exception):
    """Base of all errors of the demo."""


class SettingsWrong(DemoError):
    """An option has a value that cannot work."""


class ProgramDied(DemoError):
    """A program that the run needs has ended; nothing of it is left running."""


class ProgramUnready(DemoError):
    """A program has not become ready within its time."""

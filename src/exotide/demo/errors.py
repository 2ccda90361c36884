"""
What can end a demo before its time, as one tree:

* DemoError
  x SettingsWrong      the command's options cannot work      exit 2
  x ProgramDied        one of the programs ended by itself    carries its log's last lines
  x ProgramUnready     it runs, but did not get ready in time
* Stopped              Ctrl-C or TERM; an interrupt, so that nothing takes it for a fault
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


class Stopped(KeyboardInterrupt):
    """Someone asked the demo to stop."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by signal {signal_number}")

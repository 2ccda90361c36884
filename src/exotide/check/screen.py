"""What one sees meanwhile: on a terminal a line that moves, elsewhere a line at times."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status

PERIOD_S: Final = 10.0
"""Without a terminal, a wait tells at most so often what it sees."""


class LiveScreen:
    """Keeps one line up to date below those that stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def say(self, text: str) -> None:
        """Let a line stand."""
        self._console.print(text, highlight=False, markup=False)

    def waiting(self, says: str, seen: str, *, passed_s: float, within_s: float) -> None:
        """Redraw the line."""
        text = escape(moment(says, seen, passed_s=passed_s, within_s=within_s))
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def close(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class PlainScreen:
    """Prints what stands, and in a long wait a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: tuple[str, float] = ("", 0.0)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def waiting(self, says: str, seen: str, *, passed_s: float, within_s: float) -> None:
        """Print a line if the last of this wait is old enough."""
        last, at_s = self._said
        if last != says or passed_s < at_s:
            self._said = (says, passed_s)
        elif passed_s - at_s >= PERIOD_S:
            self._said = (says, passed_s)
            self.say(f"  ...  {moment(says, seen, passed_s=passed_s, within_s=within_s)}")

    def close(self) -> None:
        """Nothing to take away."""


def moment(says: str, seen: str, *, passed_s: float, within_s: float) -> str:
    """A wait as it is now."""
    limit = f" of {within_s:.0f}" if within_s else ""
    return f"{passed_s:.0f}{limit} s  {says}: {seen}"

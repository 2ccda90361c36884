"""Waiting for the cloud: soon at first, so that a fast cloud is not waited for, then patiently."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from .errors import Interrupted, TookTooLong

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a wait is paced and given up. Times in seconds."""

    first_s: float = 0.1
    growth_ratio: float = 1.5
    longest_s: float = 3.0
    """No two looks are further apart; the official SDK starts with this."""
    limit_s: float = 600.0
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by another thread to end every wait at once."""

    def until(self, look: Callable[[], T | None], *, what: str, state: Callable[[], str]) -> T:
        """
        Look until there is something, and give it back.

        Args:
            look: Answers None while it is not there yet.
            what: What is waited for, for messages.
            state: The last state seen, for messages.

        Raises:
            TookTooLong: after limit_s.
            Interrupted: as soon as stop is set.
        """
        started_at, pause_s = time.monotonic(), self.first_s
        while (found := look()) is None:
            waited_s = time.monotonic() - started_at
            if waited_s >= self.limit_s:
                raise TookTooLong(
                    f"{what} did not happen within {self.limit_s:g} s, last seen: {state()}"
                )
            self.pause(min(pause_s, self.limit_s - waited_s))
            pause_s = min(pause_s * self.growth_ratio, self.longest_s)
        return found

    def pause(self, pause_s: float) -> None:
        """
        Sleep, unless the caller wants to stop.

        Raises:
            Interrupted: as soon as stop is set.
        """
        if self.stop.wait(pause_s):
            raise Interrupted("stopped while waiting for the cloud; run it again to go on")

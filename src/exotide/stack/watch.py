"""Looking at something again and again on a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import httpx2

from .errors import StackError

T = TypeVar("T")

PERIOD_S: Final = 1.0
TIMEOUT_S: Final = 2.0
STALE_S: Final = 4.0

# What an observation may end with: no answer, another answer than expected, a refusal.
FAULTS: Final = (httpx2.HTTPError, StackError, ValueError, LookupError, TypeError, OSError)


class Watch(Generic[T]):
    """Looks again and again on a thread of its own, so that a slow answer delays nobody."""

    def __init__(self, name: str, look: Callable[[], T], *, period_s: float = PERIOD_S) -> None:
        self.name = name
        self._look, self._period_s = look, period_s
        self._seen: tuple[float, T] | None = None
        self._started_s = time.monotonic()
        self._fault = "no answer yet"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def latest(self, *, max_age_s: float = STALE_S) -> T | None:
        """The last thing seen, or None if that is too long ago."""
        seen = self._seen
        return seen[1] if seen is not None and time.monotonic() - seen[0] <= max_age_s else None

    def trouble(self, *, after_s: float) -> str | None:
        """What went wrong, if nothing was seen for so long."""
        seen_s = self._started_s if self._seen is None else self._seen[0]
        silent_s = time.monotonic() - seen_s
        return f"{self.name}: {self._fault}, for {silent_s:.0f} s" if silent_s > after_s else None

    def stop(self) -> None:
        """Look no more; returns when the last look is over."""
        self._stop.set()
        self._thread.join(timeout=2 * TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._seen = (time.monotonic(), self._look())
            except FAULTS as error:
                self._fault = f"{type(error).__name__}: {error}"
            self._stop.wait(self._period_s)

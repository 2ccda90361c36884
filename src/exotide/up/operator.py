"""Who runs the command: a terminal that can be asked or not, signals, and the clock."""

from __future__ import annotations

import os
import select
import signal
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, Protocol, Self

from .course import Answered, ClockSet, Event, HungUp, Interrupted, Terminated

_EVENTS: Final[dict[int, Callable[[], Event]]] = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
_MOST_BYTES: Final = 4096
_JUMP_S: Final = 30.0
"""Smaller corrections of the clock are none."""
_YES: Final = {"y", "yes"}


class Operator(Protocol):
    """Adapters: Console, and a scripted one in the tests."""

    def now(self) -> float:
        """
        Unix seconds.

        Not a clock that stands still while the machine sleeps: the stack costs money meanwhile.
        """

    def events(self, wait_s: float) -> list[Event]:
        """Wait at most so long, and give what has happened."""

    def ask(self, question: str) -> None:
        """Put a question; its answer comes as an event."""

    def withdraw(self) -> None:
        """Take the question back."""


def since_boot_s() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Console:
    """
    The real one; signals are events inside `with`, and so is that somebody sets the clock.

    Args:
        typed: Descriptor of what is typed.
        shown: Descriptor of where questions are shown.
        clock: Unix seconds.
        steady: Seconds since any moment that stays the same.
    """

    def __init__(
        self,
        *,
        typed: int = 0,
        shown: int = 1,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = since_boot_s,
    ) -> None:
        self._typed, self._shown = typed, shown
        self._clock, self._steady = clock, steady
        self._ahead_s = clock() - steady()
        self._noticed: list[Event] = []
        self._before: dict[int, object] = {}
        self._is_asking = False

    def __enter__(self) -> Self:
        for number in _EVENTS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the terminal's end is not to be noticed
            self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave

    @property
    def can_ask(self) -> bool:
        """Whether someone is there: a terminal on both sides, and this command in its front."""
        if not (os.isatty(self._typed) and os.isatty(self._shown)):
            return False
        try:
            return os.tcgetpgrp(self._typed) == os.getpgrp()
        except OSError:
            return False

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def events(self, wait_s: float) -> list[Event]:
        """Wait, and give signals and answers."""
        if self._is_asking:
            self._listen(wait_s)
        elif not self._noticed:
            time.sleep(wait_s)
        noticed, self._noticed = [*self._jumps(), *self._noticed], []
        return noticed

    def _jumps(self) -> list[Event]:
        ahead_s = self._clock() - self._steady()
        by_s = ahead_s - self._ahead_s
        if abs(by_s) < _JUMP_S:
            return []
        self._ahead_s = ahead_s
        return [ClockSet(by_s=by_s)]

    def ask(self, question: str) -> None:
        """Put a question; what was typed before it is no answer."""
        with suppress(OSError, termios.error):
            termios.tcflush(self._typed, termios.TCIFLUSH)
        self._write(f"{question} [y/N] ")
        self._is_asking = True

    def withdraw(self) -> None:
        """Take the question back."""
        if self._is_asking:
            self._is_asking = False
            self._write("\n")

    def _listen(self, wait_s: float) -> None:
        try:
            if not select.select([self._typed], [], [], wait_s)[0]:
                return
            typed = os.read(self._typed, _MOST_BYTES)
        except OSError:
            self._is_asking = False
            self._noticed.append(HungUp())
            return
        self._is_asking = False
        if not typed.endswith(b"\n"):
            self._write("\n")  # Ctrl-D
        self._noticed.append(Answered(yes=typed.decode(errors="replace").strip().lower() in _YES))

    def _write(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._shown, text.encode())

    def _notice(self, number: int, _: FrameType | None) -> None:
        if self._is_asking and number == signal.SIGINT:
            self._write("\n")
            self._is_asking = False
        self._noticed.append(_EVENTS[number]())

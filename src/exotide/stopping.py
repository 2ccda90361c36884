"""Ctrl-C and TERM as an exception, so that whoever is stopped cleans up first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Someone asked the program to stop; an interrupt, so that nothing takes it for a fault."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by signal {signal_number}")


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first Ctrl-C or TERM into Stopped; later ones cannot disturb the cleaning up."""

    def stop(signal_number: int, _: FrameType | None) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(signal_number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

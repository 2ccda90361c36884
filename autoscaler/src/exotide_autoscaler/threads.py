"""Blocking calls that may hang, kept away from the event loop and from the program's end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from exotide_autoscaler.errors import CloudUnavailable

T = TypeVar("T")
_MOST_HANGING: Final = 4


class Caller:
    """
    Runs each call in a daemon thread of its own, which the interpreter does not wait for.

    A call that misses its deadline is abandoned, not stopped (Python cannot); so that they do not
    pile up, no further call starts while several of them hang.
    """

    def __init__(self) -> None:
        self._running = 0

    async def run(self, call: Callable[[], T], *, deadline_s: float) -> T:
        """
        Return what `call` returns or raise what it raises.

        Raises:
            CloudUnavailable: the deadline passed, or too many earlier calls still hang.
        """
        if self._running >= _MOST_HANGING:
            raise CloudUnavailable(f"{self._running} earlier calls still hang; starting no other")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._running += 1
        thread = threading.Thread(
            target=self._work, args=(loop, future, call), name="cloud-call", daemon=True
        )
        thread.start()
        try:
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError:
            raise CloudUnavailable(f"no answer within {deadline_s:g} s") from None

    def _work(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], call: Callable[[], T]
    ) -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as caught:  # noqa: BLE001 - raised again in the event loop
            error = caught
        try:
            loop.call_soon_threadsafe(self._finish, future, result, error)
        except RuntimeError:  # the program has ended meanwhile
            return

    def _finish(self, future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self._running -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it
        else:
            future.set_exception(error)

"""What faults keep as it is, operations and pools and members, until it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

Callback = Callable[[], object]


class Hold:
    """
    One thing that stays as it is until the hold is over; belongs to a running event loop.

    Args:
        about: Id of the thing.
        at_most_s: Then it is over by itself; None: never.
    """

    def __init__(self, about: str = "", *, at_most_s: float | None = None) -> None:
        self.about: Final = about
        self.is_over = False
        self.ran_out = False
        """Whether its time was up, and nobody let it go."""
        self._callbacks: list[Callback] = []
        loop = asyncio.get_running_loop()
        self._timer = None if at_most_s is None else loop.call_later(at_most_s, self._run_out)

    def then(self, callback: Callback) -> None:
        """Call callback() when it is over, at once if it is."""
        if self.is_over:
            callback()
        else:
            self._callbacks.append(callback)

    def let_go(self) -> None:
        """End it; fine if it is over."""
        if self.is_over:
            return
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for callback in self._callbacks:
            callback()

    def abandon(self) -> None:
        """End it without telling anybody."""
        self._callbacks.clear()
        self.let_go()

    async def wait(self) -> None:
        """Return when it is over; who is cancelled meanwhile holds nothing any more."""
        over = asyncio.Event()
        self.then(over.set)
        try:
            await over.wait()
        finally:
            self.let_go()

    def _run_out(self) -> None:
        self.ran_out = not self.is_over
        self.let_go()


class Holds:
    """
    All holds of one cloud, by the fault that has them.

    Args:
        knows: Whether a fault is still on duty; one that is not holds nothing.
    """

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self._knows = knows
        self._held: dict[str, list[Hold]] = {}

    def begin(self, fault_id: str, about: str = "", *, at_most_s: float | None = None) -> Hold:
        """Hold something; it is over at once if the fault was removed in the meantime."""
        hold = Hold(about, at_most_s=at_most_s)
        if not self._knows(fault_id):
            hold.let_go()
            return hold
        mine = self._held.setdefault(fault_id, [])
        mine.append(hold)
        hold.then(lambda: mine.remove(hold))
        return hold

    def abandon(self) -> None:
        """Let everything be as it is, without going on: the cloud ends."""
        for held in self._held.values():
            for hold in held:
                hold.abandon()
        self._held.clear()

    def about(self, key: str) -> Hold | None:
        """Return a hold of the thing with this id."""
        found = (hold for held in self._held.values() for hold in held if hold.about == key)
        return next(found, None)

    def count(self, fault_id: str) -> int:
        """Return how much a fault holds."""
        return len(self._held.get(fault_id, ()))

    def release(self, fault_id: str) -> int:
        """Let go of what a fault holds; return how much that was."""
        held = list(self._held.get(fault_id, ()))
        for hold in held:
            hold.let_go()
        return len(held)

"""Faults of operations: the work behind an accepted change fails, or is never seen to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from exotide.cloud.api.errors import OperationFailed
from exotide.cloud.faults.engine import Faults, Strike
from exotide.cloud.faults.model import Facts, FailingOperation, StuckOperation

_log: Final = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]


class OperationFaults:
    """What the faults do to operations; knows who waits for a release."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._held: dict[str, set[asyncio.Event]] = {}
        faults.on_removal(self.release)

    def around(self, work: Work | None, facts: Facts) -> Work | None:
        """Return the work as the faults want it; the same if there is none."""
        stuck = self._faults.first(facts, StuckOperation)
        failing = self._faults.first(facts, FailingOperation)
        if stuck is None and failing is None:
            return work
        _log.info(
            "fault_strikes",
            fault=[strike.fault_id for strike in (stuck, failing) if strike is not None],
            operation=facts.operation,
        )
        return lambda: self._run(work, stuck, failing)

    def held(self, fault_id: str) -> int:
        """Return how many operations a fault holds."""
        return len(self._held.get(fault_id, ()))

    def release(self, fault_id: str) -> int:
        """Let the operations that a fault holds go on; return how many."""
        waiting = self._held.pop(fault_id, set())
        for event in waiting:
            event.set()
        return len(waiting)

    async def _run(
        self,
        work: Work | None,
        stuck: Strike[StuckOperation] | None,
        failing: Strike[FailingOperation] | None,
    ) -> None:
        if stuck is not None and not stuck.effect.carried_out:
            await self._hold(stuck)
        if work is not None:
            await work()
        if stuck is not None and stuck.effect.carried_out:
            await self._hold(stuck)
        if failing is not None:
            raise OperationFailed(failing.effect.reason, failing.effect.message)

    async def _hold(self, stuck: Strike[StuckOperation]) -> None:
        if not self._faults.knows(stuck.fault_id):
            return  # it was removed while the work was under way
        released = asyncio.Event()
        self._held.setdefault(stuck.fault_id, set()).add(released)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(released.wait(), stuck.effect.release_after_s)
        finally:
            self._held.get(stuck.fault_id, set()).discard(released)

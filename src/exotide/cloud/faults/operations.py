"""Faults of operations: their work fails, is never seen to end, or goes on after they ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from exotide.cloud.api.errors import OperationFailed
from exotide.cloud.api.world import World
from exotide.cloud.faults.engine import Strike
from exotide.cloud.faults.model import EarlySuccess, Facts, FailingOperation, StuckOperation
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Struck:
    """What happens to one operation."""

    stuck: Strike[StuckOperation] | None
    failing: Strike[FailingOperation] | None
    early: Strike[EarlySuccess] | None


def around(world: World, work: Work | None, facts: Facts) -> Work | None:
    """Return the work as the faults want it; the same if there is none."""
    first = world.faults.first
    struck = _Struck(
        stuck=first(facts, StuckOperation),
        failing=first(facts, FailingOperation),
        early=None if work is None else first(facts, EarlySuccess),
    )
    strikes = [each for each in (struck.stuck, struck.failing, struck.early) if each is not None]
    if not strikes:
        return work
    ids = [each.fault_id for each in strikes]
    _log.info("fault_strikes", fault=ids, operation=facts.operation)
    return lambda: _run(world, work, struck)


async def _run(world: World, work: Work | None, struck: _Struck) -> None:
    stuck = struck.stuck
    if stuck is not None and not stuck.effect.carried_out:
        await _hold(world, stuck)
    if work is not None and struck.early is not None:
        world.background.spawn(_quietly(work))
    elif work is not None:
        await work()
    if stuck is not None and stuck.effect.carried_out:
        await _hold(world, stuck)
    if struck.failing is not None:
        raise OperationFailed(struck.failing.effect.reason, struck.failing.effect.message)


async def _hold(world: World, stuck: Strike[StuckOperation]) -> None:
    at_most_s = stuck.effect.release_after_s
    await world.faults.holds.begin(stuck.fault_id, at_most_s=at_most_s).wait()


async def _quietly(work: Work) -> None:
    """Nobody hears of it any more: its operation has said success."""
    try:
        await work()
    except (CloudFault, OperationFailed) as error:
        _log.warning("change_failed_after_its_success", error=str(error))

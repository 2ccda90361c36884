"""
Changes of pools that fall back, because a fault on demand says so.

The pool has its new size, and some time later what it had before. If the fault is removed or let go
before that, the change stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

import structlog

from exotide.cloud.api.instance_pools.healing import detach, fill
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import destroy
from exotide.cloud.api.load_balancers.following import follow
from exotide.cloud.api.states import InstanceState, PoolState
from exotide.cloud.api.world import World
from exotide.cloud.faults.engine import Strike
from exotide.cloud.faults.holds import Hold
from exotide.cloud.faults.model import FallBack
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)


def after_growth(
    world: World, pool: Pool, strike: Strike[FallBack], *, came: Collection[str], gain: int
) -> None:
    """Let the members with these ids leave again, and the size be lower by the gain."""
    hold = _begin(world, strike)

    async def fall_back() -> None:
        if not _falls(world, pool, hold):
            return
        pool.size = max(0, pool.size - gain)
        stay = [key for key in pool.members if key not in came][: pool.size]
        _log.info("pool_falls_back", pool=pool.id, size=pool.size)
        leaving = detach(world, pool, [key for key in pool.members if key not in stay])
        await asyncio.gather(*(_destroy(world, instance) for instance in leaving))

    hold.then(lambda: world.background.spawn(fall_back()))


def after_shrinking(
    world: World,
    pool: Pool,
    strike: Strike[FallBack],
    *,
    away: Sequence[Instance],
    order: Sequence[str],
    loss: int,
) -> None:
    """
    Let members come back, or new ones in their place, and the size be higher by the loss.

    Args:
        away: Former members whose servers run on; they are destroyed if they do not come back.
        order: Ids of the members before the change.
    """
    hold = _begin(world, strike)
    held = [(instance, _hold_away(world, instance, strike.fault_id)) for instance in away]

    async def fall_back() -> None:
        if _falls(world, pool, hold):
            pool.size += loss
            _log.info("pool_falls_back", pool=pool.id, size=pool.size)
            _bring_back(pool, [instance for instance, each in held if not each.is_over], order)
            fill(world, pool)
            await follow(world, pool.id)
        for _, each in held:
            each.let_go()

    hold.then(lambda: world.background.spawn(fall_back()))


def _begin(world: World, strike: Strike[FallBack]) -> Hold:
    delay_s = strike.effect.delay_s.draw(strike.chance)
    return world.faults.holds.begin(strike.fault_id, at_most_s=delay_s)


def _falls(world: World, pool: Pool, hold: Hold) -> bool:
    is_there = world.pools.get(pool.id) is pool and pool.state is not PoolState.DESTROYING
    return hold.ran_out and is_there


def _hold_away(world: World, instance: Instance, fault_id: str) -> Hold:
    """Keep a former member from being destroyed; whoever lets go of it destroys it."""
    hold = world.faults.holds.begin(fault_id, instance.id)

    async def finish() -> None:
        if instance.state is InstanceState.DESTROYING:
            await _destroy(world, instance)

    hold.then(lambda: world.background.spawn(finish()))
    return hold


def _bring_back(pool: Pool, instances: Sequence[Instance], order: Sequence[str]) -> None:
    rank = {key: place for place, key in enumerate(order)}
    for instance in instances:
        instance.state = InstanceState.RUNNING  # as if it had never left: no step of its life
        pool.members.append(instance.id)
    pool.members.sort(key=lambda key: rank.get(key, len(rank)))


async def _destroy(world: World, instance: Instance) -> None:
    with suppress(CloudFault):
        await destroy(world, instance)

"""
Changes of pools that fall back, because a fault on demand says so.

The pool has its new size, and some time later what it had before, as far as changes that were
accepted meanwhile allow: the size never passes the old one. If the fault is removed or let go
before that, the change stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A former member that may come back: its server runs on until the hold is over."""

    instance: Instance
    hold: Hold

    @classmethod
    def begin(cls, world: World, instance: Instance, strike: Strike[FallBack]) -> Away:
        """Keep a member that is about to leave; its death ends the hold, too."""
        return cls(instance=instance, hold=world.faults.holds.begin(strike.fault_id, instance.id))


def after_growth(
    world: World, pool: Pool, strike: Strike[FallBack], *, came: Collection[str], gain: int
) -> None:
    """Let the size be lower by the gain, and members with these ids leave first."""
    hold, old = _begin(world, strike), pool.size - gain

    async def fall_back() -> None:
        if not _falls(world, pool, hold) or pool.size <= old:
            return
        pool.size = max(old, pool.size - gain)
        stay = sorted(pool.members, key=lambda key: key in came)[: pool.size]
        _log.info("pool_falls_back", pool=pool.id, size=pool.size)
        leaving = detach(world, pool, [key for key in pool.members if key not in stay])
        await asyncio.gather(*(_destroy(world, instance) for instance in leaving))

    hold.then(lambda: world.background.spawn(fall_back()))


def after_shrinking(
    world: World,
    pool: Pool,
    strike: Strike[FallBack],
    *,
    away: Sequence[Away],
    order: Sequence[str],
    loss: int,
) -> None:
    """
    Let the size be higher by the loss, and members come back, or new ones in their place.

    Args:
        away: Those who come back; they are destroyed if they do not.
        order: Ids of the members before the change.
    """
    hold, old = _begin(world, strike), pool.size + loss
    for each in away:
        _destroy_after(world, each)

    async def fall_back() -> None:
        if _falls(world, pool, hold) and pool.size < old:
            pool.size = min(old, pool.size + loss)
            _log.info("pool_falls_back", pool=pool.id, size=pool.size)
            alive = [each.instance for each in away if not each.hold.is_over]
            _bring_back(pool, alive[: max(0, pool.missing)], order)
            fill(world, pool)
            await follow(world, pool.id)
        for each in away:
            each.hold.let_go()

    hold.then(lambda: world.background.spawn(fall_back()))


def _begin(world: World, strike: Strike[FallBack]) -> Hold:
    delay_s = strike.effect.delay_s.draw(strike.chance)
    return world.faults.holds.begin(strike.fault_id, at_most_s=delay_s)


def _falls(world: World, pool: Pool, hold: Hold) -> bool:
    is_there = world.pools.get(pool.id) is pool and pool.state is not PoolState.DESTROYING
    return hold.ran_out and is_there


def _destroy_after(world: World, away: Away) -> None:
    """Let a former member go with its hold, unless it is a member again."""

    async def finish() -> None:
        if away.instance.state is InstanceState.DESTROYING:
            await _destroy(world, away.instance)

    away.hold.then(lambda: world.background.spawn(finish()))


def _bring_back(pool: Pool, instances: Sequence[Instance], order: Sequence[str]) -> None:
    rank = {key: place for place, key in enumerate(order)}
    for instance in instances:
        instance.state = InstanceState.RUNNING  # as if it had never left: no step of its life
        pool.members.append(instance.id)
    pool.members.sort(key=lambda key: rank.get(key, len(rank)))


async def _destroy(world: World, instance: Instance) -> None:
    with suppress(CloudFault):
        await destroy(world, instance)

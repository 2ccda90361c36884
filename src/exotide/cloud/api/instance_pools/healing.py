"""Pools keep their size: a member that is lost is replaced in one step, one that lacks is made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from exotide.cloud.api.errors import Conflict, QuotaExceeded
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import boot, bury, make
from exotide.cloud.api.load_balancers.following import follow
from exotide.cloud.api.states import InstanceState, PoolState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

_ALIVE: Final = frozenset({InstanceState.STARTING, InstanceState.RUNNING})


def notice_death(world: World, instance_id: str, reason: str) -> None:
    """A server died unasked: a pool replaces it, a single instance is stopped from now on."""
    instance = world.instances.get(instance_id)
    if instance is None or instance.state not in _ALIVE:
        _do_not_wait_for(world, instance_id)
        return
    _log.warning("server_died", instance=instance_id, name=instance.name, reason=reason)
    pool = pool_of(world, instance)
    if pool is None:
        instance.become(InstanceState.STOPPED)
        world.background.spawn(_clear_away(world, instance))
        return
    instance.become(InstanceState.ERROR)
    heal(world, pool, instance)


def pool_of(world: World, instance: Instance) -> Pool | None:
    """Return the pool that an instance is a member of at this moment."""
    pool = world.pools.get(instance.pool_id or "")
    return pool if pool is not None and instance.id in pool.members else None


def add_member(world: World, pool: Pool) -> Instance:
    """
    Make a new member after the pool's present plan; it is not booted yet.

    Raises:
        Conflict: No address is left.
        QuotaExceeded: An anti-affinity group of the plan is full.
    """
    member = make(
        world,
        zone=pool.zone,
        name=f"{pool.instance_prefix}-{pool.id[:5]}-{world.suffix()}",
        plan=pool.plan,
        pool_id=pool.id,
    )
    pool.members.append(member.id)
    return member


def detach(world: World, pool: Pool, victims: Sequence[str]) -> list[Instance]:
    """Take members out of their pool, on their way to being destroyed."""
    leaving = [world.instances[victim] for victim in victims]
    for instance in leaving:
        instance.become(InstanceState.DESTROYING)
    gone = set(victims)
    pool.members = [member for member in pool.members if member not in gone]
    return leaving


def replace_member(world: World, pool: Pool, lost: Instance) -> None:
    """
    Put a new member in the place of a lost one, and see to it until the new one runs.

    Raises:
        Conflict: No address is left; the lost one is still a member.
        QuotaExceeded: Likewise, an anti-affinity group of the plan is full.
    """
    fresh = _swap(world, pool, lost)
    attend(world, pool, fresh)


def heal(world: World, pool: Pool, lost: Instance) -> None:
    """Replace a member in error; while there is no room, or a fault keeps it, it stays."""
    hold = world.faults.holds.about(lost.id)
    if hold is not None:
        hold.then(lambda: _heal_later(world, pool, lost))
        return
    try:
        replace_member(world, pool, lost)
    except (Conflict, QuotaExceeded):
        attend(world, pool, lost)


def fill(world: World, pool: Pool) -> None:
    """
    Make the members that a running pool lacks, as soon as there is room for them.

    Whatever makes a pool run again, or lets go of it, calls this.
    """
    if _lacks(world, pool):
        world.background.spawn(_fill(world, pool))


def attend(world: World, pool: Pool, member: Instance) -> None:
    """See to a member that is starting and that nobody waits for, until it runs."""
    world.background.spawn(_see_to_it(world, pool, member))


def _swap(world: World, pool: Pool, lost: Instance) -> Instance:
    fresh = add_member(world, pool)
    pool.members.remove(lost.id)
    if lost.state is InstanceState.ERROR:
        del world.instances[lost.id]
        world.background.spawn(_leave(world, lost))
    _log.info("member_replaced", pool=pool.id, lost=lost.id, fresh=fresh.id)
    return fresh


def _heal_later(world: World, pool: Pool, lost: Instance) -> None:
    if _is_lost(pool, lost):
        heal(world, pool, lost)


def _lacks(world: World, pool: Pool) -> bool:
    is_known = world.pools.get(pool.id) is pool
    runs = pool.state is PoolState.RUNNING
    return is_known and runs and pool.missing > 0 and world.faults.holds.about(pool.id) is None


async def _fill(world: World, pool: Pool) -> None:
    for pause_s in world.pace.pauses():
        try:
            while _lacks(world, pool):
                world.require_quota("instance", 1)
                attend(world, pool, add_member(world, pool))
        except (Conflict, QuotaExceeded) as error:
            _log.warning("members_missing", pool=pool.id, count=pool.missing, reason=str(error))
        if not _lacks(world, pool):
            return
        await asyncio.sleep(pause_s)


async def _see_to_it(world: World, pool: Pool, member: Instance) -> None:
    """Boot the new member; if that fails, replace it in turn, with growing pauses."""
    for pause_s in world.pace.pauses():
        try:
            await boot(world, member)
        except CloudFault as error:
            _log.warning("replacement_failed", pool=pool.id, instance=member.id, error=str(error))
        if not _is_lost(pool, member):
            return
        if world.faults.holds.about(member.id) is not None:
            heal(world, pool, member)
            return
        await asyncio.sleep(pause_s)
        if not _is_lost(pool, member):
            return
        with suppress(Conflict, QuotaExceeded):
            member = _swap(world, pool, member)


def _is_lost(pool: Pool, member: Instance) -> bool:
    return member.state is InstanceState.ERROR and member.id in pool.members


def _do_not_wait_for(world: World, instance_id: str) -> None:
    """A former member that a fault would have brought back does not come."""
    hold = world.faults.holds.about(instance_id)
    if hold is not None:
        hold.let_go()


async def _leave(world: World, lost: Instance) -> None:
    await follow(world, lost.pool_id)
    await bury(world, lost)


async def _clear_away(world: World, instance: Instance) -> None:
    if instance.state is InstanceState.STOPPED:
        await world.servers.stop(instance.id, grace_s=0.0)

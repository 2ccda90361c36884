"""Pools keep their size: a member that is lost is replaced in one step."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from exotide.cloud.api.errors import Conflict, QuotaExceeded
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import boot, bury, make
from exotide.cloud.api.load_balancers.following import follow
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

_ALIVE: Final = frozenset({InstanceState.STARTING, InstanceState.RUNNING})


def notice_death(world: World, instance_id: str, reason: str) -> None:
    """A server died unasked: a pool replaces it, a single instance is stopped from now on."""
    instance = world.instances.get(instance_id)
    if instance is None or instance.state not in _ALIVE:
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
    """Replace a member in error; while there is no room it stays, and is tried again."""
    try:
        replace_member(world, pool, lost)
    except (Conflict, QuotaExceeded):
        attend(world, pool, lost)


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


async def _see_to_it(world: World, pool: Pool, member: Instance) -> None:
    """Boot the new member; if that fails, replace it in turn, with growing pauses."""
    for pause_s in world.pace.pauses():
        try:
            await boot(world, member)
        except CloudFault as error:
            _log.warning("replacement_failed", pool=pool.id, instance=member.id, error=str(error))
        if not _is_lost(pool, member):
            return
        await asyncio.sleep(pause_s)
        if not _is_lost(pool, member):
            return
        with suppress(Conflict, QuotaExceeded):
            member = _swap(world, pool, member)


def _is_lost(pool: Pool, member: Instance) -> bool:
    return member.state is InstanceState.ERROR and member.id in pool.members


async def _leave(world: World, lost: Instance) -> None:
    await follow(world, lost.pool_id)
    await bury(world, lost)


async def _clear_away(world: World, instance: Instance) -> None:
    if instance.state is InstanceState.STOPPED:
        await world.servers.stop(instance.id, grace_s=0.0)

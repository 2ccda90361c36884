"""
What may happen to an instance pool.

Every function accepts or refuses at once and answers the operation that carries it out. One change
at a time: a pool that is not running refuses the next one as busy. Healing is no change of the
pool: it goes on in every state but destroying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from exotide.cloud.api.errors import (
    ApiError,
    Busy,
    FailureReason,
    InUse,
    Invalid,
    OperationFailed,
)
from exotide.cloud.api.instance_pools.healing import add_member
from exotide.cloud.api.instance_pools.model import DEFAULT_PREFIX, Pool
from exotide.cloud.api.instances.model import Instance, Plan
from exotide.cloud.api.instances.power import boot, bury, destroy, require_unprotected
from exotide.cloud.api.states import InstanceState, PoolState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

Answer = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    """A pool as it was asked for."""

    name: str
    size: int
    plan: Plan
    description: str = ""
    instance_prefix: str = DEFAULT_PREFIX
    min_available: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What an update sets; the plan counts for future members only."""

    name: str
    plan: Plan
    description: str
    instance_prefix: str
    min_available: int


def create(world: World, zone: str, wanted: NewPool) -> Answer:
    """Make a pool with all its members; if one of them does not boot, nothing is left."""
    world.require_quota("instance", wanted.size)
    pool = Pool(
        id=world.new_id(),
        zone=zone,
        name=wanted.name,
        plan=wanted.plan,
        description=wanted.description,
        instance_prefix=wanted.instance_prefix,
        min_available=wanted.min_available,
    )
    members = _add_members(world, pool, wanted.size)
    world.pools[pool.id] = pool
    _log.info("pool_accepted", pool=pool.id, name=pool.name, size=wanted.size)
    return _start(world, pool, lambda: _create(world, pool, members))


def scale(world: World, pool: Pool, size: int) -> Answer:
    """Bring the pool to an absolute size; the oldest members go first."""
    _require_running(pool)
    _require_available(pool, size)
    _log.info("pool_scaled", pool=pool.id, size=pool.size, wanted=size)
    if size > pool.size:
        return _grow(world, pool, size - pool.size)
    if size < pool.size:
        return _shrink(world, pool, _removable(world, pool.members[: pool.size - size]))
    return _start(world, pool, None)


def evict(world: World, pool: Pool, instance_ids: Sequence[str]) -> Answer:
    """Remove exactly these members; the size shrinks with them."""
    _require_running(pool)
    victims = list(dict.fromkeys(instance_ids))
    for victim in victims:
        if victim not in pool.members:
            raise Invalid.field("instances", f"members of instance pool {pool.id}", victim)
    _require_available(pool, pool.size - len(victims))
    _log.info("members_evicted", pool=pool.id, instances=victims)
    return _shrink(world, pool, _removable(world, victims))


def update(world: World, pool: Pool, changes: Changes) -> Answer:
    """Change what the pool is and what its future members will be."""
    _require_running(pool)
    pool.become(PoolState.UPDATING)
    pool.name, pool.description = changes.name, changes.description
    pool.instance_prefix, pool.min_available = changes.instance_prefix, changes.min_available
    pool.plan = changes.plan
    return _start(world, pool, lambda: _run_again(pool))


def delete(world: World, pool: Pool) -> Answer:
    """Remove the pool with all its members."""
    _require_running(pool)
    users = world.services_of(pool.id)
    if users:
        balancer, service = users[0]
        raise InUse(
            f"instance pool {pool.id} is in use by service {service.name} of load balancer "
            f"{balancer.name}; delete that service first"
        )
    victims = _removable(world, pool.members)
    pool.become(PoolState.DESTROYING)
    members = _detach(world, pool, victims)
    _log.info("pool_deleted", pool=pool.id, members=len(members))
    return _start(world, pool, lambda: _delete(world, pool, members))


def unfinished(
    world: World, pool: Pool, *, starting: Sequence[Instance], leaving: Sequence[Instance]
) -> Callable[[], Awaitable[None]] | None:
    """
    Return what is left of the change that a pool was in when its cloud ended.

    Args:
        starting: Its members that have still to boot.
        leaving: Its former members that have still to go.
    """
    match pool.state:
        case PoolState.RUNNING:
            return None
        case PoolState.CREATING:
            return lambda: _create(world, pool, starting)
        case PoolState.SCALING_UP:
            return lambda: _scale_up(world, pool, starting)
        case PoolState.SCALING_DOWN:
            return lambda: _scale_down(world, pool, leaving)
        case PoolState.DESTROYING:
            return lambda: _delete(world, pool, leaving)
        case PoolState.UPDATING:
            return lambda: _run_again(pool)


def _require_running(pool: Pool) -> None:
    if pool.state is not PoolState.RUNNING:
        raise Busy.of("instance pool", pool.id, pool.state)


def _require_available(pool: Pool, size: int) -> None:
    if size < pool.min_available and size < pool.size:
        raise Invalid.field("size", f"at least min-available ({pool.min_available})", size)


def _removable(world: World, victims: Sequence[str]) -> Sequence[str]:
    """Let a removal pass only if none of those who would go is protected."""
    for victim in victims:
        require_unprotected(world.instances[victim])
    return victims


def _start(world: World, pool: Pool, work: Callable[[], Awaitable[None]] | None) -> Answer:
    return world.operations.start(zone=pool.zone, kind="instance-pool", key=pool.id, work=work)


def _grow(world: World, pool: Pool, count: int) -> Answer:
    world.require_quota("instance", count)
    members = _add_members(world, pool, count)
    pool.become(PoolState.SCALING_UP)
    return _start(world, pool, lambda: _scale_up(world, pool, members))


def _shrink(world: World, pool: Pool, victims: Sequence[str]) -> Answer:
    pool.become(PoolState.SCALING_DOWN)
    leaving = _detach(world, pool, victims)
    return _start(world, pool, lambda: _scale_down(world, pool, leaving))


def _add_members(world: World, pool: Pool, count: int) -> list[Instance]:
    """All or none."""
    known = set(pool.members)
    try:
        return [add_member(world, pool) for _ in range(count)]
    except ApiError:
        for member in set(pool.members) - known:
            pool.members.remove(member)
            world.servers.release_ip(world.instances.pop(member).ip)
        raise


def _detach(world: World, pool: Pool, victims: Sequence[str]) -> list[Instance]:
    leaving = [world.instances[victim] for victim in victims]
    for instance in leaving:
        instance.become(InstanceState.DESTROYING)
    gone = set(victims)
    pool.members = [member for member in pool.members if member not in gone]
    return leaving


async def _create(world: World, pool: Pool, members: Sequence[Instance]) -> None:
    failures = await _gather(boot(world, member) for member in members)
    if not failures:
        pool.become(PoolState.RUNNING)
        return
    pool.become(PoolState.DESTROYING)
    await _gather(destroy(world, member) for member in _detach(world, pool, pool.members))
    del world.pools[pool.id]
    raise OperationFailed(FailureReason.FAULT, str(failures[0]))


async def _scale_up(world: World, pool: Pool, members: Sequence[Instance]) -> None:
    failures = await _gather(boot(world, member) for member in members)
    broken = [
        member.id
        for member in members
        if member.state is InstanceState.ERROR and member.id in pool.members
    ]
    await _gather(bury(world, member) for member in _detach(world, pool, broken))
    pool.become(PoolState.RUNNING)
    if failures:
        partly = len(failures) < len(members)
        reason = FailureReason.PARTIAL if partly else FailureReason.FAULT
        raise OperationFailed(reason, str(failures[0]))


async def _scale_down(world: World, pool: Pool, leaving: Sequence[Instance]) -> None:
    failures = await _gather(destroy(world, instance) for instance in leaving)
    pool.become(PoolState.RUNNING)
    _raise_first(failures)


async def _delete(world: World, pool: Pool, members: Sequence[Instance]) -> None:
    failures = await _gather(destroy(world, member) for member in members)
    del world.pools[pool.id]
    _raise_first(failures)


async def _run_again(pool: Pool) -> None:
    pool.become(PoolState.RUNNING)


async def _gather(work: Iterable[Awaitable[None]]) -> list[CloudFault]:
    """Do all of it, whatever fails; return the faults."""
    outcomes = await asyncio.gather(*map(_fault_of, work))
    return [outcome for outcome in outcomes if outcome is not None]


async def _fault_of(work: Awaitable[None]) -> CloudFault | None:
    try:
        await work
    except CloudFault as fault:
        return fault
    return None


def _raise_first(failures: Sequence[CloudFault]) -> None:
    if failures:
        raise OperationFailed(FailureReason.FAULT, str(failures[0]))

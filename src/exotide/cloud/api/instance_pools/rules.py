"""
What may happen to an instance pool.

Every function accepts or refuses at once and answers the operation that carries it out. One change
at a time: a pool that is not running refuses the next one as busy. Healing is no change of the
pool: it goes on in every state but destroying.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from exotide.cloud.api.errors import ApiError, Busy, InUse, Invalid
from exotide.cloud.api.instance_pools import changes
from exotide.cloud.api.instance_pools.changes import Growth, Shrinking
from exotide.cloud.api.instance_pools.healing import add_member, detach
from exotide.cloud.api.instance_pools.model import DEFAULT_PREFIX, Pool
from exotide.cloud.api.instances.model import Instance, Plan
from exotide.cloud.api.instances.power import require_unprotected
from exotide.cloud.api.states import PoolState
from exotide.cloud.api.world import World
from exotide.cloud.faults.pools import course_of, require_removable

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
    growth = _growth(world, pool, wanted.size)
    world.pools[pool.id] = pool
    _log.info("pool_accepted", pool=pool.id, name=pool.name, size=wanted.size)
    return _start(world, pool, lambda: changes.create(world, pool, growth))


def scale(world: World, pool: Pool, size: int) -> Answer:
    """Bring the pool to an absolute size; the oldest members go first."""
    _require_running(world, pool)
    _require_available(pool, size)
    _log.info("pool_scaled", pool=pool.id, size=pool.size, wanted=size)
    present = len(pool.members)
    if size > present:
        world.require_quota("instance", size - present)
        growth = _growth(world, pool, size)
        pool.become(PoolState.SCALING_UP)
        return _start(world, pool, lambda: changes.scale_up(world, pool, growth))
    if size < present:
        victims = pool.members[: present - size]
        return _shrink(world, pool, size, _removable(world, pool, victims, "scale-instance-pool"))
    pool.size = size  # whoever has not come yet is not wanted any more
    return _start(world, pool, None)


def evict(world: World, pool: Pool, instance_ids: Sequence[str]) -> Answer:
    """Remove exactly these members; the size shrinks with them."""
    _require_running(world, pool)
    victims = list(dict.fromkeys(instance_ids))
    for victim in victims:
        if victim not in pool.members:
            raise Invalid.field("instances", f"members of instance pool {pool.id}", victim)
    size = pool.size - len(victims)
    _require_available(pool, size)
    _log.info("members_evicted", pool=pool.id, instances=victims)
    removable = _removable(world, pool, victims, "evict-instance-pool-members")
    return _shrink(world, pool, size, removable)


def update(world: World, pool: Pool, wanted: Changes) -> Answer:
    """Change what the pool is and what its future members will be."""
    _require_running(world, pool)
    pool.become(PoolState.UPDATING)
    pool.name, pool.description = wanted.name, wanted.description
    pool.instance_prefix, pool.min_available = wanted.instance_prefix, wanted.min_available
    pool.plan = wanted.plan
    course = course_of(world, pool)
    return _start(world, pool, lambda: changes.update(world, pool, course))


def delete(world: World, pool: Pool) -> Answer:
    """Remove the pool with all its members."""
    _require_running(world, pool)
    users = world.services_of(pool.id)
    if users:
        balancer, service = users[0]
        raise InUse(
            f"instance pool {pool.id} is in use by service {service.name} of load balancer "
            f"{balancer.name}; delete that service first"
        )
    victims = _removable(world, pool, pool.members, "delete-instance-pool")
    pool.become(PoolState.DESTROYING)
    members = detach(world, pool, victims)
    for instance in world.instances.values():
        hold = world.faults.holds.about(instance.id) if instance.pool_id == pool.id else None
        if hold is not None:
            hold.let_go()
    _log.info("pool_deleted", pool=pool.id, members=len(members))
    return _start(world, pool, lambda: changes.delete(world, pool, members))


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
            return lambda: changes.create(world, pool, Growth(fresh=list(starting)))
        case PoolState.SCALING_UP:
            return lambda: changes.scale_up(world, pool, Growth(fresh=list(starting)))
        case PoolState.SCALING_DOWN:
            return lambda: changes.scale_down(world, pool, Shrinking(leaving=list(leaving)))
        case PoolState.DESTROYING:
            return lambda: changes.delete(world, pool, leaving)
        case PoolState.UPDATING:
            return lambda: changes.update(world, pool)


def _require_running(world: World, pool: Pool) -> None:
    if pool.state is not PoolState.RUNNING:
        word = world.faults.shown_states.get(pool.id, pool.state)
        raise Busy.of("instance pool", pool.id, word)


def _require_available(pool: Pool, size: int) -> None:
    if size < pool.min_available and size < pool.size:
        raise Invalid.field("size", f"at least min-available ({pool.min_available})", size)


def _removable(world: World, pool: Pool, victims: Sequence[str], operation: str) -> Sequence[str]:
    """Let a removal pass only if none of those who would go is protected."""
    for victim in victims:
        require_unprotected(world.instances[victim], operation)
        require_removable(world, pool, world.instances[victim])
    return victims


def _start(world: World, pool: Pool, work: Callable[[], Awaitable[None]] | None) -> Answer:
    return world.operations.start(zone=pool.zone, kind="instance-pool", key=pool.id, work=work)


def _growth(world: World, pool: Pool, size: int) -> Growth:
    """Give a pool a higher size, and make the members that are there from the beginning."""
    wanted = size - len(pool.members)
    course = course_of(world, pool, new=wanted)
    comes = course.comes(wanted)
    later = 0 if course.staggered is None else comes
    fresh = _add_members(world, pool, comes - later)
    gain, pool.size = size - pool.size, size
    pool.is_size_late = course.shows_size_late
    return Growth(fresh=fresh, later=later, never=wanted - comes, gain=gain, course=course)


def _shrink(world: World, pool: Pool, size: int, victims: Sequence[str]) -> Answer:
    course = course_of(world, pool, victims)
    pool.become(PoolState.SCALING_DOWN)
    loss, pool.size = pool.size - size, size
    pool.is_size_late = course.shows_size_late
    shrinking = Shrinking(loss=loss, course=course)
    if course.staggered is None:
        shrinking.take_out(world, pool, victims)
    else:
        shrinking.later = victims
    return _start(world, pool, lambda: changes.scale_down(world, pool, shrinking))


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

"""
How accepted changes of instance pools are carried out.

Each brings its pool to its size and lets it run again; a course that faults on demand have set may
end otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field

from exotide.cloud.api.errors import Conflict, FailureReason, OperationFailed, QuotaExceeded
from exotide.cloud.api.instance_pools.falling_back import (
    Away,
    after_growth,
    after_shrinking,
)
from exotide.cloud.api.instance_pools.healing import add_member, detach, fill, heal
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import boot, bury, destroy
from exotide.cloud.api.load_balancers.following import leave
from exotide.cloud.api.states import InstanceState, PoolState
from exotide.cloud.api.world import World
from exotide.cloud.faults.engine import Strike
from exotide.cloud.faults.model import Staggered, StuckState
from exotide.cloud.faults.pools import SMOOTH, Course
from exotide.cloud.ports import CloudFault


@dataclass(slots=True, kw_only=True)
class Growth:
    """Members that are added to a pool."""

    fresh: list[Instance] = field(default_factory=list)
    """Those that are there, and have still to boot."""
    later: int = 0
    """How many come after these, one by one."""
    never: int = 0
    """How many were asked for and do not come."""
    gain: int = 0
    """By how much the size is higher than before."""
    course: Course = SMOOTH

    def lower(self, pool: Pool, count: int) -> None:
        """Take so many that do not come off the pool's size."""
        pool.size -= count
        self.gain -= count


@dataclass(slots=True, kw_only=True)
class Shrinking:
    """Members that leave a pool."""

    leaving: list[Instance] = field(default_factory=list)
    """Those that are no members any more."""
    away: list[Away] = field(default_factory=list)
    """Those of them that stop serving and run on, since they may come back."""
    later: Sequence[str] = ()
    """Ids of those that leave after these, one by one."""
    loss: int = 0
    """By how much the size is lower than before."""
    course: Course = SMOOTH

    def take_out(self, world: World, pool: Pool, victims: Sequence[str]) -> list[Instance]:
        """Take members out of their pool; return them."""
        servers = [world.instances[victim] for victim in victims]
        if self.course.fall_back is not None and not self.course.fall_back.effect.fresh:
            running = [each for each in servers if each.state is InstanceState.RUNNING]
            self.away += [Away.begin(world, each, self.course.fall_back) for each in running]
        left = detach(world, pool, victims)
        self.leaving += left
        return left


async def create(world: World, pool: Pool, growth: Growth) -> None:
    """
    Bring up a new pool; if one of its members does not boot, nothing is left.

    Raises:
        OperationFailed: A member did not boot, or a fault on demand says so.
    """
    failures = await _arrive(world, pool, growth)
    if not failures:
        _end_growth(world, pool, growth)
        return
    pool.become(PoolState.DESTROYING)
    await _gather(destroy(world, member) for member in detach(world, pool, pool.members))
    del world.pools[pool.id]
    raise OperationFailed(FailureReason.FAULT, str(failures[0]))


async def scale_up(world: World, pool: Pool, growth: Growth) -> None:
    """
    Bring up new members; those that do not boot are taken out again.

    Raises:
        OperationFailed: Not all of them came.
    """
    failures = await _arrive(world, pool, growth)
    broken = [member.id for member in growth.fresh if _is_broken(world, pool, member)]
    growth.lower(pool, len(broken))
    await _gather(bury(world, member) for member in detach(world, pool, broken))
    _end_growth(world, pool, growth)
    if failures:
        partly = len(failures) < len(growth.fresh)
        reason = FailureReason.PARTIAL if partly else FailureReason.FAULT
        raise OperationFailed(reason, str(failures[0]))


async def scale_down(world: World, pool: Pool, shrinking: Shrinking) -> None:
    """
    Let members go.

    Raises:
        OperationFailed: A server could not be stopped cleanly.
    """
    course, order = shrinking.course, [*(each.id for each in shrinking.leaving), *pool.members]
    failures = await _leave_all(world, shrinking, shrinking.leaving)
    for victim in shrinking.later:
        await _pause(world, course.staggered)
        if victim in pool.members:
            left = shrinking.take_out(world, pool, [victim])
            failures += await _leave_all(world, shrinking, left)
    pool.is_size_late = False
    surplus = detach(world, pool, pool.members[: max(0, -pool.missing)])
    failures += await _gather(destroy(world, instance) for instance in surplus)
    run_again(world, pool, course.stuck)
    if course.fall_back is not None:
        away, loss = shrinking.away, shrinking.loss
        after_shrinking(world, pool, course.fall_back, away=away, order=order, loss=loss)
    _raise_first(failures)


async def _leave_all(
    world: World, shrinking: Shrinking, instances: Sequence[Instance]
) -> list[CloudFault]:
    """Destroy former members; those that may come back stop serving, and run on."""
    away = {each.instance.id for each in shrinking.away}
    return await _gather(
        leave(world, each) if each.id in away else destroy(world, each) for each in instances
    )


async def delete(world: World, pool: Pool, members: Sequence[Instance]) -> None:
    """
    Remove the members of a pool, then the pool.

    Raises:
        OperationFailed: A server could not be stopped cleanly.
    """
    failures = await _gather(destroy(world, member) for member in members)
    del world.pools[pool.id]
    _raise_first(failures)


async def update(world: World, pool: Pool, course: Course = SMOOTH) -> None:
    """Let a pool run that was changed when the update was accepted."""
    run_again(world, pool, course.stuck)


def run_again(world: World, pool: Pool, stuck: Strike[StuckState] | None) -> None:
    """End the change that a pool is in, unless a fault on demand keeps it in its state."""
    if stuck is None or stuck.effect.accepts:
        _run(world, pool)
    if stuck is None:
        return
    if stuck.effect.state is not None:
        world.faults.shown_states[pool.id] = stuck.effect.state
    at_most_s = stuck.effect.release_after_s
    hold = world.faults.holds.begin(stuck.fault_id, at_most_s=at_most_s)
    hold.then(lambda: world.background.spawn(_let_run(world, pool, stuck.effect)))


async def _let_run(world: World, pool: Pool, effect: StuckState) -> None:
    if effect.state is not None and world.faults.shown_states.get(pool.id) == effect.state:
        del world.faults.shown_states[pool.id]
    if not effect.accepts:
        _run(world, pool)


def _run(world: World, pool: Pool) -> None:
    pool.become(PoolState.RUNNING)
    fill(world, pool)


async def _arrive(world: World, pool: Pool, growth: Growth) -> list[Exception]:
    """Boot those that are there, then make and boot the others; return what went wrong."""
    failures: list[Exception] = [*await _boot_all(world, pool, growth.fresh)]
    while growth.later > 0:
        await _pause(world, growth.course.staggered)
        try:
            world.require_quota("instance", 1)
            member = add_member(world, pool)
        except (Conflict, QuotaExceeded) as error:
            growth.lower(pool, growth.later)
            return [*failures, error]
        growth.later -= 1
        growth.fresh.append(member)
        failures += await _boot_all(world, pool, [member])
    return failures


async def _boot_all(world: World, pool: Pool, members: Sequence[Instance]) -> list[CloudFault]:
    """Boot members; one that a fault on demand keeps in error counts as booted."""
    faults = await asyncio.gather(*(_fault_of(boot(world, member)) for member in members))
    failures = []
    for member, fault in zip(members, faults, strict=True):
        if fault is not None and world.faults.holds.about(member.id) is None:
            failures.append(fault)
        elif fault is not None:
            heal(world, pool, member)
    return failures


def _end_growth(world: World, pool: Pool, growth: Growth) -> None:
    """
    Let the pool run again, with the size that its course says.

    Raises:
        OperationFailed: The course says that some members never come.
    """
    pool.is_size_late = False
    shortfall, never = growth.course.shortfall, growth.never
    if shortfall is not None and never > 0:
        if shortfall.effect.gives_up:
            growth.lower(pool, never)
        else:
            world.faults.holds.begin(shortfall.fault_id, pool.id).then(lambda: fill(world, pool))
    run_again(world, pool, growth.course.stuck)
    if growth.course.fall_back is not None:
        came = {member.id for member in growth.fresh}
        after_growth(world, pool, growth.course.fall_back, came=came, gain=growth.gain)
    if shortfall is not None and never > 0 and shortfall.effect.message is not None:
        raise OperationFailed(FailureReason.PARTIAL, shortfall.effect.message)


def _is_broken(world: World, pool: Pool, member: Instance) -> bool:
    is_lost = member.state is InstanceState.ERROR and member.id in pool.members
    return is_lost and world.faults.holds.about(member.id) is None


async def _pause(world: World, staggered: Strike[Staggered] | None) -> None:
    """Wait as long as a fault says, or until it is removed."""
    if staggered is not None:
        seconds = staggered.effect.delay_s.draw(staggered.chance)
        await world.faults.holds.begin(staggered.fault_id, at_most_s=seconds).wait()


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

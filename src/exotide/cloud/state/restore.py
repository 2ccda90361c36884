"""
From what was stored to a cloud that lives: adopt what runs, heal what died, finish what was begun.

A server that is adopted is left alone. A member that died meanwhile is replaced, a single instance
that died is stopped. Changes that were under way go on; their operations end with them. Servers
and balancers that the stored world does not know are half-made, and removed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from exotide.cloud.api.instance_pools.healing import attend, fill, heal, notice_death, pool_of
from exotide.cloud.api.instance_pools.rules import unfinished as unfinished_of_pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import boot, destroy, power_off, spec_of
from exotide.cloud.api.load_balancers.following import follow_one
from exotide.cloud.api.load_balancers.model import LoadBalancer
from exotide.cloud.api.load_balancers.rules import unfinished as unfinished_of_balancer
from exotide.cloud.api.operations import Operation, OperationState, Reference
from exotide.cloud.api.states import BalancerState, InstanceState, PoolState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]
_MAY_RUN: Final = frozenset(InstanceState) - {InstanceState.STOPPED, InstanceState.ERROR}
_BEING_CHANGED: Final = frozenset({PoolState.CREATING, PoolState.SCALING_UP})


async def restore(world: World) -> None:
    """
    Bring a world that was just read from its folder to life.

    Raises:
        CloudFault: The driver cannot give its addresses back; nothing was changed.
    """
    for pool in world.pools.values():
        pool.is_size_late = False  # faults do not survive a restart
    for instance in world.instances.values():
        world.servers.claim_ip(instance.ip)
    for balancer in world.load_balancers.values():
        world.servers.claim_ip(balancer.ip)
    alive = await _adopt_servers(world)
    kept = [each for each in world.load_balancers.values() if _is_made(each)]
    await world.servers.prune(alive | {balancer.id for balancer in kept})
    dead = _settle_instances(world, alive)  # before balancers are told who runs
    for balancer in kept:
        await _adopt_balancer(world, balancer)
    works = _unfinished(world)
    unattended = _unattended(world)
    for instance in dead:
        notice_death(world, instance.id, "it did not run any more when the cloud came back")
    for member in unattended:
        _attend(world, member)
    _resume(world, works)
    for pool in world.pools.values():
        fill(world, pool)
    _log.info("state_restored", adopted=len(alive), lost=len(dead), unfinished=len(works))


async def _adopt_servers(world: World) -> set[str]:
    candidates = [each for each in world.instances.values() if each.state in _MAY_RUN]
    outcomes = await asyncio.gather(*(_adopt(world, each) for each in candidates))
    return {each.id for each, lives in zip(candidates, outcomes, strict=True) if lives}


async def _adopt(world: World, instance: Instance) -> bool:
    try:
        return await world.servers.adopt(spec_of(world, instance))
    except CloudFault as error:
        _log.warning("server_not_adopted", instance=instance.id, reason=str(error))
        return False


def _is_made(balancer: LoadBalancer) -> bool:
    return balancer.state is not BalancerState.CREATING


async def _adopt_balancer(world: World, balancer: LoadBalancer) -> None:
    """A service that was being made is made anew; a fault leaves the others served."""
    services = [service for service in balancer.services.values() if service.exists_below]
    specs = [service.spec(world.pace.speed) for service in services]
    try:
        await world.balancers.adopt(balancer.id, balancer.ip, specs)
        for service in services:
            service.is_behind = False  # whoever saw to that is gone
            await follow_one(world, balancer, service)
    except CloudFault as error:
        _log.error("balancer_not_adopted", nlb=balancer.id, reason=str(error))


def _settle_instances(world: World, alive: set[str]) -> list[Instance]:
    """Say of each instance what it is now; return those that ran and are dead."""
    dead = []
    for instance in world.instances.values():
        if instance.state is InstanceState.STARTING and instance.id in alive:
            instance.become(InstanceState.RUNNING)
        elif instance.state is InstanceState.RUNNING and instance.id not in alive:
            dead.append(instance)
    return dead


def _unfinished(world: World) -> dict[Reference, list[Work]]:
    """Collect the changes that were under way, by what their operations refer to."""
    works: dict[Reference, list[Work]] = defaultdict(list)
    pending = {
        operation.reference
        for operation in world.operations.known.values()
        if operation.state is OperationState.PENDING
    }
    for instance in world.instances.values():
        reference = Reference(kind="instance", id=instance.id)
        work = _unfinished_of_instance(world, instance, is_asked=reference in pending)
        if work is not None:
            works[reference].append(work)
    for pool in world.pools.values():
        reference = Reference(kind="instance-pool", id=pool.id)
        members = list(world.members(pool.id))
        starting = [each for each in members if each.state is InstanceState.STARTING]
        left = [
            each
            for each in world.instances.values()
            if each.pool_id == pool.id
            and each.state is InstanceState.DESTROYING
            and Reference(kind="instance", id=each.id) not in works
        ]
        change = unfinished_of_pool(world, pool, starting=starting, leaving=left)
        if change is not None:
            works[reference].append(change)
    for balancer in world.load_balancers.values():
        reference = Reference(kind="load-balancer", id=balancer.id)
        works[reference] += unfinished_of_balancer(world, balancer)
    return {reference: found for reference, found in works.items() if found}


def _unfinished_of_instance(world: World, instance: Instance, *, is_asked: bool) -> Work | None:
    """A member that starts or leaves with its pool's change is that change's business."""
    if instance.state is InstanceState.STOPPING:
        return lambda: power_off(world, instance)
    if instance.state is InstanceState.STARTING and pool_of(world, instance) is None:
        return lambda: boot(world, instance)
    pool = world.pools.get(instance.pool_id or "")
    leaves_with_pool = pool is not None and pool.state in {
        PoolState.SCALING_DOWN,
        PoolState.DESTROYING,
    }
    if instance.state is InstanceState.DESTROYING and (is_asked or not leaves_with_pool):
        return lambda: destroy(world, instance)
    return None


def _unattended(world: World) -> list[Instance]:
    """Members that were being replaced: no change of their pool waits for them."""
    return [
        member
        for pool in world.pools.values()
        for member in world.members(pool.id)
        if member.state is InstanceState.ERROR
        or (member.state is InstanceState.STARTING and pool.state not in _BEING_CHANGED)
    ]


def _attend(world: World, member: Instance) -> None:
    pool = pool_of(world, member)
    assert pool is not None
    (heal if member.state is InstanceState.ERROR else attend)(world, pool, member)


def _resume(world: World, works: dict[Reference, list[Work]]) -> None:
    """Go on with the changes, and end the operations that have nothing left to do."""
    operations: dict[Reference, list[Operation]] = defaultdict(list)
    for operation in world.operations.known.values():
        if operation.state is OperationState.PENDING:
            operations[operation.reference].append(operation)
    for reference, steps in works.items():
        waiting = operations.pop(reference, [])
        if waiting:
            world.operations.resume(waiting, _in_turn(steps))
        else:
            world.background.spawn(_quietly(reference, _in_turn(steps)))
    for left in operations.values():
        for operation in left:
            world.operations.settle_after_restart(operation)


def _in_turn(steps: Sequence[Work]) -> Work:
    async def work() -> None:
        for step in steps:
            await step()

    return work


async def _quietly(reference: Reference, work: Work) -> None:
    try:
        await work()
    except CloudFault as error:
        _log.warning("change_not_finished", kind=reference.kind, id=reference.id, error=str(error))

"""How load balancers follow the membership of pools."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.load_balancers.model import LoadBalancer, Service
from exotide.cloud.api.states import InstanceState, ServiceState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)
_DRAIN_WITHIN_S: Final = 5.0
"""An idle kept connection may be open for ever; a server that ends cleanly closes it itself."""


async def follow(world: World, pool_id: str | None) -> None:
    """Give every service of a pool its present members."""
    if pool_id is None:
        return
    for balancer, service in world.services_of(pool_id):
        await follow_one(world, balancer, service)


async def follow_one(world: World, balancer: LoadBalancer, service: Service) -> None:
    """Give a service its present members; after a fault of the driver, try until it takes them."""
    try:
        await set_members(world, balancer, service)
    except CloudFault as error:
        _log.warning("members_not_set", nlb=balancer.id, service=service.id, error=str(error))
        if not service.is_behind:
            service.is_behind = True
            world.background.spawn(_catch_up(world, balancer, service))


async def _catch_up(world: World, balancer: LoadBalancer, service: Service) -> None:
    for pause_s in world.pace.pauses():
        await asyncio.sleep(pause_s)
        try:
            await set_members(world, balancer, service)
        except CloudFault as error:
            _log.warning("members_not_set", nlb=balancer.id, service=service.id, error=str(error))
        else:
            break
    service.is_behind = False


async def leave(world: World, instance: Instance) -> None:
    """
    Take a member that stops out of its pool's services, and let what it has in hand finish.

    Balancers that lag do neither.
    """
    await follow(world, instance.pool_id)
    if world.balancers.lags:
        return
    for balancer, service in world.services_of(instance.pool_id) if instance.pool_id else ():
        try:
            await world.balancers.wait_drained(
                balancer.id, service.id, instance.ip, within_s=_DRAIN_WITHIN_S
            )
        except CloudFault as error:
            _log.warning("member_not_drained", nlb=balancer.id, error=str(error))


async def set_members(world: World, balancer: LoadBalancer, service: Service) -> None:
    """Tell the driver who serves now: the members of the pool that run."""
    async with service.turn:
        if not service.exists_below or service.state is ServiceState.DELETING:
            return
        serving = [
            member.ip
            for member in world.members(service.pool_id)
            if member.state is InstanceState.RUNNING
        ]
        await world.balancers.set_members(balancer.id, service.id, serving)


def health(world: World, balancer: LoadBalancer, service: Service) -> list[tuple[str, bool]]:
    """
    Return each member's address and whether its last check was good; False before that.

    Of balancers that lag, what they know, be it too much or too little.
    """
    if not service.exists_below:
        known: dict[str, bool] = {}
    else:
        known = world.balancers.health(balancer.id, service.id)
    if world.balancers.lags:
        return list(known.items())
    return [(member.ip, known.get(member.ip, False)) for member in world.members(service.pool_id)]

"""A cloud as it was when it started: nothing exists, nothing is under way, nothing is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import MISSING, fields
from typing import Final

import structlog

from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

LEAVE_WITHIN_S: Final = 2.0
"""What is under way may end by itself for so long, so that servers that leave are gone."""
_KEPT: Final = frozenset({"pace", "quotas", "clock", "chance", "background", "faults"})


async def reset(world: World) -> int:
    """Remove every fault and every resource of a cloud; return how many servers there were."""
    world.faults.clear()
    servers = {instance.id: instance for instance in world.instances.values()}
    if world.background.tasks:
        await asyncio.wait(world.background.tasks, timeout=LEAVE_WITHIN_S)
    await world.background.close()
    servers |= world.instances
    balancers = list(world.load_balancers.values())
    addresses = [*(each.ip for each in world.instances.values()), *(each.ip for each in balancers)]
    _forget(world)
    for balancer in balancers:
        await _try(world.balancers.delete(balancer.id))
    await asyncio.gather(*(_try(world.servers.stop(key, grace_s=0.0)) for key in servers))
    for address in addresses:
        world.servers.release_ip(address)
    _log.info("cloud_reset", servers=len(servers), load_balancers=len(balancers))
    return len(servers)


def _forget(world: World) -> None:
    """Every collection of the world becomes what it is in a new one; the owner's key stays."""
    for key in world.iam.keys:
        world.secrets.pop(key, None)
    for each in fields(world):
        if each.name not in _KEPT and each.default_factory is not MISSING:
            setattr(world, each.name, each.default_factory())
    world.operations.known.clear()


async def _try(work: Awaitable[None]) -> None:
    try:
        await work
    except CloudFault as error:
        _log.warning("reset_left_something", error=str(error))

"""Faults of servers: boots that fail or take long, servers that die or hang by themselves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.world import World
from exotide.cloud.faults import places
from exotide.cloud.faults.engine import Strike
from exotide.cloud.faults.model import BootFailure, Death, Effect, Hang, NoCapacity, SlowBoot
from exotide.cloud.ports import Breakable, CloudFault, ServerFailed, ServerSpec

_log: Final = structlog.get_logger(__name__)
_ENDS: Final[tuple[type[Death | Hang], ...]] = (Death, Hang)


async def start(world: World, instance: Instance, spec: ServerSpec) -> None:
    """
    Start a server as `Servers.start` does, with the faults of its world.

    Raises:
        ServerFailed: As of the driver, or because a fault says so.
    """
    if world.faults.idle:
        await world.servers.start(spec)
        return
    facts = places.of_boot(world, instance)
    full = world.faults.first(facts, NoCapacity)
    if full is not None:
        _note(full, spec)
        raise ServerFailed(f"{full.effect.message} (zone {instance.zone})")
    slow_s = sum(
        strike.effect.delay_s.draw(strike.chance)
        for strike in list(world.faults.strikes(facts, SlowBoot))
    )
    spec = replace(spec, boot_delay_s=spec.boot_delay_s + slow_s)
    broken = world.faults.first(facts, BootFailure)
    if broken is not None:
        _note(broken, spec)
        await asyncio.sleep(spec.boot_delay_s)
        _stay(world, instance, broken)
        raise ServerFailed(f"server {spec.name}: {broken.effect.message}")
    ends = list(world.faults.strikes(facts, *_ENDS))
    await world.servers.start(spec)
    for end in ends:
        world.background.spawn(_end(world, spec, end))


def breakable(world: World) -> Breakable:
    """
    Return the driver as one whose servers can be broken.

    Raises:
        CloudFault: It is none.
    """
    if not isinstance(world.servers, Breakable):
        raise CloudFault(
            "the servers of this cloud are of a kind that can neither be killed nor hang on demand"
        )
    return world.servers


async def _end(world: World, spec: ServerSpec, strike: Strike[Death | Hang]) -> None:
    await asyncio.sleep(strike.effect.delay_s.draw(strike.chance))
    if spec.id not in world.instances:
        return
    _note(strike, spec)
    try:
        if isinstance(strike.effect, Death):
            _stay(world, world.instances[spec.id], strike)
            await breakable(world).crash(spec.id)
        else:
            await breakable(world).freeze(spec.id)
    except CloudFault as error:
        _log.warning("fault_without_effect", fault=strike.fault_id, reason=str(error))


def _stay(world: World, instance: Instance, strike: Strike[Effect]) -> None:
    """Let a member that is about to be in error stay so, if its fault says that."""
    effect = strike.effect
    if isinstance(effect, BootFailure | Death) and effect.stays and instance.pool_id is not None:
        at_most_s = effect.release_after_s
        world.faults.holds.begin(strike.fault_id, instance.id, at_most_s=at_most_s)


def _note(strike: Strike[Effect], spec: ServerSpec) -> None:
    _log.info("fault_strikes", fault=strike.fault_id, kind=strike.effect.kind, server=spec.name)

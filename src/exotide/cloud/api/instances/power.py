"""The life of one server: made, booted, stopped, destroyed. Pools and single instances share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from exotide.cloud.api.anti_affinity_groups.rules import require_room
from exotide.cloud.api.errors import Busy, FailureReason, OperationFailed, Protected
from exotide.cloud.api.instances.model import Instance, Plan
from exotide.cloud.api.load_balancers.following import follow, leave
from exotide.cloud.api.security_groups.filtering import follow_membership, hand_over
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World
from exotide.cloud.faults import boots
from exotide.cloud.ports import CloudFault, ServerSpec

_log: Final = structlog.get_logger(__name__)


def make(world: World, *, zone: str, name: str, plan: Plan, pool_id: str | None = None) -> Instance:
    """
    Bring an instance into the world, not yet booted.

    Raises:
        Conflict: No address is left.
        QuotaExceeded: One of its anti-affinity groups is full.
    """
    require_room(world, plan.anti_affinity_groups)
    instance = Instance(
        id=world.new_id(),
        zone=zone,
        name=name,
        plan=plan,
        ip=world.reserve_ip(),
        created_at=world.stamp(),
        pool_id=pool_id,
    )
    world.instances[instance.id] = instance
    return instance


async def boot(world: World, instance: Instance) -> None:
    """
    Start the server of an instance that is starting; does nothing if it no longer is.

    Servers whose rules name its groups let it in before it runs; its load balancers learn of it
    when its programs run. A boot that a stop cuts short, or whose server died and was replaced
    already, is no failure of the boot.

    Raises:
        CloudFault: It does not boot; the instance is in error.
    """
    await follow_membership(world)
    if instance.state is not InstanceState.STARTING:
        return
    try:
        with _faults("start", instance):
            await boots.start(world, instance, spec_of(world, instance))
    except CloudFault:
        if instance.state is InstanceState.STARTING:
            instance.become(InstanceState.ERROR)
            raise
        return
    if instance.state is InstanceState.STARTING:
        instance.become(InstanceState.RUNNING)
    await follow(world, instance.pool_id)


async def power_off(world: World, instance: Instance) -> None:
    """Stop the server of an instance that is stopping; no new traffic reaches it before."""
    await leave(world, instance)
    try:
        with _faults("stop", instance):
            await world.servers.stop(instance.id, grace_s=world.pace.stop_grace_s)
    finally:
        if instance.state is InstanceState.STOPPING:
            instance.become(InstanceState.STOPPED)


async def reboot(world: World, instance: Instance) -> None:
    """
    Restart the programs of a running instance.

    Raises:
        OperationFailed: It was stopped, or died, in the meantime.
        CloudFault: Its programs do not come back.
    """
    if instance.state is not InstanceState.RUNNING:
        raise OperationFailed(FailureReason.INTERRUPTED, f"instance is {instance.state} now")
    with _faults("reboot", instance):
        await world.servers.reboot(instance.id)


async def destroy(world: World, instance: Instance) -> None:
    """
    Remove an instance that is being destroyed: drained, then stopped, then forgotten.

    It is forgotten even if its server could not be stopped cleanly.
    """
    await leave(world, instance)
    await bury(world, instance, grace_s=world.pace.stop_grace_s)


async def bury(world: World, instance: Instance, *, grace_s: float = 0.0) -> None:
    """Stop what is left of a server, forget the instance, give its address back."""
    try:
        with _faults("stop", instance):
            await world.servers.stop(instance.id, grace_s=grace_s)
    finally:
        world.instances.pop(instance.id, None)
        await follow_membership(world)  # before another server gets the address
        world.servers.release_ip(instance.ip)


def require_state(instance: Instance, *allowed: InstanceState) -> None:
    """
    Check that an instance may be acted upon.

    Raises:
        Busy: It is in another state.
    """
    if instance.state not in allowed:
        wanted = " or ".join(allowed)
        raise Busy(f"instance {instance.id} is {instance.state}; this needs it to be {wanted}")


def require_not_destroying(instance: Instance) -> None:
    """
    Check that an instance is not on its way out.

    Raises:
        Busy: It is.
    """
    if instance.state is InstanceState.DESTROYING:
        raise Busy.of("instance", instance.id, instance.state)


def require_unprotected(instance: Instance, operation: str) -> None:
    """
    Check that an instance may be destroyed.

    Raises:
        Protected: It is protected; names the operation and the instance.
    """
    if instance.protected:
        raise Protected.of(operation, instance.id)


@contextmanager
def _faults(what: str, instance: Instance) -> Iterator[None]:
    """Make every error of the driver a CloudFault, so that no resource stays half-way."""
    try:
        yield
    except CloudFault:
        raise
    except Exception as error:
        _log.exception("driver_crashed", call=what, instance=instance.id)
        raise CloudFault(f"could not {what} server {instance.id}: {error}") from error


def spec_of(world: World, instance: Instance) -> ServerSpec:
    """Describe an instance to the driver."""
    plan = instance.plan
    return ServerSpec(
        id=instance.id,
        name=instance.host_name,
        ip=instance.ip,
        vcpus=plan.instance_type.cpus,
        memory_bytes=plan.instance_type.memory_bytes,
        labels=dict(plan.labels),
        user_data=plan.boot_data,
        firewall=hand_over(world, instance),
        boot_delay_s=world.pace.boot_delay_s / world.pace.speed,
    )

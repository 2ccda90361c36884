"""Operations on single instances, members of pools included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from exotide.cloud.api.anti_affinity_groups.rules import require_room
from exotide.cloud.api.errors import ApiError, Invalid
from exotide.cloud.api.fields import uuid_of
from exotide.cloud.api.instance_pools.healing import pool_of, replace_member
from exotide.cloud.api.instances.booting import boot_or_forget, boot_or_heal, reboot_or_die
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.plans import read_plan, read_user_data, refuse_what_is_not_offered
from exotide.cloud.api.instances.power import (
    destroy,
    make,
    power_off,
    require_not_destroying,
    require_state,
    require_unprotected,
)
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World
from exotide.cloud.faults.pools import require_removable


def create_instance(world: World, call: Call) -> dict[str, object]:
    """Make an instance; one that does not boot is gone again when the operation has failed."""
    plan = read_plan(world, call.zone, call.body)
    name = call.body.text("name") or f"VM-{world.new_id()}"
    starts = call.body.boolean("auto-start") is not False
    world.require_quota("instance", 1)
    instance = make(world, zone=call.zone, name=name, plan=plan)
    if starts:
        return _start(world, instance, lambda: boot_or_forget(world, instance))
    instance.become(InstanceState.STOPPED)
    return _start(world, instance)


def list_instances(world: World, call: Call) -> dict[str, object]:
    """List the instances of a zone, filtered by manager, address or labels."""
    keep = _filter(call)
    return {
        "instances": [
            instance.summary()
            for instance in world.instances.values()
            if instance.zone == call.zone and keep(instance)
        ]
    }


def get_instance(world: World, call: Call) -> dict[str, object]:
    """Show one instance."""
    return world.instance(call.zone, call.path["id"]).view()


def update_instance(world: World, call: Call) -> dict[str, object]:
    """Change name, labels or user-data; the server sees them when it is started next."""
    instance = world.instance(call.zone, call.path["id"])
    refuse_what_is_not_offered(call.body)
    name = call.body.text("name") or instance.name
    labels = call.body.labels()
    plan = read_user_data(call.body, instance.plan)
    require_not_destroying(instance)
    instance.name = name
    instance.plan = plan if labels is None else replace(plan, labels=labels)
    return _start(world, instance)


def delete_instance(world: World, call: Call) -> dict[str, object]:
    """Destroy an instance; a pool replaces its member at once and keeps its size."""
    instance = world.instance(call.zone, call.path["id"])
    require_not_destroying(instance)
    require_unprotected(instance, "delete-instance")
    pool, before = pool_of(world, instance), instance.state
    require_removable(world, pool, instance)
    instance.become(InstanceState.DESTROYING)
    if pool is not None:
        try:
            replace_member(world, pool, instance)
        except ApiError:
            instance.state = before
            raise
    return _start(world, instance, lambda: destroy(world, instance))


def start_instance(world: World, call: Call) -> dict[str, object]:
    """Boot a stopped instance."""
    instance = world.instance(call.zone, call.path["id"])
    if call.body.choice("rescue-profile", ("netboot", "netboot-efi")) is not None:
        raise Invalid("rescue-profile: expected none: the local cloud does not offer them")
    require_state(instance, InstanceState.STOPPED, InstanceState.ERROR)
    if instance.state is InstanceState.ERROR:
        require_room(world, instance.plan.anti_affinity_groups)
    instance.become(InstanceState.STARTING)
    return _start(world, instance, lambda: boot_or_heal(world, instance))


def stop_instance(world: World, call: Call) -> dict[str, object]:
    """Shut a running instance down; it keeps its address."""
    instance = world.instance(call.zone, call.path["id"])
    require_state(instance, InstanceState.RUNNING)
    instance.become(InstanceState.STOPPING)
    return _start(world, instance, lambda: power_off(world, instance))


def reboot_instance(world: World, call: Call) -> dict[str, object]:
    """Restart the programs of a running instance."""
    instance = world.instance(call.zone, call.path["id"])
    require_state(instance, InstanceState.RUNNING)
    return _start(world, instance, lambda: reboot_or_die(world, instance))


def _start(
    world: World, instance: Instance, work: Callable[[], Awaitable[None]] | None = None
) -> dict[str, object]:
    return world.operations.start(zone=instance.zone, kind="instance", key=instance.id, work=work)


def _filter(call: Call) -> Callable[[Instance], bool]:
    manager = call.argument("manager-id")
    call.choice("manager-type", ("instance-pool",), "instance-pool")
    if manager is not None and uuid_of(manager) is None:
        raise Invalid.field("manager-id", "a UUID", manager)
    ip = call.argument("ip-address")
    labels = _labels(call.argument("labels"))

    def keep(instance: Instance) -> bool:
        return (
            manager in {None, instance.pool_id}
            and ip in {None, instance.ip}
            and labels.items() <= instance.plan.labels.items()
        )

    return keep


def _labels(sent: str | None) -> dict[str, str]:
    """Read `role=web,tier=front`."""
    if sent is None:
        return {}
    pairs = [pair.partition("=") for pair in sent.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise Invalid.field("labels", "key=value pairs with commas between", sent)
    return {key: value for key, _, value in pairs}


ENDPOINTS = (
    Endpoint(method="POST", path="/instance", operation="create-instance", handler=create_instance),
    Endpoint(method="GET", path="/instance", operation="list-instances", handler=list_instances),
    Endpoint(method="GET", path="/instance/{id}", operation="get-instance", handler=get_instance),
    Endpoint(
        method="PUT", path="/instance/{id}", operation="update-instance", handler=update_instance
    ),
    Endpoint(
        method="DELETE",
        path="/instance/{id}",
        operation="delete-instance",
        handler=delete_instance,
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:start",
        operation="start-instance",
        handler=start_instance,
    ),
    Endpoint(
        method="PUT", path="/instance/{id}:stop", operation="stop-instance", handler=stop_instance
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:reboot",
        operation="reboot-instance",
        handler=reboot_instance,
    ),
)

"""Operations that make another thing of an instance: type, disk, template, protection, labels."""

from __future__ import annotations

from dataclasses import replace

from exotide.cloud.api.catalogue import InstanceType
from exotide.cloud.api.errors import Invalid
from exotide.cloud.api.instances.booting import reinstall
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.plans import (
    read_disk,
    read_template,
    read_type,
    require_disk_fits,
)
from exotide.cloud.api.instances.power import require_not_destroying, require_state
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World


def scale_instance(world: World, call: Call) -> dict[str, object]:
    """Give a stopped instance another type of the same family."""
    instance = world.instance(call.zone, call.path["id"])
    kind = call.body.must("instance-type", read_type(call.body))
    _require_family(instance.plan.instance_type, kind)
    require_disk_fits(kind, instance.plan.disk_gib)
    require_state(instance, InstanceState.STOPPED)
    instance.plan = replace(instance.plan, instance_type=kind)
    return _done(world, instance)


def resize_disk(world: World, call: Call) -> dict[str, object]:
    """Enlarge the disk of a stopped instance; it never shrinks."""
    instance = world.instance(call.zone, call.path["id"])
    plan = instance.plan
    disk_gib = read_disk(call.body, plan.instance_type, least_gib=plan.disk_gib)
    disk_gib = call.body.must("disk-size", disk_gib)
    require_state(instance, InstanceState.STOPPED)
    instance.plan = replace(plan, disk_gib=disk_gib)
    return _done(world, instance)


def reset_instance(world: World, call: Call) -> dict[str, object]:
    """Start over from a template with an empty disk; one that runs boots again."""
    instance = world.instance(call.zone, call.path["id"])
    plan = instance.plan
    template = read_template(call.zone, call.body) or plan.template
    disk_gib = read_disk(call.body, plan.instance_type) or plan.disk_gib
    require_state(instance, InstanceState.RUNNING, InstanceState.STOPPED)
    instance.plan = replace(plan, template=template, disk_gib=disk_gib)
    if instance.state is InstanceState.STOPPED:
        return _done(world, instance)
    instance.become(InstanceState.STOPPING)
    return world.operations.start(
        zone=instance.zone,
        kind="instance",
        key=instance.id,
        work=lambda: reinstall(world, instance),
    )


def add_protection(world: World, call: Call) -> dict[str, object]:
    """Refuse every destruction of an instance from now on."""
    return _protect(world, call, protected=True)


def remove_protection(world: World, call: Call) -> dict[str, object]:
    """Allow an instance to be destroyed; one that was not protected is no error."""
    return _protect(world, call, protected=False)


def reset_field(world: World, call: Call) -> dict[str, object]:
    """Give a field its default again; the real API knows only labels, too."""
    instance = world.instance(call.zone, call.path["id"])
    call.one_of("field", ("labels",))
    require_not_destroying(instance)
    instance.plan = replace(instance.plan, labels={})
    return _done(world, instance)


def _protect(world: World, call: Call, *, protected: bool) -> dict[str, object]:
    instance = world.instance(call.zone, call.path["id"])
    require_not_destroying(instance)
    instance.protected = protected
    return _done(world, instance)


def _require_family(old: InstanceType, new: InstanceType) -> None:
    if old.family != new.family:
        wanted = f"a type of the family {old.family}"
        raise Invalid.field("instance-type.id", wanted, f"{new.family}.{new.size}")


def _done(world: World, instance: Instance) -> dict[str, object]:
    return world.operations.start(zone=instance.zone, kind="instance", key=instance.id)


ENDPOINTS = (
    Endpoint(
        method="PUT",
        path="/instance/{id}:scale",
        operation="scale-instance",
        handler=scale_instance,
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:resize-disk",
        operation="resize-instance-disk",
        handler=resize_disk,
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:reset",
        operation="reset-instance",
        handler=reset_instance,
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:add-protection",
        operation="add-instance-protection",
        handler=add_protection,
    ),
    Endpoint(
        method="PUT",
        path="/instance/{id}:remove-protection",
        operation="remove-instance-protection",
        handler=remove_protection,
    ),
    Endpoint(
        method="DELETE",
        path="/instance/{id}/{field}",
        operation="reset-instance-field",
        handler=reset_field,
    ),
)

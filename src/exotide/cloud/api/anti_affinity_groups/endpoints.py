"""Operations on anti-affinity groups."""

from __future__ import annotations

from exotide.cloud.api.anti_affinity_groups.model import AntiAffinityGroup
from exotide.cloud.api.anti_affinity_groups.rules import members_of, require_unused
from exotide.cloud.api.errors import Conflict, NotFound
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World


def create_group(world: World, call: Call) -> dict[str, object]:
    """Make an empty group."""
    name = call.body.must("name", call.body.text("name"))
    description = call.body.text("description", least=0) or ""
    if any(group.name == name for group in world.anti_affinity_groups.values()):
        raise Conflict(f"anti-affinity group {name} already exists")
    group = AntiAffinityGroup(id=world.new_id(), name=name, description=description)
    world.anti_affinity_groups[group.id] = group
    return _done(world, call, group)


def list_groups(world: World, _: Call) -> dict[str, object]:
    """List all groups with their instances, of every zone."""
    groups = world.anti_affinity_groups.values()
    return {"anti-affinity-groups": [_view(world, group) for group in groups]}


def get_group(world: World, call: Call) -> dict[str, object]:
    """Show one group."""
    return _view(world, _group(world, call))


def delete_group(world: World, call: Call) -> dict[str, object]:
    """Remove a group that no pool or instance names."""
    group = _group(world, call)
    require_unused(world, group.id)
    del world.anti_affinity_groups[group.id]
    return _done(world, call, group)


def _group(world: World, call: Call) -> AntiAffinityGroup:
    group = world.anti_affinity_groups.get(call.path["id"])
    if group is None:
        raise NotFound.of("anti-affinity group", call.path["id"])
    return group


def _view(world: World, group: AntiAffinityGroup) -> dict[str, object]:
    return group.view(instance.id for instance in members_of(world, group.id))


def _done(world: World, call: Call, group: AntiAffinityGroup) -> dict[str, object]:
    return world.operations.start(zone=call.zone, kind="anti-affinity-group", key=group.id)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/anti-affinity-group",
        operation="create-anti-affinity-group",
        handler=create_group,
    ),
    Endpoint(
        method="GET",
        path="/anti-affinity-group",
        operation="list-anti-affinity-groups",
        handler=list_groups,
    ),
    Endpoint(
        method="GET",
        path="/anti-affinity-group/{id}",
        operation="get-anti-affinity-group",
        handler=get_group,
    ),
    Endpoint(
        method="DELETE",
        path="/anti-affinity-group/{id}",
        operation="delete-anti-affinity-group",
        handler=delete_group,
    ),
)

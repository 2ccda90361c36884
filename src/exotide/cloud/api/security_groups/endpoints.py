"""
Operations on security groups, their rules, sources and members.

A change is in force at the servers when its operation has succeeded.
"""

from __future__ import annotations

from exotide.cloud.api.errors import Busy, Conflict, InUse, Invalid, NotFound
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.security_groups.changes import (
    change_groups,
    change_rules,
    change_sources,
    members_of,
)
from exotide.cloud.api.security_groups.filtering import collapsed, managed_sources, refresh
from exotide.cloud.api.security_groups.model import MANAGED, SecurityGroup
from exotide.cloud.api.security_groups.reading import read_network, read_rule
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World


def create_security_group(world: World, call: Call) -> dict[str, object]:
    """Make an empty group."""
    name = call.body.must("name", call.body.text("name"))
    description = call.body.text("description", least=0) or ""
    if name in MANAGED or any(group.name == name for group in world.security_groups.values()):
        raise Conflict(f"security group {name} already exists")
    group = SecurityGroup(id=world.new_id(), name=name, description=description)
    world.security_groups[group.id] = group
    return _done(world, call, group)


def list_security_groups(world: World, call: Call) -> dict[str, object]:
    """List the account's groups, or with visibility=public those that Exoscale keeps."""
    if call.choice("visibility", ("private", "public"), "private") == "public":
        return {"security-groups": [_managed(world, name) for name in MANAGED]}
    return {"security-groups": [group.view() for group in world.security_groups.values()]}


def get_security_group(world: World, call: Call) -> dict[str, object]:
    """Show one group."""
    return _group(world, call).view()


def delete_security_group(world: World, call: Call) -> dict[str, object]:
    """Remove a group that nothing uses."""
    group = _group(world, call)
    user = _user_of(world, group)
    if user is not None:
        raise InUse(f"security group {group.name} is in use by {user}; delete that first")
    del world.security_groups[group.id]
    return _done(world, call, group)


def add_rule(world: World, call: Call) -> dict[str, object]:
    """Add a rule; the operation refers to the group."""
    group = _group(world, call)
    rule = read_rule(world, call.body)
    if any(rule.sent == known.sent for known in group.rules.values()):
        raise Conflict(f"security group {group.name} already has this rule")
    change_rules(world, group, {**group.rules, rule.id: rule})
    return _in_force(world, call, group)


def delete_rule(world: World, call: Call) -> dict[str, object]:
    """Remove a rule; the operation refers to the group."""
    group = _group(world, call)
    if call.path["rule-id"] not in group.rules:
        raise NotFound.of("rule", call.path["rule-id"])
    left = {key: rule for key, rule in group.rules.items() if key != call.path["rule-id"]}
    change_rules(world, group, left)
    return _in_force(world, call, group)


def add_source(world: World, call: Call) -> dict[str, object]:
    """Let a network count as a member; one that does already is no change."""
    group = _group(world, call)
    cidr = read_network(call.body, "cidr")
    if cidr not in group.external_sources:
        change_sources(world, group, (*group.external_sources, cidr))
    return _in_force(world, call, group)


def remove_source(world: World, call: Call) -> dict[str, object]:
    """Let a network count as a member no more."""
    group = _group(world, call)
    cidr = read_network(call.body, "cidr")
    if cidr not in group.external_sources:
        raise Invalid.field("cidr", f"an external source of security group {group.name}", cidr)
    change_sources(world, group, (each for each in group.external_sources if each != cidr))
    return _in_force(world, call, group)


def attach_instance(world: World, call: Call) -> dict[str, object]:
    """Put an instance into the group; one that is in it already is no change."""
    group = _group(world, call)
    instance = _instance(world, call)
    if group.id not in instance.plan.security_groups:
        change_groups(world, instance, (*instance.plan.security_groups, group.id))
    return _in_force(world, call, group)


def detach_instance(world: World, call: Call) -> dict[str, object]:
    """Take an instance out of the group."""
    group = _group(world, call)
    instance = _instance(world, call)
    if group.id not in instance.plan.security_groups:
        expected = f"an instance in security group {group.name}"
        raise Invalid.field("instance.id", expected, instance.id)
    change_groups(world, instance, (g for g in instance.plan.security_groups if g != group.id))
    return _in_force(world, call, group)


def _managed(world: World, name: str) -> dict[str, object]:
    return {"name": name, "external-sources": list(collapsed(managed_sources(world, name)))}


def _instance(world: World, call: Call) -> Instance:
    key = call.body.must("instance", call.body.ref("instance"))
    instance = world.instances.get(key)
    if instance is None or instance.zone != call.zone:
        raise Invalid.field("instance.id", f"an instance of zone {call.zone}", key)
    if instance.state is InstanceState.DESTROYING:
        raise Busy.of("instance", instance.id, instance.state)
    return instance


def _group(world: World, call: Call) -> SecurityGroup:
    group = world.security_groups.get(call.path["id"])
    if group is None:
        raise NotFound.of("security group", call.path["id"])
    return group


def _done(world: World, call: Call, group: SecurityGroup) -> dict[str, object]:
    return world.operations.start(zone=call.zone, kind="security-group", key=group.id)


def _in_force(world: World, call: Call, group: SecurityGroup) -> dict[str, object]:
    """Answer an operation that ends when the servers filter by the change."""
    return world.operations.start(
        zone=call.zone, kind="security-group", key=group.id, work=lambda: refresh(world)
    )


def _user_of(world: World, group: SecurityGroup) -> str | None:
    for pool in world.pools.values():
        if group.id in pool.plan.security_groups:
            return f"instance pool {pool.name}"
    for instance in members_of(world, group.id):
        return f"instance {instance.name}"
    for other in world.security_groups.values():
        if other is not group and any(r.source_group == group.id for r in other.rules.values()):
            return f"a rule of security group {other.name}"
    return None


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/security-group",
        operation="create-security-group",
        handler=create_security_group,
    ),
    Endpoint(
        method="GET",
        path="/security-group",
        operation="list-security-groups",
        handler=list_security_groups,
    ),
    Endpoint(
        method="GET",
        path="/security-group/{id}",
        operation="get-security-group",
        handler=get_security_group,
    ),
    Endpoint(
        method="DELETE",
        path="/security-group/{id}",
        operation="delete-security-group",
        handler=delete_security_group,
    ),
    Endpoint(
        method="POST",
        path="/security-group/{id}/rules",
        operation="add-rule-to-security-group",
        handler=add_rule,
    ),
    Endpoint(
        method="DELETE",
        path="/security-group/{id}/rules/{rule-id}",
        operation="delete-rule-from-security-group",
        handler=delete_rule,
    ),
    Endpoint(
        method="PUT",
        path="/security-group/{id}:add-source",
        operation="add-external-source-to-security-group",
        handler=add_source,
    ),
    Endpoint(
        method="PUT",
        path="/security-group/{id}:remove-source",
        operation="remove-external-source-from-security-group",
        handler=remove_source,
    ),
    Endpoint(
        method="PUT",
        path="/security-group/{id}:attach",
        operation="attach-instance-to-security-group",
        handler=attach_instance,
    ),
    Endpoint(
        method="PUT",
        path="/security-group/{id}:detach",
        operation="detach-instance-from-security-group",
        handler=detach_instance,
    ),
)

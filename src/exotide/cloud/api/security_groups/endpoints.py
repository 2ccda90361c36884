"""Security groups and their rules. The local network does not filter; groups are book-keeping."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from exotide.cloud.api.errors import Conflict, InUse, Invalid, NotFound
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.security_groups.model import MANAGED, Rule, SecurityGroup
from exotide.cloud.api.world import World

_PROTOCOLS: Final = ("ah", "all", "esp", "gre", "icmp", "icmpv6", "ipip", "tcp", "udp")
_WITH_PORTS: Final = frozenset({"tcp", "udp"})
_WITH_ICMP: Final = frozenset({"icmp", "icmpv6"})


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
        return {"security-groups": [{"name": name, "external-sources": []} for name in MANAGED]}
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
    rule = _read_rule(world, call.body)
    if any(rule.sent == known.sent for known in group.rules.values()):
        raise Conflict(f"security group {group.name} already has this rule")
    group.rules[rule.id] = rule
    return _done(world, call, group)


def delete_rule(world: World, call: Call) -> dict[str, object]:
    """Remove a rule; the operation refers to the group."""
    group = _group(world, call)
    if call.path["rule-id"] not in group.rules:
        raise NotFound.of("rule", call.path["rule-id"])
    del group.rules[call.path["rule-id"]]
    return _done(world, call, group)


def _group(world: World, call: Call) -> SecurityGroup:
    group = world.security_groups.get(call.path["id"])
    if group is None:
        raise NotFound.of("security group", call.path["id"])
    return group


def _done(world: World, call: Call, group: SecurityGroup) -> dict[str, object]:
    return world.operations.start(zone=call.zone, kind="security-group", key=group.id)


def _user_of(world: World, group: SecurityGroup) -> str | None:
    for pool in world.pools.values():
        if group.id in pool.plan.security_groups:
            return f"instance pool {pool.name}"
    for instance in world.instances.values():
        if group.id in instance.plan.security_groups:
            return f"instance {instance.name}"
    for other in world.security_groups.values():
        if other is not group and any(r.source_group == group.id for r in other.rules.values()):
            return f"a rule of security group {other.name}"
    return None


def _read_rule(world: World, body: Fields) -> Rule:
    direction = body.must("flow-direction", body.choice("flow-direction", ("ingress", "egress")))
    protocol = body.must("protocol", body.choice("protocol", _PROTOCOLS))
    sent: dict[str, object] = {"flow-direction": direction, "protocol": protocol}
    description = body.text("description", least=0)
    if description is not None:
        sent["description"] = description
    sent |= _read_ports(body, protocol) | _read_icmp(body, protocol)
    if body.has("network") == body.has("security-group"):
        raise Invalid("network, security-group: expected exactly one of the two")
    source = body.nested("security-group")
    if source is None:
        return Rule(id=world.new_id(), sent=sent | {"network": _read_network(body)})
    shown, source_group = _read_source(world, source)
    return Rule(id=world.new_id(), sent=sent | {"security-group": shown}, source_group=source_group)


def _read_ports(body: Fields, protocol: str) -> dict[str, object]:
    start = body.integer("start-port", least=1, most=65_535)
    end = body.integer("end-port", least=1, most=65_535)
    if protocol not in _WITH_PORTS:
        if start is not None or end is not None:
            raise Invalid(f"start-port, end-port: expected none for protocol {protocol}")
        return {}
    first = body.must("start-port", start)
    last = first if end is None else end
    if last < first:
        raise Invalid.field("end-port", f"at least start-port ({first})", last)
    return {"start-port": first, "end-port": last}


def _read_icmp(body: Fields, protocol: str) -> dict[str, object]:
    icmp = body.nested("icmp")
    if icmp is None:
        return {}
    if protocol not in _WITH_ICMP:
        raise Invalid(f"icmp: expected none for protocol {protocol}")
    found = {name: icmp.integer(name, least=-1, most=254) for name in ("type", "code")}
    return {"icmp": {name: value for name, value in found.items() if value is not None}}


def _read_network(body: Fields) -> str:
    network = body.must("network", body.text("network"))
    try:
        ip_network(network)
    except ValueError as error:
        raise Invalid.field("network", "a network such as 10.0.0.0/8 or ::/0", network) from error
    return network


def _read_source(world: World, source: Fields) -> tuple[dict[str, object], str | None]:
    """Answer a public group without an id: with one, clients would take it for a private one."""
    if source.choice("visibility", ("private", "public")) == "public":
        name = source.must("name", source.choice("name", MANAGED))
        return {"name": name, "visibility": "public"}, None
    key = source.must("id", source.uuid("id"))
    group = world.security_groups.get(key)
    if group is None:
        raise Invalid.field("security-group.id", "an existing security group", key)
    return {"id": key, "name": group.name, "visibility": "private"}, key


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
)

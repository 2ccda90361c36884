"""Reading rules and networks of security groups from requests."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from exotide.cloud.api.errors import Invalid
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.security_groups.model import MANAGED, Rule
from exotide.cloud.api.world import World

_PROTOCOLS: Final = ("ah", "all", "esp", "gre", "icmp", "icmpv6", "ipip", "tcp", "udp")
_WITH_PORTS: Final = frozenset({"tcp", "udp"})
_WITH_ICMP: Final = frozenset({"icmp", "icmpv6"})


def read_rule(world: World, body: Fields) -> Rule:
    """Read a rule, kept exactly as it is sent; one port may stand for a range."""
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
        return Rule(id=world.new_id(), sent=sent | {"network": read_network(body, "network")})
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


def read_network(body: Fields, name: str) -> str:
    """Read a network in CIDR notation, kept as it is spelled."""
    network = body.must(name, body.text(name))
    try:
        ip_network(network)
    except ValueError as error:
        raise Invalid.field(name, "a network such as 10.0.0.0/8 or ::/0", network) from error
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

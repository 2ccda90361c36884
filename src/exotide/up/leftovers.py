"""
Everything of a stack that exists, found through the API by name, by label and by the state's ids.

Terraform alone is not enough: a server whose creation was cut off, or a pool whose creation failed,
may exist although no state knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exotide.cost.prices import LOAD_BALANCER_PER_HOUR, UnknownPrice, server_per_hour
from exotide.stack.api import Api, Json
from exotide.stack.errors import NotFound
from exotide.stack.resources import (
    BALANCER,
    INSTANCE,
    KEY,
    POOL,
    ROLE,
    SECURITY_GROUP,
    STACK_LABEL,
    Kind,
    Resource,
    listed,
)

_GONE: Final = {"destroyed", "expunging"}
_COMMANDS: Final = {
    POOL.label: "exo compute instance-pool delete",
    INSTANCE.label: "exo compute instance delete",
    BALANCER.label: "exo compute load-balancer delete",
    SECURITY_GROUP.label: "exo compute security-group delete",
    ROLE.label: "exo iam role delete",
    KEY.label: "exo iam api-key delete",
}
_ZONAL: Final = {POOL.label, INSTANCE.label, BALANCER.label}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something that still exists."""

    resource: Resource
    per_hour: float | None = 0.0
    """EUR, without VAT. None: the price is not known."""
    note: str = ""
    """Such as how many members a pool has."""
    state: str = ""
    """As the API names it, where it is not `running`."""

    @property
    def cost(self) -> str:
        """What it costs, for people."""
        note = f"{self.note}, " if self.note else ""
        if self.per_hour is None:
            return f"{note}price not known"
        return f"{note}{self.per_hour:.5f} EUR per hour" if self.per_hour else f"{note}free"

    def command(self, zone: str) -> str:
        """What removes it, with the official command line."""
        label = self.resource.kind.label
        where = f" -z {zone}" if label in _ZONAL else ""
        return f"{_COMMANDS[label]} {self.resource.id}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """How one sees that something belongs to a stack."""

    name: str
    ids: Collection[str] = frozenset()
    """Ids that the state knows or knew."""

    def has(self, item: Json, *names: str, id_key: str = "id") -> bool:
        """Tell whether something of the API's lists is this stack's."""
        return (
            item.get("name") in names
            or item[id_key] in self.ids
            or item.get("labels", {}).get(STACK_LABEL) == self.name
        )


def find(api: Api, belonging: Belonging) -> tuple[Leftover, ...]:
    """List what exists, in the order in which it can be removed; raises StackError."""
    name = belonging.name
    pools = [each for each in listed(api, POOL) if belonging.has(each, name)]
    in_pools = {each["id"] for each in pools}
    servers = [
        each
        for each in listed(api, INSTANCE)
        if each.get("manager", {}).get("id") not in in_pools
        and belonging.has(each, f"{name}-monitoring")
    ]
    types = _types(api) if pools or servers else {}
    agents = [f"{name}-{agent}" for agent in ("servicediscovery", "autoscaler")]
    roles = [each for each in listed(api, ROLE) if belonging.has(each, *agents)]
    role_ids = {each["id"] for each in roles}
    keys = [
        each
        for each in listed(api, KEY)
        if each.get("role-id") in role_ids or belonging.has(each, *agents, id_key=KEY.id_key)
    ]
    groups = (f"{name}-members", f"{name}-monitoring")
    return (
        *_priced_servers(api, servers, types),
        *_plain(KEY, keys),
        *_plain(ROLE, roles),
        *_balancers(each for each in listed(api, BALANCER) if belonging.has(each, name)),
        *(_pool(each, types) for each in pools),
        *_plain(
            SECURITY_GROUP,
            (each for each in listed(api, SECURITY_GROUP) if belonging.has(each, *groups)),
        ),
    )


def _plain(kind: Kind, items: Iterator[Json] | list[Json]) -> Iterator[Leftover]:
    for each in items:
        resource = Resource(kind=kind, name=each["name"], id=each[kind.id_key])
        yield Leftover(resource=resource)


def _balancers(items: Iterator[Json]) -> Iterator[Leftover]:
    for each in items:
        yield Leftover(
            resource=Resource(kind=BALANCER, name=each["name"], id=each["id"]),
            per_hour=LOAD_BALANCER_PER_HOUR,
            state=_state(each),
        )


def _pool(pool: Json, types: Mapping[str, str]) -> Leftover:
    size = int(pool.get("size", 0))
    each_per_hour = _server_per_hour(pool, types)
    return Leftover(
        resource=Resource(kind=POOL, name=pool["name"], id=pool["id"]),
        per_hour=None if each_per_hour is None else size * each_per_hour,
        note=f"{size} members",
        state=_state(pool),
    )


def _priced_servers(api: Api, servers: list[Json], types: Mapping[str, str]) -> Iterator[Leftover]:
    for each in servers:
        if each.get("state") in _GONE:
            continue
        try:
            full = api.call(INSTANCE.get_operation, id=each["id"])
        except NotFound:
            continue
        yield Leftover(
            resource=Resource(kind=INSTANCE, name=each["name"], id=each["id"]),
            per_hour=_server_per_hour(full, types),
            state=_state(each),
        )


def _state(item: Json) -> str:
    state = str(item.get("state", ""))
    return "" if state == "running" else state


def _server_per_hour(item: Json, types: Mapping[str, str]) -> float | None:
    name = types.get(item.get("instance-type", {}).get("id", ""), "")
    try:
        return server_per_hour(name, disk_gib=float(item.get("disk-size", 0)))
    except UnknownPrice:
        return None


def _types(api: Api) -> dict[str, str]:
    answer = api.call("list_instance_types")
    return {
        each["id"]: f"{each.get('family')}.{each.get('size')}"
        for each in answer.get("instance-types", [])
    }

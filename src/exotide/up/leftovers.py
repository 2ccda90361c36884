"""
Everything of a stack that exists, found through the API by name, by label and by the state's ids.

Terraform alone is not enough: a server whose creation was cut off, or a pool whose creation failed,
may exist although no state knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from exotide.cost.prices import LOAD_BALANCER_PER_HOUR, UnknownPrice, server_per_hour
from exotide.stack.api import Api, Json
from exotide.stack.errors import AccessDenied, NotFound
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
)

CLOCKS_S: Final = 600.0
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
    created_s: float | None = None
    """Unix time of its creation. None: the API does not tell."""

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
class Found:
    """What was found, and where it could not be looked."""

    left: tuple[Leftover, ...] = ()
    unseen: str = ""
    """What the key may not list, and the refusal. Empty: everything was looked at."""

    def is_younger(self, than_s: float) -> bool:
        """Whether something of it was made after a moment; clocks may differ by some minutes."""
        made = (each.created_s for each in self.left)
        return any(each is not None and each > than_s + CLOCKS_S for each in made)


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


def find(api: Api, belonging: Belonging, *, iam: bool = True) -> Found:
    """
    List what exists, in the order in which it can be removed.

    Args:
        iam: Whether the stack can have roles and keys.

    Raises:
        StackError: The API cannot be asked; that the key may not list something is told.
    """
    name, looking = belonging.name, _Looking(api=api)
    all_servers = looking.at(INSTANCE)
    pools = [each for each in looking.at(POOL) if belonging.has(each, name)]
    in_pools = {each["id"] for each in pools}
    servers = [
        each
        for each in all_servers
        if each.get("manager", {}).get("id") not in in_pools
        and belonging.has(each, f"{name}-monitoring")
    ]
    types = _types(api) if pools or servers else {}
    access = _access(looking, belonging) if iam else ()
    groups = (f"{name}-members", f"{name}-monitoring")
    left = (
        *_priced_servers(api, servers, types),
        *access,
        *_balancers(each for each in looking.at(BALANCER) if belonging.has(each, name)),
        *(_pool(each, types, all_servers) for each in pools),
        *_plain(
            SECURITY_GROUP,
            (each for each in looking.at(SECURITY_GROUP) if belonging.has(each, *groups)),
        ),
    )
    return Found(left=left, unseen="; ".join(looking.refusals))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """Goes through lists; one that the key may not see does not hide the others."""

    api: Api
    refusals: list[str] = field(default_factory=list)

    def at(self, kind: Kind) -> list[Json]:
        try:
            return list(self.api.call(kind.list_operation).get(kind.plural_key, []))
        except AccessDenied as error:
            self.refusals.append(str(error))
            return []


def _access(looking: _Looking, belonging: Belonging) -> tuple[Leftover, ...]:
    agents = [f"{belonging.name}-{agent}" for agent in ("servicediscovery", "autoscaler")]
    roles = [each for each in looking.at(ROLE) if belonging.has(each, *agents)]
    role_ids = {each["id"] for each in roles}
    keys = [
        each
        for each in looking.at(KEY)
        if each.get("role-id") in role_ids or belonging.has(each, *agents, id_key=KEY.id_key)
    ]
    return (*_plain(KEY, keys), *_plain(ROLE, roles))


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
            created_s=_created_s(each),
        )


def _pool(pool: Json, types: Mapping[str, str], servers: Iterable[Json] = ()) -> Leftover:
    """A pool has no date, but its oldest member does."""
    size = int(pool.get("size", 0))
    each_per_hour = _server_per_hour(pool, types)
    members = (each for each in servers if each.get("manager", {}).get("id") == pool["id"])
    dates = [_created_s(each) for each in members]
    return Leftover(
        resource=Resource(kind=POOL, name=pool["name"], id=pool["id"]),
        per_hour=None if each_per_hour is None else size * each_per_hour,
        note=f"{size} member{'' if size == 1 else 's'}",
        state=_state(pool),
        created_s=min((each for each in dates if each is not None), default=None),
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
            created_s=_created_s(full),
        )


def _created_s(item: Json) -> float | None:
    try:
        return datetime.fromisoformat(str(item.get("created-at"))).timestamp()
    except ValueError:
        return None


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

"""What an account holds, as far as the contract speaks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """An instance pool."""

    id: str
    name: str
    size: int
    """How many members it is asked to have."""
    member_ids: frozenset[str] = frozenset()
    stack: str = ""
    """Its label `stack`."""
    group_ids: tuple[str, ...] = ()
    template_id: str = ""
    type_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An instance that is there to stay."""

    id: str
    name: str
    ip: str
    pool_id: str = ""
    """Whose member it is; empty: of no pool."""
    stack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A port of a load balancer, and the pool behind it."""

    port: int
    target_port: int
    pool_id: str
    health: Mapping[str, bool] = field(default_factory=dict)
    """By the address of each backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """A network load balancer."""

    id: str
    name: str
    ip: str
    services: tuple[Service, ...] = ()
    stack: str = ""


Named = Pool | Server | Balancer


def owner(thing: Named, stacks: Iterable[str]) -> str:
    """
    Tell which stack a thing is of: by its label, else by the longest name that its own begins with.

    Args:
        stacks: Names of all stacks that are known. None of them fits: an empty text.
    """
    if thing.stack:
        return thing.stack
    fitting = [name for name in stacks if thing.name == name or thing.name.startswith(f"{name}-")]
    return max(fitting, key=len, default="")

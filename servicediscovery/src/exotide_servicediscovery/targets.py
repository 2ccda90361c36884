"""Who the members are, and what Prometheus reads about them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

LEAVING: Final = frozenset({"destroying", "destroyed", "expunging"})
"""States of instances that will never answer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A member of the pool, as the API describes it."""

    id: str
    name: str
    state: str
    ip: IPv4Address | None
    """None: it has no public address (yet)."""

    @property
    def scrapable(self) -> bool:
        """Whether Prometheus can be expected to reach it, now or when it has booted."""
        return self.ip is not None and self.state not in LEAVING


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pool and all its members."""

    id: str
    name: str
    instances: tuple[Instance, ...]

    @property
    def members(self) -> tuple[Instance, ...]:
        """Those that become targets, by address."""
        return tuple(sorted(filter(_scrapable, self.instances), key=_place))


def render(pool: Pool, *, zone: str, port: int) -> bytes:
    """Return the file_sd document: one group per member; equal members give equal bytes."""
    groups = [
        {
            "targets": [f"{member.ip}:{port}"],
            "labels": {
                "instance_id": member.id,
                "instance_name": member.name,
                "pool": pool.name,
                "pool_id": pool.id,
                "zone": zone,
            },
        }
        for member in pool.members
    ]
    return json.dumps(groups, indent=2).encode("ascii") + b"\n"


def count_skipped(instances: Iterable[Instance]) -> int:
    """Count members that are left out: without an address, or on their way out."""
    return sum(not instance.scrapable for instance in instances)


def _scrapable(instance: Instance) -> bool:
    return instance.scrapable


def _place(instance: Instance) -> tuple[IPv4Address, str]:
    assert instance.ip is not None
    return instance.ip, instance.id

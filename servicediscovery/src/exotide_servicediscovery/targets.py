"""Who the members are, and what Prometheus reads about them. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

Address = IPv4Address | IPv6Address

LEAVING: Final = frozenset({"destroying", "destroyed", "expunging"})
"""States of instances that will never answer again."""
BROKEN: Final = "error"
"""State of an instance that could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A member of the pool, as the API describes it."""

    id: str
    name: str
    state: str
    ip: Address | None
    """None: it has no public address (yet)."""
    unusable: str = ""
    """What the API gives as its address, if no member can have it."""

    @property
    def why_left_out(self) -> str:
        """
        Why Prometheus cannot be expected to reach it, now or when it has booted; empty if it can.

        One that is stopped stays: who stopped it may start it again, and its silence is news. One
        in state `error` never measured anything and never will. As a silent target it would count
        as busy, and so keep the pool from shrinking, which is what removes it.
        """
        if self.state in LEAVING or self.state == BROKEN:
            return f"its state is {self.state}"
        if self.unusable:
            return f"no member can have its address, {self.unusable}"
        return "" if self.ip is not None else "it has no public address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pool and all its members."""

    id: str
    name: str
    instances: tuple[Instance, ...]

    @property
    def members(self) -> tuple[Instance, ...]:
        """Those that become targets, by address."""
        return tuple(sorted((each for each in self.instances if not each.why_left_out), key=_place))

    @property
    def left_out(self) -> dict[str, str]:
        """Why the others do not, by their ids."""
        return {each.id: each.why_left_out for each in self.instances if each.why_left_out}


def render(pool: Pool, *, zone: str, port: int) -> bytes:
    """Return the file_sd document: one group per member; equal members give equal bytes."""
    groups = [
        {
            "targets": [_target(member, port)],
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


def _target(member: Instance, port: int) -> str:
    return f"[{member.ip}]:{port}" if isinstance(member.ip, IPv6Address) else f"{member.ip}:{port}"


def _place(instance: Instance) -> tuple[int, int, str]:
    assert instance.ip is not None
    return instance.ip.version, int(instance.ip), instance.id

"""What a security group is, and how the API shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exotide.cloud.firewall import Firewall

HEALTH_CHECKERS: Final = "public-nlb-healthcheck-sources"
MANAGED: Final = (HEALTH_CHECKERS, "public-sks-apiservers")
"""Groups that Exoscale keeps; `visibility=public` lists them, and rules may name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    id: str
    sent: Mapping[str, object]
    """Exactly the fields that were sent: clients find their rule by comparing them."""
    source_group: str | None = None
    """The id of the private group that the rule names, if it names one."""

    def view(self) -> dict[str, object]:
        """Return the rule as the API shows it."""
        return {"id": self.id, **self.sent}


@dataclass(slots=True, kw_only=True)
class SecurityGroup:
    id: str
    name: str
    description: str = ""
    rules: dict[str, Rule] = field(default_factory=dict)
    external_sources: tuple[str, ...] = ()
    """Networks that count as members, where a rule names this group as source."""

    def view(self) -> dict[str, object]:
        """Return the group with its rules."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "external-sources": list(self.external_sources),
            "rules": [rule.view() for rule in self.rules.values()],
        }
        if self.description:
            shown["description"] = self.description
        return shown


@dataclass(slots=True, kw_only=True)
class Filters:
    """What the servers' filters are known to be, and which changes are on their way to them."""

    handed: dict[str, Firewall] = field(default_factory=dict)
    """What the driver was given last, by instance."""
    known: dict[tuple[str, ...], Firewall] = field(default_factory=dict)
    """The filter of each combination of groups; empty after every change."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held during a round."""
    asked: int = 0
    """Number of the newest request for a round."""
    done: int = 0
    """Number of the newest request that a round has covered."""
    faults: list[str] = field(default_factory=list)
    """What went wrong in the last round."""

"""What an anti-affinity group is, and how the API shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class AntiAffinityGroup:
    """
    Instances that shall not share a host; who is in it stands in the instances' plans.

    There is one host here, so that the group only limits how many may be in it.
    """

    id: str
    name: str
    description: str = ""

    def view(self, instances: Iterable[str]) -> dict[str, object]:
        """Return the group with the ids of its instances."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "instances": [{"id": instance} for instance in instances],
        }
        if self.description:
            shown["description"] = self.description
        return shown

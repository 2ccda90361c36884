"""What an instance pool is, and how the API shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from exotide.cloud.api.instances.model import Plan
from exotide.cloud.api.states import PoolState, require

DEFAULT_PREFIX: Final = "pool"
"""What the names of members begin with."""


@dataclass(slots=True, kw_only=True)
class Pool:
    """
    A group of like instances that keeps its size.

    Its size *is* the number of its members: one that is lost is replaced in the same step.
    """

    id: str
    zone: str
    name: str
    plan: Plan
    """What the next members will be; existing ones keep theirs."""
    description: str = ""
    instance_prefix: str = DEFAULT_PREFIX
    min_available: int = 0
    members: list[str] = field(default_factory=list)
    """Instance ids, the oldest first. One that is being destroyed is no member any more."""
    state: PoolState = PoolState.CREATING

    def become(self, wanted: PoolState) -> None:
        require(self.state, wanted)
        self.state = wanted

    @property
    def size(self) -> int:
        return len(self.members)

    def view(self) -> dict[str, object]:
        """Return the pool as the API shows it."""
        plan = self.plan
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "size": self.size,
            "min-available": self.min_available,
            "disk-size": plan.disk_gib,
            "instance-prefix": self.instance_prefix,
            "instance-type": {"id": plan.instance_type.id},
            "template": {"id": plan.template.id},
            "labels": plan.labels,
            "public-ip-assignment": plan.public_ip_assignment,
            "ipv6-enabled": False,
            "instances": [{"id": member} for member in self.members],
        }
        if self.description:
            shown["description"] = self.description
        if plan.user_data:
            shown["user-data"] = plan.user_data
        if plan.security_groups:
            shown["security-groups"] = [{"id": group} for group in plan.security_groups]
        if plan.anti_affinity_groups:
            shown["anti-affinity-groups"] = [{"id": group} for group in plan.anti_affinity_groups]
        if plan.ssh_keys:
            shown["ssh-keys"] = [{"name": name} for name in plan.ssh_keys]
            shown["ssh-key"] = {"name": plan.ssh_keys[0]}
        return shown

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
    A group of like instances that keeps its size: a member that is lost is replaced in one step.

    The size is what was asked for. On good days there are as many members as soon as a change is
    accepted; on bad ones some never come, go late, or come back: see `faults.pools`.
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
    size: int = -1
    """Members that are wanted; -1: as many as there are, for pools that were stored without it."""
    state: PoolState = PoolState.CREATING
    is_size_late: bool = False
    """Whether the number of members is shown as size, because a fault says so."""

    def __post_init__(self) -> None:
        if self.size < 0:
            self.size = len(self.members)

    def become(self, wanted: PoolState) -> None:
        require(self.state, wanted)
        self.state = wanted

    @property
    def missing(self) -> int:
        """How many members have still to come; below 0: how many have still to go."""
        return self.size - len(self.members)

    def view(self) -> dict[str, object]:
        """Return the pool as the API shows it."""
        plan = self.plan
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "size": len(self.members) if self.is_size_late else self.size,
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

"""What an instance is, and how the API shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from exotide.cloud.api.catalogue import InstanceType, Template
from exotide.cloud.api.states import InstanceState, require

_NO_HOST_NAME: Final = re.compile(r"[^A-Za-z0-9.-]+|\.{2,}")
_LONGEST_HOST_NAME: Final = 63
"""As Linux and DNS allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides what a new instance will be; a pool holds one for its members."""

    instance_type: InstanceType
    template: Template
    disk_gib: int
    user_data: str = field(default="", repr=False)
    """As sent, in base64; it is never encoded anew."""
    boot_data: bytes = field(default=b"", repr=False)
    """What the server finds: decoded, and unzipped if it was zipped."""
    labels: dict[str, str] = field(default_factory=dict)
    security_groups: tuple[str, ...] = ()
    anti_affinity_groups: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    public_ip_assignment: str = "inet4"


@dataclass(slots=True, kw_only=True)
class Instance:
    """One emulated server."""

    id: str
    zone: str
    name: str
    plan: Plan
    ip: str
    created_at: str
    pool_id: str | None = None
    """Its manager. It stays set while a former member is being destroyed."""
    protected: bool = False
    """Whether every destruction is refused."""
    domain_name: str | None = None
    """What its address resolves to."""
    state: InstanceState = InstanceState.STARTING

    def become(self, wanted: InstanceState) -> None:
        require(self.state, wanted)
        self.state = wanted

    @property
    def host_name(self) -> str:
        """The name as its server may bear it: an instance's name may hold any character."""
        plain = _NO_HOST_NAME.sub("-", self.name).strip("-.")
        return plain[:_LONGEST_HOST_NAME].rstrip("-.") or "server"

    @property
    def counts(self) -> bool:
        """Whether it uses up quota."""
        return self.state is not InstanceState.DESTROYING

    def summary(self) -> dict[str, object]:
        """Return what a list shows."""
        plan = self.plan
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "created-at": self.created_at,
            "instance-type": plan.instance_type.view(),
            "template": plan.template.view(),
            "public-ip": self.ip,
            "public-ip-assignment": plan.public_ip_assignment,
            "mac-address": mac_of(self.ip),
            "labels": plan.labels,
        }
        if plan.security_groups:
            shown["security-groups"] = [{"id": group} for group in plan.security_groups]
        if plan.ssh_keys:
            shown["ssh-keys"] = [{"name": name} for name in plan.ssh_keys]
            shown["ssh-key"] = {"name": plan.ssh_keys[0]}
        if self.pool_id is not None:
            shown["manager"] = {"id": self.pool_id, "type": "instance-pool"}
        return shown

    def view(self) -> dict[str, object]:
        """Return everything."""
        shown = self.summary() | {
            "disk-size": self.plan.disk_gib,
            "tpm-enabled": False,
            "secureboot-enabled": False,
        }
        if self.plan.anti_affinity_groups:
            groups = self.plan.anti_affinity_groups
            shown["anti-affinity-groups"] = [{"id": group} for group in groups]
        if self.plan.user_data:
            shown["user-data"] = self.plan.user_data
        return shown


def mac_of(ip: str) -> str:
    """Derive the address of the network card: a reused IP then never meets a stale neighbour."""
    return "02:77:" + IPv4Address(ip).packed.hex(":")

"""What the stack's callers see: the finished stack, and the steps on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from .userdata import PROMETHEUS_PORT, STATUS_PORT

HTTP: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack that exists: where it is and what it is made of. Holds no secret."""

    name: str
    zone: str
    members_group_id: str
    monitoring_group_id: str
    pool_id: str
    pool_name: str
    nlb_id: str
    nlb_ip: str
    service_id: str
    monitoring_id: str
    monitoring_ip: str
    http_port: int = 80
    """Where the balancer's port 80 is reached."""

    @property
    def url(self) -> str:
        """The application, through the load balancer."""
        port = "" if self.http_port == HTTP else f":{self.http_port}"
        return f"http://{self.nlb_ip}{port}"

    @property
    def prometheus_url(self) -> str:
        """Prometheus on the monitoring server."""
        return f"http://{self.monitoring_ip}:{PROMETHEUS_PORT}"

    @property
    def autoscaler_url(self) -> str:
        """The autoscaler's status, metrics and decisions; not its webhooks."""
        return f"http://{self.monitoring_ip}:{STATUS_PORT}"


class Action(StrEnum):
    """What happened to a resource. Used verbatim as log value."""

    FOUND = "found"
    CREATED = "created"
    REPLACED = "replaced"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One resource was dealt with."""

    action: Action
    kind: str
    """Such as `security group`."""
    name: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.action}"


Progress: TypeAlias = Callable[[Step], None]
"""Is told each step, on the thread that creates or destroys."""


def silent(step: Step) -> None:
    """Say nothing."""

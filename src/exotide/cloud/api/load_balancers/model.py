"""What a network load balancer and its services are, and how the API shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from exotide.cloud.api.states import BalancerState, ServiceState, require
from exotide.cloud.ports import HealthCheck, ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A health check as the API knows it; times in whole seconds, not divided by any speed."""

    mode: str
    port: int
    interval_s: int = 10
    timeout_s: int = 2
    retries: int = 1
    uri: str | None = None
    tls_sni: str | None = None

    def view(self) -> dict[str, object]:
        """Return the check as the API shows it."""
        shown: dict[str, object] = {
            "mode": self.mode,
            "port": self.port,
            "interval": self.interval_s,
            "timeout": self.timeout_s,
            "retries": self.retries,
        }
        if self.uri is not None:
            shown["uri"] = self.uri
        if self.tls_sni is not None:
            shown["tls-sni"] = self.tls_sni
        return shown


@dataclass(slots=True, kw_only=True)
class Service:
    """One port of a load balancer and the pool behind it."""

    id: str
    name: str
    pool_id: str
    port: int
    target_port: int
    protocol: str
    strategy: str
    check: Check
    description: str = ""
    state: ServiceState = ServiceState.CREATING
    exists_below: bool = False
    """Whether the driver knows the service, so that members may be set."""
    is_behind: bool = False
    """Whether the driver has refused the last member list; it is told again until it takes one."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)
    """Held during a call to the driver about this service: the last member list wins."""

    def become(self, wanted: ServiceState) -> None:
        require(self.state, wanted)
        self.state = wanted

    def spec(self, speed: float) -> ServiceSpec:
        """Return what the driver needs; only the pause between checks follows the speed."""
        return ServiceSpec(
            id=self.id,
            name=self.name,
            port=self.port,
            target_port=self.target_port,
            strategy=self.strategy,
            protocol=self.protocol,
            healthcheck=HealthCheck(
                mode=self.check.mode,
                port=self.check.port,
                interval_s=self.check.interval_s / speed,
                timeout_s=float(self.check.timeout_s),
                retries=self.check.retries,
                uri=self.check.uri,
            ),
        )

    def view(self, health: Sequence[tuple[str, bool]]) -> dict[str, object]:
        """Return the service with the health of its members, each an address and a verdict."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "instance-pool": {"id": self.pool_id},
            "protocol": self.protocol,
            "strategy": self.strategy,
            "port": self.port,
            "target-port": self.target_port,
            "healthcheck": self.check.view(),
            "healthcheck-status": [
                {"public-ip": ip, "status": "success" if good else "failure"} for ip, good in health
            ],
        }
        if self.description:
            shown["description"] = self.description
        return shown


@dataclass(slots=True, kw_only=True)
class LoadBalancer:
    """A public address with up to ten services."""

    id: str
    zone: str
    name: str
    ip: str
    created_at: str
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    state: BalancerState = BalancerState.CREATING

    def become(self, wanted: BalancerState) -> None:
        require(self.state, wanted)
        self.state = wanted

    def view(self, services: Sequence[dict[str, object]]) -> dict[str, object]:
        """Return the balancer with the views of its services."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "ip": self.ip,
            "created-at": self.created_at,
            "labels": self.labels,
            "services": list(services),
        }
        if self.description:
            shown["description"] = self.description
        return shown

"""Which traffic the stack's security groups let in."""

from __future__ import annotations

from dataclasses import dataclass

from .api import Json
from .settings import StackSettings
from .userdata import APP_PORT, EXPORTER_PORT, PROMETHEUS_PORT, STATUS_PORT

ANYWHERE = "0.0.0.0/0"
HEALTH_CHECKERS = "public-nlb-healthcheck-sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """TCP to one port, from one kind of source."""

    port: int
    description: str
    network: str = ""
    group_id: str = ""
    public_group: str = ""

    def arguments(self) -> Json:
        """What the SDK's call takes."""
        return {
            "flow_direction": "ingress",
            "protocol": "tcp",
            "start_port": self.port,
            "end_port": self.port,
            "description": self.description,
        } | self._source()

    def allows_like(self, shown: Json) -> bool:
        """Whether a rule that the API shows lets in the same traffic."""
        group = shown.get("security-group") or {}
        return (
            shown.get("flow-direction") == "ingress"
            and shown.get("protocol") == "tcp"
            and (shown.get("start-port"), shown.get("end-port")) == (self.port, self.port)
            and shown.get("network", "") == self.network
            and (not self.group_id or group.get("id") == self.group_id)
            and (not self.public_group or group.get("name") == self.public_group)
        )

    def _source(self) -> Json:
        if self.network:
            return {"network": self.network}
        if self.group_id:
            return {"security_group": {"id": self.group_id, "visibility": "private"}}
        return {"security_group": {"name": self.public_group, "visibility": "public"}}


def member_rules(*, monitoring_group_id: str) -> tuple[Rule, ...]:
    """The balancer keeps the client's address, so the application is open to all."""
    return (
        Rule(port=APP_PORT, network=ANYWHERE, description="clients of the load balancer"),
        Rule(port=APP_PORT, public_group=HEALTH_CHECKERS, description="health checks"),
        Rule(port=EXPORTER_PORT, group_id=monitoring_group_id, description="Prometheus"),
    )


def monitoring_rules(settings: StackSettings) -> tuple[Rule, ...]:
    """What the operator may open; the webhooks' port is not among it."""
    network = settings.operator_cidr
    return (
        Rule(port=PROMETHEUS_PORT, network=network, description="Prometheus for the operator"),
        Rule(port=STATUS_PORT, network=network, description="autoscaler status for the operator"),
    )

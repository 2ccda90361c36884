"""One Exoscale API, emulated or real, and what the contract's tests do with it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from exotide.cloud.faults.engine import Armed
from exotide.cloud.faults.model import Effect, Fault, Selector, Timing
from exotide.cloud.testing import RunningCloud
from exotide.cost.prices import LOAD_BALANCER_PER_HOUR, server_per_hour

T = TypeVar("T")
DISK_GIB: Final = 10
MOST_SERVERS: Final = 2


def euro_per_hour() -> float:
    """What a run on the real cloud costs at most."""
    return (
        MOST_SERVERS * server_per_hour("standard.micro", disk_gib=DISK_GIB) + LOAD_BALANCER_PER_HOUR
    )


@dataclass(kw_only=True)
class Site:
    """An account on one cloud; everything made in it carries the prefix."""

    client: Any
    zone: str
    open_port: int
    """A TCP port on which every server of this cloud answers by itself."""
    poll_s: float
    patience_s: float
    cloud: RunningCloud | None = None
    """Where faults can be had on demand; None: the real one has its own."""
    prefix: str = field(default_factory=lambda: f"exotide-contract-{uuid.uuid4().hex[:8]}")

    def done(self, operation: dict[str, Any]) -> str:
        """Wait for success; give the id of what the operation was about."""
        ended = self.ended(operation)
        assert ended["state"] == "success", ended
        return str(ended["reference"]["id"])

    def ended(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Wait until an operation is over."""

        def look() -> dict[str, Any] | None:
            seen: dict[str, Any] = self.client.get_operation(id=operation["id"])
            return None if seen["state"] == "pending" else seen

        return self.eventually(look, f"an end of operation {operation['id']}")

    def eventually(self, look: Callable[[], T | None], what: str) -> T:
        """Real time, since nobody tells us when a cloud is done."""
        deadline_s = time.monotonic() + self.patience_s
        while (found := look()) is None:
            assert time.monotonic() < deadline_s, f"no {what} within {self.patience_s:g} s"
            time.sleep(self.poll_s)
        return found

    def plan(self) -> dict[str, Any]:
        """Return the smallest server that there is."""
        types = self.client.list_instance_types()["instance-types"]
        micro = next(
            each for each in types if (each["family"], each["size"]) == ("standard", "micro")
        )
        templates = self.client.list_templates(visibility="public")["templates"]
        debian = next(each for each in templates if each["name"].startswith("Linux Debian 12"))
        return {
            "instance_type": {"id": micro["id"]},
            "template": {"id": debian["id"]},
            "disk_size": DISK_GIB,
        }

    def pool(self, pool_id: str) -> dict[str, Any]:
        """Read a pool once it has come to rest."""

        def look() -> dict[str, Any] | None:
            seen: dict[str, Any] = self.client.get_instance_pool(id=pool_id)
            return seen if seen["state"] == "running" else None

        return self.eventually(look, f"rest of pool {pool_id}")

    def members(self, pool_id: str) -> list[str]:
        """Return the ids of a pool's members."""
        return [each["id"] for each in self.pool(pool_id).get("instances", ())]

    def scale(self, pool_id: str, size: int) -> list[str]:
        """Bring a pool to a size and give its members."""
        self.pool(pool_id)
        self.done(self.client.scale_instance_pool(id=pool_id, size=size))
        return self.members(pool_id)

    def fault(
        self, effect: Effect, *, operation: str | None = None, count: int | None = None
    ) -> Armed:
        """Let something go wrong."""
        cloud = self._faulty()
        fault = Fault(
            effect=effect,
            selector=Selector(operation=operation),
            timing=Timing(seed=1, count=count),
        )
        return cloud.on_loop(lambda: cloud.cloud.world.faults.add(fault))

    def mend(self) -> None:
        """Let nothing go wrong any more."""
        self._faulty().on_loop(self._faulty().cloud.world.faults.clear)

    def _faulty(self) -> RunningCloud:
        assert self.cloud is not None, "this cloud has no faults on demand"
        return self.cloud

    def addresses(self, pool_id: str) -> set[str]:
        """Return the public addresses of a pool's members."""
        return {self.client.get_instance(id=key)["public-ip"] for key in self.members(pool_id)}

    def clean(self) -> None:
        """Remove everything that carries the prefix, in the order that dependencies ask for."""
        for balancer in self._mine("load-balancers", self.client.list_load_balancers()):
            self.done(self.client.delete_load_balancer(id=balancer))
        for pool in self._mine("instance-pools", self.client.list_instance_pools()):
            self.pool(pool)
            self.done(self.client.delete_instance_pool(id=pool))
        for instance in self._mine("instances", self.client.list_instances()):
            self.done(self.client.delete_instance(id=instance))
        for group in self._mine("security-groups", self.client.list_security_groups()):
            self.done(self.client.delete_security_group(id=group))

    def left(self) -> list[str]:
        """Return the ids of everything that carries the prefix."""
        return [
            *self._mine("load-balancers", self.client.list_load_balancers()),
            *self._mine("instance-pools", self.client.list_instance_pools()),
            *self._mine("instances", self.client.list_instances()),
            *self._mine("security-groups", self.client.list_security_groups()),
        ]

    def _mine(self, kind: str, answer: dict[str, Any]) -> list[str]:
        return [each["id"] for each in answer[kind] if each["name"].startswith(self.prefix)]

"""
The state of one local cloud, and what its rules need: drivers, clock, ids, pace.

Everything runs on one event loop. A rule that accepts a request never awaits, so that each request
sees and leaves a consistent world; slow work goes on in operations.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from exotide.cloud.api.anti_affinity_groups.model import AntiAffinityGroup
from exotide.cloud.api.catalogue import QUOTAS
from exotide.cloud.api.errors import Conflict, NotFound, QuotaExceeded
from exotide.cloud.api.iam.model import Iam
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.load_balancers.model import LoadBalancer, Service
from exotide.cloud.api.operations import Background, Operations
from exotide.cloud.api.security_groups.model import Filters, SecurityGroup
from exotide.cloud.faults.engine import Faults
from exotide.cloud.ports import STOP_GRACE_S, Balancers, OutOfAddresses, Servers

_LONGEST_PAUSE_S: Final = 30.0
_SUFFIX: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast things happen here; chosen by whoever starts the cloud."""

    speed: float = 1.0
    """Divides the boot delay, the pause between health checks and the pause between retries."""
    boot_delay_s: float = 0.0
    """Seconds between power-on and a server's first program, at speed 1."""
    operation_delay_s: float = 0.0
    """Seconds that every operation stays pending at least."""
    stop_grace_s: float = STOP_GRACE_S
    """Seconds that a server's programs have between TERM and KILL; not divided by the speed."""
    retry_s: float = 1.0
    """First pause before something that failed below is tried again; doubles to 30 s."""

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each further attempt, without end."""
        pause_s = self.retry_s
        while True:
            yield pause_s / self.speed
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKey:
    name: str
    fingerprint: str
    public_key: str = ""
    """As sent: type, base64, comment. The API never shows it; a server that has it does."""

    def view(self) -> dict[str, object]:
        """Return the key as the API shows it."""
        return {"name": self.name, "fingerprint": self.fingerprint}


@dataclass(slots=True, kw_only=True)
class World:
    """Everything that exists in the local cloud, of all zones."""

    servers: Servers
    balancers: Balancers
    secrets: dict[str, str] = field(repr=False)
    """The secret of each valid API key."""
    iam: Iam = field(default_factory=Iam)
    """Which roles there are, and which of the keys is bound to which."""
    pace: Pace = field(default_factory=Pace)
    quotas: Mapping[str, int] = field(default_factory=lambda: QUOTAS)
    """How many of each the organisation may have; -1 is any number."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    chance: random.Random = field(default_factory=random.SystemRandom)
    background: Background = field(default_factory=Background)
    faults: Faults = field(default_factory=Faults)
    ssh_keys: dict[str, SshKey] = field(default_factory=dict)
    security_groups: dict[str, SecurityGroup] = field(default_factory=dict)
    anti_affinity_groups: dict[str, AntiAffinityGroup] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    load_balancers: dict[str, LoadBalancer] = field(default_factory=dict)
    filters: Filters = field(default_factory=Filters)
    operations: Operations = field(init=False)

    def __post_init__(self) -> None:
        self.operations = Operations(
            background=self.background,
            new_id=self.new_id,
            delay_s=self.pace.operation_delay_s,
        )

    def new_id(self) -> str:
        """Return a fresh UUID."""
        return str(UUID(int=self.chance.getrandbits(128), version=4))

    def suffix(self) -> str:
        """Return five random letters or digits, as in a member's name."""
        return "".join(self.chance.choices(_SUFFIX, k=5))

    def stamp(self) -> str:
        """Return the time as the API writes it."""
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def reserve_ip(self) -> str:
        """
        Take an address.

        Raises:
            Conflict: There is none left.
        """
        try:
            return self.servers.reserve_ip()
        except OutOfAddresses as error:
            raise Conflict("the zone has no public address left; delete something first") from error

    def instance(self, zone: str, key: str) -> Instance:
        """Find an instance, or raise NotFound."""
        found = self.instances.get(key)
        if found is None or found.zone != zone:
            raise NotFound.of("instance", key)
        return found

    def pool(self, zone: str, key: str) -> Pool:
        """Find a pool, or raise NotFound."""
        found = self.pools.get(key)
        if found is None or found.zone != zone:
            raise NotFound.of("instance pool", key)
        return found

    def load_balancer(self, zone: str, key: str) -> LoadBalancer:
        """Find a load balancer, or raise NotFound."""
        found = self.load_balancers.get(key)
        if found is None or found.zone != zone:
            raise NotFound.of("load balancer", key)
        return found

    def services_of(self, pool_id: str) -> list[tuple[LoadBalancer, Service]]:
        """Return the services that send traffic to a pool."""
        return [
            (balancer, service)
            for balancer in self.load_balancers.values()
            for service in balancer.services.values()
            if service.pool_id == pool_id
        ]

    def members(self, pool_id: str) -> Iterable[Instance]:
        """Return the members of a pool, the oldest first; none if the pool is gone."""
        pool = self.pools.get(pool_id)
        return [] if pool is None else [self.instances[member] for member in pool.members]

    def usage(self, resource: str) -> int:
        """Return how many of a quota are in use."""
        if resource == "instance":
            return sum(instance.counts for instance in self.instances.values())
        if resource == "network-load-balancer":
            return len(self.load_balancers)
        return 0

    def limit(self, resource: str) -> int:
        """Return how many of a quota the organisation may have."""
        return self.faults.limit(resource, self.quotas[resource])

    def require_quota(self, resource: str, wanted: int) -> None:
        """
        Check that so many more may be made.

        Raises:
            QuotaExceeded: They may not.
        """
        limit, usage = self.limit(resource), self.usage(resource)
        if 0 <= limit < usage + wanted:
            raise QuotaExceeded.of(resource, limit=limit, usage=usage, wanted=wanted)

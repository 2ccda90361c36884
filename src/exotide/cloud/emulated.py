"""
Drivers without a process: servers that only exist in the API, balancers that find all well.

For work on the API alone, and for clouds larger than this machine could run. Needs no rights.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final

from exotide.cloud.firewall import Firewall
from exotide.cloud.ports import STOP_GRACE_S, OutOfAddresses, ServerFailed, ServerSpec, ServiceSpec
from exotide.cloud.servers.errors import UnknownBalancer, UnknownServer
from exotide.cloud.servers.leftovers import Lease

NETWORK: Final = "198.19.0.0/16"
"""For benchmarks of networks (RFC 2544): nobody's real address."""


@dataclass(slots=True, eq=False)
class _Server:
    """`stopped` cuts a boot short."""

    runs: bool = False
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class EmulatedServers:
    """
    Adapter of ports.Servers: a boot takes its delay, and nothing else happens.

    Args:
        take_lease: Makes the cloud's folder, by which it is found. None: it needs none.
    """

    def __init__(
        self,
        *,
        network: str = NETWORK,
        take_lease: Callable[[], Awaitable[Lease]] | None = None,
    ) -> None:
        self._network, self._take_lease = network, take_lease
        self._lease: Lease | None = None
        self._fresh: Iterator[str] = map(str, IPv4Network(network).hosts())
        self._returned: deque[str] = deque()
        self._given: set[str] = set()
        self._servers: dict[str, _Server] = {}
        self._on_death: list[Callable[[str, str], None]] = []

    async def open(self) -> None:
        """Make the cloud's folder. Raises NoPermission where that is not possible."""
        if self._lease is None and self._take_lease is not None:
            self._lease = await self._take_lease()

    async def close(self) -> None:
        """Forget every server, and remove the folder."""
        for server_id in list(self._servers):
            await self.stop(server_id)
        if self._lease is not None:
            self._lease.end()
            self._lease = None

    async def leave(self) -> None:
        """Forget every server: `adopt` believes what it is told."""
        await self.close()

    async def adopt(self, spec: ServerSpec) -> bool:
        """Go on as if the server had run all the time."""
        self._servers[spec.id] = _Server(runs=True)
        return True

    async def prune(self, known: Collection[str]) -> None:
        """Find nothing: a predecessor leaves nothing behind."""
        assert all(server_id in known for server_id in self._servers)

    def claim_ip(self, ip: str) -> None:
        """Give out this very address. Raises OutOfAddresses when it is given out already."""
        if ip in self._given:
            raise OutOfAddresses(f"address {ip} is given out twice")
        self._given.add(ip)

    def reserve_ip(self) -> str:
        """Give out a fresh address, or the one that was given back longest ago."""
        for ip in self._fresh:
            if ip not in self._given:
                self._given.add(ip)
                return ip
        if not self._returned:
            raise OutOfAddresses(f"all addresses of {self._network} are in use")
        ip = self._returned.popleft()
        self._given.add(ip)
        return ip

    def release_ip(self, ip: str) -> None:
        """Take an address back; one that was not given out is ignored."""
        if ip in self._given:
            self._given.remove(ip)
            self._returned.append(ip)

    async def start(self, spec: ServerSpec) -> None:
        """Let the boot delay pass. Raises ServerFailed when a stop cuts it short."""
        server = self._servers.setdefault(spec.id, _Server())
        if spec.boot_delay_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.stopped.wait(), spec.boot_delay_s)
        if server.stopped.is_set():
            raise ServerFailed(f"server {spec.name} was stopped while it booted")
        server.runs = True

    async def stop(self, server_id: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """Forget a server; it has no program that could want the grace."""
        server = self._servers.pop(server_id, None)
        if server is not None and grace_s >= 0:
            server.stopped.set()

    async def reboot(self, server_id: str) -> None:
        """Check that the server runs. Raises UnknownServer."""
        server = self._servers.get(server_id)
        if server is None or not server.runs:
            raise UnknownServer(f"server {server_id} was not started, or is stopped")

    async def crash(self, server_id: str) -> None:
        """Forget a server and report its death. Raises UnknownServer."""
        await self.reboot(server_id)
        del self._servers[server_id]
        for callback in self._on_death:
            callback(server_id, "killed on demand")

    async def freeze(self, server_id: str) -> None:
        """Check that the server runs: it has no program that could stand still."""
        await self.reboot(server_id)

    async def thaw(self, server_id: str) -> None:
        """Check that the server runs."""
        await self.reboot(server_id)

    async def set_firewall(self, server_id: str, firewall: Firewall) -> None:
        """Do nothing: there is no packet to filter."""

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        """Call callback(server_id, reason) when a server dies, which is on demand only."""
        self._on_death.append(callback)


class EmulatedBalancers:
    """Adapter of ports.Balancers: every member is healthy as soon as it is one."""

    def __init__(self) -> None:
        self._members: dict[str, dict[str, tuple[str, ...]]] = {}
        """By balancer, then by service."""

    @property
    def lags(self) -> bool:
        """Never: there is nobody to check."""
        return False

    async def create(self, nlb_id: str, ip: str) -> None:
        """Remember the balancer; its address serves nobody."""
        self._members.setdefault(nlb_id, {})
        assert ip

    async def adopt(self, nlb_id: str, ip: str, services: Sequence[ServiceSpec]) -> None:
        """Go on as if the balancer had run all the time."""
        await self.create(nlb_id, ip)
        for service in services:
            await self.put_service(nlb_id, service)

    async def leave(self) -> None:
        """Forget every balancer: `adopt` believes what it is told."""
        await self.close()

    async def delete(self, nlb_id: str) -> None:
        """Forget the balancer with all its services."""
        self._members.pop(nlb_id, None)

    async def close(self) -> None:
        """Forget every balancer."""
        self._members.clear()

    async def put_service(self, nlb_id: str, service: ServiceSpec) -> None:
        """Remember the service; its members stay."""
        self._services(nlb_id).setdefault(service.id, ())

    async def delete_service(self, nlb_id: str, service_id: str) -> None:
        """Forget the service; fine if it is gone."""
        self._members.get(nlb_id, {}).pop(service_id, None)

    async def set_members(self, nlb_id: str, service_id: str, ips: Sequence[str]) -> None:
        """Bring the members to exactly these addresses."""
        self._require(nlb_id, service_id)
        self._members[nlb_id][service_id] = tuple(ips)

    async def wait_drained(self, nlb_id: str, service_id: str, ip: str, *, within_s: float) -> bool:
        """Find no connection: there never is one."""
        self._require(nlb_id, service_id)
        return within_s >= 0 and ip not in self._members[nlb_id][service_id]

    def health(self, nlb_id: str, service_id: str) -> dict[str, bool]:
        """Find every member healthy."""
        self._require(nlb_id, service_id)
        return dict.fromkeys(self._members[nlb_id][service_id], True)

    def _services(self, nlb_id: str) -> dict[str, tuple[str, ...]]:
        try:
            return self._members[nlb_id]
        except KeyError:
            raise UnknownBalancer(f"load balancer {nlb_id} does not exist") from None

    def _require(self, nlb_id: str, service_id: str) -> None:
        if service_id not in self._services(nlb_id):
            raise UnknownBalancer(f"load balancer {nlb_id} has no service {service_id}")

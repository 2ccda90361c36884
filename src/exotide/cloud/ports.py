"""What the emulated API asks of the machine below it: servers that run, balancers that balance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from exotide.cloud.firewall import Firewall

METADATA_IP: Final = "169.254.169.254"
"""Where each server finds out about itself."""
METADATA_PORT: Final = 80
PASSWORD_PORT: Final = 8080
"""Where a server asks, at the same address, for the password of its administrator."""
STOP_GRACE_S: Final = 60.0
"""What programs have between TERM and KILL: a member drains for 20 s and finishes for 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One emulated server, as the API's instance describes it."""

    id: str
    """The instance's UUID."""
    name: str
    """A host name: at most 63 letters, digits, dots and hyphens, made from the instance's name."""
    ip: str
    """The public IPv4 address that the driver gave out with `reserve_ip`."""
    vcpus: int
    memory_bytes: int
    labels: dict[str, str] = field(default_factory=dict)
    """`role` chooses what a process server runs: member, monitoring, or only the exporter."""
    user_data: bytes = field(default=b"", repr=False)
    """Decoded (and unzipped) user-data; empty if none was given. May hold secrets: not in repr."""
    firewall: Firewall = field(default_factory=Firewall)
    """Filters from the first packet on; by default nothing reaches the server."""
    boot_delay_s: float = 0.0
    """Time that passes between power-on and the first program, as a real boot would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How a balancer finds out whether a member may get traffic; times in seconds."""

    mode: str
    """tcp or http (https is treated as tcp with TLS unverified)."""
    port: int
    interval_s: float
    timeout_s: float
    retries: int
    uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service of a load balancer; its members are set apart, since they change often."""

    id: str
    name: str
    port: int
    target_port: int
    strategy: str
    """round-robin, source-hash or maglev-hash."""
    protocol: str
    """tcp or udp."""
    healthcheck: HealthCheck


class Servers(Protocol):
    """
    Runs servers. Adapters: servers.processes (namespaces), testing.FakeServers (no process).

    Every method is asynchronous and never blocks the event loop. All are idempotent. Calls about
    one server may overlap: the adapter puts them in order, and a stop cuts a boot short.
    """

    async def open(self) -> None:
        """Prepare the host: remove what a killed predecessor left, make the network."""

    async def close(self) -> None:
        """Stop every server and remove every trace."""

    async def leave(self) -> None:
        """
        End without stopping the servers: a successor adopts them. Instead of `close`.

        A driver whose servers cannot outlive this process stops them.
        """

    async def adopt(self, spec: ServerSpec) -> bool:
        """Take over a server that a predecessor left; False if it does not run any more."""

    async def prune(self, known: Collection[str]) -> None:
        """Remove what a predecessor left of servers and balancers other than these ids."""

    def claim_ip(self, ip: str) -> None:
        """Give out this very address again, as a predecessor did. Raises OutOfAddresses."""

    def reserve_ip(self) -> str:
        """Give out an address that no server or balancer has. Raises OutOfAddresses."""

    def release_ip(self, ip: str) -> None:
        """Take an address back."""

    async def start(self, spec: ServerSpec) -> None:
        """
        Boot a server; returns when its first programs run (after boot_delay_s).

        Raises:
            ServerFailed: with the reason and where its log is; nothing of the server is left.
        """

    async def stop(self, server_id: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """TERM, wait up to grace_s for a clean end, KILL, remove namespace, cgroup and files."""

    async def reboot(self, server_id: str) -> None:
        """Stop the programs and start them again; address and files stay."""

    async def set_firewall(self, server_id: str, firewall: Firewall) -> None:
        """
        Filter by this from now on, in one step; connections that are let in stay open.

        The newest call wins, over the one in `start`, too. Nothing happens to a server that was
        not started.

        Raises:
            CloudFault: The former filter is still in force.
        """

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        """Call callback(server_id, reason), on the event loop, when a server dies unasked."""


@runtime_checkable
class Breakable(Protocol):
    """
    Servers that can be broken on demand; what a driver of Servers may offer beside.

    Each method raises CloudFault when no such server runs.
    """

    async def crash(self, server_id: str) -> None:
        """Let a server die as if by itself: without grace, and reported as a death."""

    async def freeze(self, server_id: str) -> None:
        """Let a server stand still: its programs neither run nor end, its ports answer nothing."""

    async def thaw(self, server_id: str) -> None:
        """Let a server that stands still go on; fine if it does not."""


class Balancers(Protocol):
    """Runs load balancers; one real proxy process per service."""

    @property
    def lags(self) -> bool:
        """Whether they learn of changes by their checks alone, as the real ones may."""

    async def create(self, nlb_id: str, ip: str) -> None:
        """Make the balancer's own host at this address; no service yet."""

    async def adopt(self, nlb_id: str, ip: str, services: Sequence[ServiceSpec]) -> None:
        """
        Bring a balancer of a predecessor to exactly this: what still runs goes on undisturbed.

        Connections live on, whatever changes. Set the members of every service after this.
        """

    async def leave(self) -> None:
        """End without ending the balancers: a successor adopts them."""

    async def delete(self, nlb_id: str) -> None:
        """Remove the balancer with all its services."""

    async def put_service(self, nlb_id: str, service: ServiceSpec) -> None:
        """Create the service or change it to this; members stay."""

    async def delete_service(self, nlb_id: str, service_id: str) -> None: ...

    async def set_members(self, nlb_id: str, service_id: str, ips: Sequence[str]) -> None:
        """
        Bring the members to exactly these addresses.

        A new one gets traffic after its first good check; one that leaves is drained: it gets no
        new connection, and the call returns at once while requests in flight finish. One that lags
        notices newcomers later, and drains nobody.
        """

    async def wait_drained(self, nlb_id: str, service_id: str, ip: str, *, within_s: float) -> bool:
        """Wait until no connection to an address that left is open; True when that is so."""

    def health(self, nlb_id: str, service_id: str) -> dict[str, bool]:
        """
        Last known health by member address; a member not yet checked is False.

        One that lags gives what it knows: nothing of a member before its first check, and former
        members until they fail theirs.
        """


class CloudFault(Exception):
    """Base of what the layers below the API report."""


class OutOfAddresses(CloudFault):
    """The network has no free address left."""


class ServerFailed(CloudFault):
    """A server could not be started; the message says why and where its log is."""

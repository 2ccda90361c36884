"""
A local cloud without processes: drivers that are instant and obedient, and a server for tests.

The fakes are as strict as the real drivers: an address is given out once, a server that is not
known cannot be rebooted, members are set only on services that exist.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, TypeVar

from starlette.types import ASGIApp

from exotide.cloud.api.world import Pace
from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.firewall import Firewall
from exotide.cloud.ports import (
    STOP_GRACE_S,
    Balancers,
    CloudFault,
    OutOfAddresses,
    ServerFailed,
    Servers,
    ServerSpec,
)
from exotide.cloud.proxy.front import TlsSource
from exotide.cloud.service import Access, LocalCloud, listen
from exotide.cloud.state.store import Store
from exotide.cloud.watching import Watched, Watcher

T = TypeVar("T")
WATCHERS: Final[list[Watcher]] = []
"""Called with every answer of every cloud of this process that is made for a test."""


def watched(api: ASGIApp) -> ASGIApp:
    """Let WATCHERS see the answers of an API."""
    return Watched(api, WATCHERS)


class FakeServers:
    """Adapter of ports.Servers: servers are entries in `running`."""

    def __init__(
        self,
        *,
        network: str = "198.18.0.0/24",
        survivors: Mapping[str, ServerSpec] | None = None,
    ) -> None:
        hosts = [str(host) for host in IPv4Network(network).hosts()]
        self._free = hosts[1:-1]
        self._reserved: set[str] = set()
        self._callbacks: list[Callable[[str, str], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failures: list[str] = []
        self._booting: dict[str, asyncio.Event] = {}
        self._survivors = dict(survivors or {})
        """What a predecessor left running."""
        self.running: dict[str, ServerSpec] = {}
        self.adopted: list[ServerSpec] = []
        self.pruned: set[str] = set()
        self.left = False
        self.started: list[ServerSpec] = []
        """Every server that ever ran, in order."""
        self.stopped: list[tuple[str, float]] = []
        """Ids and grace, in order."""
        self.rebooted: list[str] = []
        self.firewalls: dict[str, Firewall] = {}
        """What each server filters by; servers that are stopped are not in it."""
        self.firewall_changes: list[tuple[str, Firewall]] = []
        """Every change after the start, in order."""
        self._firewall_failures: list[str] = []
        self.frozen: set[str] = set()
        """Ids of servers that stand still."""
        self.dies_at_boot: set[str] = set()
        """Ids of servers that die before the caller of `start` knows that they run."""
        self.is_open = False
        self.holds_boots = False
        """While true, servers boot and boot; may be set from any thread."""

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.is_open = True

    async def close(self) -> None:
        self.running.clear()
        self.is_open = False

    async def leave(self) -> None:
        """Servers run on, for the `FakeServers(survivors=...)` of the next cloud."""
        self.left = True
        self.is_open = False

    async def adopt(self, spec: ServerSpec) -> bool:
        await asyncio.sleep(0)
        if spec.ip not in self._reserved:
            raise ServerFailed(f"address {spec.ip} was not claimed")
        survivor = self._survivors.pop(spec.id, None)
        if survivor is None:
            return False
        self.running[spec.id] = survivor
        self.adopted.append(spec)
        return True

    async def prune(self, known: Collection[str]) -> None:
        await asyncio.sleep(0)
        self.pruned = set(self._survivors)
        assert not self.pruned & set(known)
        self._survivors.clear()

    def claim_ip(self, ip: str) -> None:
        if ip in self._reserved:
            raise OutOfAddresses(f"address {ip} is given out twice")
        self._reserved.add(ip)

    @property
    def reserved(self) -> frozenset[str]:
        """Addresses that are given out."""
        return frozenset(self._reserved)

    def reserve_ip(self) -> str:
        for ip in self._free:
            if ip not in self._reserved:
                self._reserved.add(ip)
                return ip
        raise OutOfAddresses("no address left")

    def release_ip(self, ip: str) -> None:
        self._reserved.discard(str(IPv4Address(ip)))

    def fail_next_start(self, reason: str = "no kernel", times: int = 1) -> None:
        """Let the next boots fail."""
        self._failures += [reason] * times

    def fail_next_firewall(self, reason: str = "no nft") -> None:
        """Let the next change of a filter fail."""
        self._firewall_failures.append(reason)

    async def set_firewall(self, server_id: str, firewall: Firewall) -> None:
        if server_id not in self.firewalls:
            return
        await asyncio.sleep(0)
        if self._firewall_failures:
            raise CloudFault(self._firewall_failures.pop(0))
        if server_id in self.firewalls:
            self.firewalls[server_id] = firewall
            self.firewall_changes.append((server_id, firewall))

    async def start(self, spec: ServerSpec) -> None:
        if spec.ip not in self._reserved:
            raise ServerFailed(f"address {spec.ip} was not reserved")
        stopped = self._booting[spec.id] = asyncio.Event()
        self.firewalls[spec.id] = spec.firewall
        try:
            await asyncio.sleep(0)
            if spec.boot_delay_s > 0:
                await _until(stopped, spec.boot_delay_s)
            while self.holds_boots and not stopped.is_set():  # noqa: ASYNC110 - threads set it
                await asyncio.sleep(0.002)
        finally:
            del self._booting[spec.id]
        if stopped.is_set():
            self.firewalls.pop(spec.id, None)
            raise ServerFailed(f"server {spec.id} was stopped while it booted")
        if self._failures:
            self.firewalls.pop(spec.id, None)
            raise ServerFailed(self._failures.pop(0))
        self.running[spec.id] = spec
        self.started.append(spec)
        if spec.id in self.dies_at_boot:
            self._die(spec.id, "died as soon as it ran")

    async def stop(self, server_id: str, *, grace_s: float = STOP_GRACE_S) -> None:
        if server_id in self._booting:
            self._booting[server_id].set()
        await asyncio.sleep(0)
        if server_id not in self._booting:
            self.firewalls.pop(server_id, None)
        if self.running.pop(server_id, None) is not None:
            self.stopped.append((server_id, grace_s))

    async def reboot(self, server_id: str) -> None:
        await asyncio.sleep(0)
        while self.holds_boots:  # noqa: ASYNC110 - threads set it
            await asyncio.sleep(0.002)
        if server_id not in self.running:
            raise CloudFault(f"no such server: {server_id}")
        self.rebooted.append(server_id)

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        self._callbacks.append(callback)

    def kill(self, server_id: str, reason: str = "killed by a test") -> None:
        """Let a server die unasked; may be called from any thread."""
        if self._loop is None:
            raise CloudFault("kill: the servers are not open")
        self._loop.call_soon_threadsafe(self._die, server_id, reason)

    async def crash(self, server_id: str) -> None:
        self._require(server_id)
        self._die(server_id, "killed")

    async def freeze(self, server_id: str) -> None:
        self._require(server_id)
        self.frozen.add(server_id)

    async def thaw(self, server_id: str) -> None:
        self._require(server_id)
        self.frozen.discard(server_id)

    def _require(self, server_id: str) -> None:
        if server_id not in self.running:
            raise CloudFault(f"no such server: {server_id}")

    def _die(self, server_id: str, reason: str) -> None:
        if self.running.pop(server_id, None) is not None:
            self.firewalls.pop(server_id, None)
            for callback in self._callbacks:
                callback(server_id, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCloud:
    """A local cloud in a thread of this process."""

    access: Access
    servers: Servers
    balancers: Balancers
    cloud: LocalCloud
    loop: asyncio.AbstractEventLoop = field(repr=False)

    @property
    def url(self) -> str:
        """The base URL of the cloud's zone, for the SDK's `url`."""
        return self.access.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """What the agents and `exotide` read."""
        return self.access.environment()

    def on_loop(self, work: Callable[[], T]) -> T:
        """Do something where the cloud lives, and return what it gives."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until no operation and no healing is under way."""
        settling = self.cloud.world.background.settle()
        asyncio.run_coroutine_threadsafe(settling, self.loop).result(timeout_s)


@contextmanager
def running_cloud(
    *,
    servers: Servers | None = None,
    balancers: Balancers | None = None,
    pace: Pace | None = None,
    quotas: Mapping[str, int] | None = None,
    store: Store | None = None,
    zone: str = "at-vie-1",
    key: str = "EXOtestkey000000000000000",
    secret: str = "testsecret",  # noqa: S107 - of a cloud that lives as long as a test
    tls: TlsSource | None = None,
    more_sockets: Callable[[int], Sequence[socket.socket]] = lambda _: (),
) -> Iterator[RunningCloud]:
    """Serve the API on a random port of 127.0.0.1, in a thread of its own, on any drivers."""
    servers = servers if servers is not None else FakeServers()
    balancers = balancers if balancers is not None else FakeBalancers()
    sock = listen("127.0.0.1", 0)
    access = Access(port=sock.getsockname()[1], key=key, secret=secret, zone=zone)
    cloud = LocalCloud(
        servers=servers,
        balancers=balancers,
        access=access,
        sockets=[sock, *more_sockets(access.port)],
        pace=pace or Pace(),
        quotas=quotas,
        store=store,
        around=watched,
        tls=tls,
    )
    ready, stop = threading.Event(), asyncio.Event()
    errors: list[BaseException] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with cloud:
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=run, name="local-cloud", daemon=True)
    thread.start()
    ready.wait()
    try:
        if not errors:
            yield RunningCloud(
                access=access, servers=servers, balancers=balancers, cloud=cloud, loop=loop
            )
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if errors:
        raise errors[0]


async def _until(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return

"""Servers as processes: namespaces, a CPU limit, real programs. Needs root on Linux."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.firewall import Firewall
from exotide.cloud.ports import STOP_GRACE_S, CloudFault, ServerFailed, ServerSpec
from exotide.cloud.servers import cgroups, leftovers, roles, shares, userdata
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.errors import HostUnsuitable, UnknownServer
from exotide.cloud.servers.firewall import Firewalls
from exotide.cloud.servers.machine import Bootable, Folder, Machine
from exotide.cloud.servers.meters import Meter, MeterThread
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.network import fabric_namespace, short
from exotide.cloud.servers.procfs import ProcfsFolder
from exotide.cloud.servers.roles import Kit, Program
from exotide.cloud.servers.slots import Mortal, Server, Slot
from exotide.cloud.servers.underlay import Underlay

log = structlog.get_logger(__name__)

CLOUD_WEIGHT: Final = 2_000
"""Servers get what their limits promise even while the host is busy with other things."""
MONITORING_WEIGHT: Final = 400
BOOTED_WITHIN_S: Final = 10.0
"""A server whose ports do not listen by then is limited nevertheless."""
LOOK_EVERY_S: Final = 0.05
CLOSE_GRACE_S: Final = 2.0


class ProcessServers(Mortal):
    """
    Adapter of ports.Servers: every server is a process tree of this host.

    Args:
        cloud_id: Six characters of 0-9a-f; everything made on the host carries them.
        run_dir: Holds one folder per living cloud; leftovers are looked for here.
        cores_per_vcpu: Host cores that one vCPU may use. None: as this host has room.
        command: Shell command that servers without a role run.
        slowapp: The application of members. None: the checkout's slowapp/slowapp.py.
        underlay: What keeps servers apart and limits them. None: namespaces, control groups.

    Raises:
        HostUnsuitable: when cores_per_vcpu is not above 0.
    """

    def __init__(
        self,
        *,
        cloud_id: str,
        run_dir: Path,
        cores_per_vcpu: float | None = None,
        command: str | None = None,
        slowapp: Path | None = None,
        underlay: Underlay | None = None,
    ) -> None:
        if cores_per_vcpu is not None and not cores_per_vcpu > 0:
            raise HostUnsuitable(f"cores_per_vcpu must be above 0, got: {cores_per_vcpu}")
        self.cloud_id, self.run_dir = cloud_id, run_dir
        self.underlay = underlay or Namespaces(cloud_id)
        self.network = self.underlay.network
        self._host_cores = os.cpu_count() or 1
        self._cores_per_vcpu = (
            shares.default_cores_per_vcpu(self._host_cores)
            if cores_per_vcpu is None
            else cores_per_vcpu
        )
        self._kit = Kit(
            slowapp=slowapp or roles.default_slowapp(),
            command=command,
            own_network=self.underlay.own_network,
        )
        self._top = fabric_namespace(cloud_id)
        self._groups: Cgroups | None = None
        self._lease: leftovers.Lease | None = None
        self._meters = MeterThread()
        self._firewalls = Firewalls()
        self._servers: dict[str, Server] = {}
        self._slots: dict[str, Slot] = {}
        self._on_death: list[Callable[[str, str], None]] = []

    @property
    def network_number(self) -> int:
        """N of 198.18.N.0/24, once open."""
        return self.network.number

    @property
    def host_ip(self) -> str:
        """The host's address on the servers' network, once open."""
        return self.network.host_ip

    @property
    def fabric_ip(self) -> str:
        """The address at which servers reach `fabric_socket`, once open."""
        return self.network.fabric_ip

    def fabric_socket(self, port: int) -> socket.socket:
        """Give a TCP socket that listens at `fabric_ip`. Raises OSError when the port is taken."""
        return self.network.listen(port)

    def metadata_sockets(self) -> list[socket.socket]:
        """Give sockets that listen at 169.254.169.254; none where servers cannot reach that."""
        return self.network.metadata_sockets()

    def claim_ip(self, ip: str) -> None:
        """Give out this very address again. Raises OutOfAddresses when it is not free."""
        self.network.claim_ip(ip)

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        """Call callback(server_id, reason), on the event loop, when a server dies unasked."""
        self._on_death.append(callback)

    def reserve_ip(self) -> str:
        """Give out an address that no server or balancer has. Raises OutOfAddresses."""
        return self.network.reserve_ip()

    def release_ip(self, ip: str) -> None:
        """Take an address back."""
        self.network.release_ip(ip)

    async def open(self) -> None:
        """
        Remove what killed clouds left, then make this cloud's network.

        Raises:
            NoPermission, MissingProgram, HostUnsuitable: before anything is made.
            CloudIdTaken: a living cloud has the id.
        """
        if self._lease is not None:
            return
        kind = self.underlay.name
        self.underlay.check(self._kit.slowapp)
        self._groups = self.underlay.groups()
        self._lease = await leftovers.take(self.run_dir, self.cloud_id, kind=kind)
        try:
            await leftovers.sweep(self.run_dir, self._groups, kind=kind)
            await self._settle_in(self._groups)
            self._meters.start()
        except BaseException:
            await self.close()
            raise
        log.info(
            "network_opened", cloud=self.cloud_id, servers=kind, address=self.network.fabric_ip
        )

    async def _settle_in(self, groups: Cgroups) -> None:
        await leftovers.remove(self.cloud_id, groups)
        groups.create(self._top)
        groups.weigh(self._top, CLOUD_WEIGHT)
        await self.network.open()

    async def close(self, *, grace_s: float = CLOSE_GRACE_S) -> None:
        """Stop every server and remove every trace; close the balancers before."""
        if self._lease is None or self._groups is None:
            return
        stops = [self.stop(server_id, grace_s=grace_s) for server_id in list(self._slots)]
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("stop_failed", reason=str(result))
        self._meters.stop()
        await leftovers.remove(self.cloud_id, self._groups)
        self.network.release()
        self._lease.end()
        self._lease = None

    async def start(self, spec: ServerSpec) -> None:
        """
        Boot a server; returns when its first programs run (after boot_delay_s).

        Raises:
            ServerFailed: with the reason and where its log is; nothing of the server is left.
            MissingProgram: naming the package; nothing of the server is left.
        """
        slot = self._slots.setdefault(spec.id, Slot())
        slot.starts += 1
        self._firewalls.plan(spec.id, spec.firewall)
        try:
            async with slot.lock:
                await self._start(spec, slot)
        except (ServerFailed, HostUnsuitable):
            raise
        except (OSError, CloudFault) as error:
            raise ServerFailed(f"server {spec.name} did not start: {error}") from error
        finally:
            slot.starts -= 1
            self._forget(spec.id, slot)

    async def stop(self, server_id: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """TERM, wait up to grace_s for a clean end, KILL, remove namespace, group and files."""
        slot = self._slots.get(server_id)
        if slot is None:
            return
        slot.stopping.set()
        async with slot.lock:
            server = self._servers.get(server_id)
            if server is not None:
                await self._remove(server, grace_s=grace_s)
            self._forget(server_id, slot)

    async def reboot(self, server_id: str) -> None:
        """
        Stop the programs and start them again; address and files stay.

        Raises:
            UnknownServer: when it was not started.
            ServerFailed: when it did not come up again; it counts as dead.
        """
        slot, server = self._slots.get(server_id), self._servers.get(server_id)
        if slot is None or server is None:
            raise UnknownServer(f"server {server_id} was not started, or is stopped")
        async with slot.lock:
            await self._power_off(server, grace_s=STOP_GRACE_S)
            server.machine = self._machine(server.spec)
            await self._power_on(server)

    async def set_firewall(self, server_id: str, firewall: Firewall) -> None:
        """
        Filter by this from now on, in one step; connections that are let in stay open.

        Raises:
            CommandFailed: with nft's words; the former filter is still in force.
        """
        await self._firewalls.change(server_id, firewall)

    async def _start(self, spec: ServerSpec, slot: Slot) -> None:
        server = self._servers.get(spec.id)
        if server is not None and not server.machine.ended.is_set():
            return
        if server is not None:
            await self._remove(server, grace_s=0.0)
        slot.stopping.clear()
        await self._wait_for_power(spec, slot)
        await self._build(spec)

    async def crash(self, server_id: str) -> None:
        """Kill every process of a server at once. Raises UnknownServer."""
        await self._signal(server_id, signal.SIGKILL)

    async def freeze(self, server_id: str) -> None:
        """Freeze every process of a server. Raises UnknownServer."""
        await self._signal(server_id, signal.SIGSTOP)

    async def thaw(self, server_id: str) -> None:
        """Let a frozen server go on. Raises UnknownServer."""
        await self._signal(server_id, signal.SIGCONT)

    async def _signal(self, server_id: str, number: signal.Signals) -> None:
        server = self._servers.get(server_id)
        if server is None or server.machine.ended.is_set():
            raise UnknownServer(f"server {server_id} does not run")
        group = self._group(server.spec)
        await asyncio.to_thread(cgroups.signal_all, self._ready_groups, group, number)

    async def _wait_for_power(self, spec: ServerSpec, slot: Slot) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(slot.stopping.wait(), spec.boot_delay_s or 0.001)
        if slot.stopping.is_set():
            raise ServerFailed(f"server {spec.name} was stopped while it booted")

    async def _build(self, spec: ServerSpec) -> None:
        """Make namespace, group and files, and boot; take all away again if that fails."""
        server = self._plan(spec)
        self._servers[spec.id] = server
        try:
            files = await asyncio.to_thread(self._files, server)
            self._ready_groups.create(self._group(spec))
            guard = functools.partial(self._firewalls.raise_in, spec.id)
            await self.network.attach(spec.id, spec.ip, guard=guard)
            folder = server.machine.folder
            await asyncio.to_thread(folder.make, spec)
            await asyncio.to_thread(userdata.write, files, folder.srv)
            await self._power_on(server)
        except BaseException:
            await asyncio.shield(self._remove(server, grace_s=0.0))
            raise

    def _plan(self, spec: ServerSpec) -> Server:
        role = spec.labels.get("role")
        demand = shares.demand(vcpus=spec.vcpus, cores_per_vcpu=self._cores_per_vcpu, role=role)
        machine = self._machine(spec)
        meter = Meter(
            groups=self._ready_groups,
            group=self._group(spec),
            folder=ProcfsFolder(path=machine.folder.procfs),
            vcpus=spec.vcpus,
            memory_bytes=spec.memory_bytes,
            host_cores=self._host_cores,
        )
        return Server(spec=spec, demand=demand, machine=machine, meter=meter)

    async def _power_on(self, server: Server) -> None:
        spec = server.spec
        if server.demand.firm:
            self._ready_groups.weigh(self._group(spec), MONITORING_WEIGHT)
        server.booting = True
        self._share_out()
        server.meter.begin()
        self._meters.add(spec.id, server.meter)
        server.programs = self._programs(server)
        await server.machine.boot(server.programs, lambda reason: self._died(server, reason))
        server.settling = asyncio.create_task(self._settle(server))

    async def _settle(self, server: Server) -> None:
        """Limit the server's CPU once it is set up."""
        await self._set_up(server)
        server.booting = False
        self._share_out()

    def _files(self, server: Server, /) -> tuple[userdata.File, ...]:
        """Read what user-data writes."""
        files = userdata.understood(server.spec.user_data, server=server.spec.name)
        return userdata.fitted(files, server.machine.fit)

    def _programs(self, server: Server, /) -> tuple[Program, ...]:
        """Choose what the server runs."""
        role, folder = server.spec.labels.get("role"), server.machine.folder
        return roles.programs(role, srv=folder.srv, procfs=folder.procfs, kit=self._kit)

    async def _set_up(self, server: Server) -> None:
        """Wait until the server's ports listen."""
        awaited = {program.port for program in server.programs if program.port}
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + BOOTED_WITHIN_S
        # The kernel tells nobody when a socket begins to listen, so look.
        while loop.time() < deadline_s:
            if awaited <= server.machine.listening():
                break
            await asyncio.sleep(LOOK_EVERY_S)

    async def _power_off(self, server: Server, *, grace_s: float) -> None:
        if server.settling is not None:
            server.settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await server.settling
            server.settling = None
        await server.machine.halt(grace_s=grace_s)
        self._meters.discard(server.spec.id)
        dead = await asyncio.to_thread(
            cgroups.kill_all, self._ready_groups, self._group(server.spec)
        )
        if not dead:
            raise ServerFailed(f"server {server.spec.name} cannot be killed; look at its processes")

    async def _remove(self, server: Server, *, grace_s: float) -> None:
        await self._power_off(server, grace_s=grace_s)
        self._firewalls.lower(server.spec.id)
        await self.network.detach(server.spec.id)
        await asyncio.to_thread(cgroups.remove_all, self._ready_groups, self._group(server.spec))
        await asyncio.to_thread(server.machine.folder.remove)
        self._servers.pop(server.spec.id, None)
        self._share_out()

    def _died(self, server: Server, reason: str) -> None:
        self._meters.discard(server.spec.id)
        log.warning("server_died", server=server.spec.name, reason=reason)
        for callback in self._on_death:
            callback(server.spec.id, reason)

    def _share_out(self) -> None:
        """Give each server its cores anew; the limit of one that boots is lifted."""
        alive = {
            key: server
            for key, server in self._servers.items()
            if not server.machine.ended.is_set()
        }
        cores = shares.divide(
            {key: server.demand for key, server in alive.items()}, host_cores=self._host_cores
        )
        for key, server in alive.items():
            with contextlib.suppress(FileNotFoundError):  # it is being made or removed
                server.meter.limit(None if server.booting else cores[key])

    def _forget(self, server_id: str, slot: Slot) -> None:
        """Unless it runs, or waits to be started again."""
        known = self._slots.get(server_id) is slot
        if known and server_id not in self._servers and slot.starts == 0:
            del self._slots[server_id]
            self._firewalls.forget(server_id)

    def _machine(self, spec: ServerSpec) -> Bootable:
        folder = Folder(path=self.run_dir / self.cloud_id / short(spec.id))
        return Machine(spec, folder, self.underlay.house(spec, folder.path, self._group(spec)))

    def _group(self, spec: ServerSpec) -> str:
        return f"{self._top}/{short(spec.id)}"

    @property
    def _ready_groups(self) -> Cgroups:
        if self._groups is None:
            raise HostUnsuitable("the servers are not open yet; await open() first")
        return self._groups

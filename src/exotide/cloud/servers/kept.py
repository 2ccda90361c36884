"""Process servers that outlive their cloud, and are adopted by the next start of the same cloud."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

import structlog

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers import cgroups, leftovers
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.kept_machine import KeptMachine
from exotide.cloud.servers.machine import Folder
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.network import Network, short
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.slots import Server, Slot

log = structlog.get_logger(__name__)


class KeptServers(ProcessServers):
    """
    As ProcessServers, for a cloud that is kept.

    Args:
        state_file: Where the cloud is kept: while this exists, no other cloud's start takes our
            servers for leftovers.
    """

    def __init__(
        self,
        *,
        cloud_id: str,
        run_dir: Path,
        state_file: Path,
        network: Network,
        cores_per_vcpu: float | None = None,
        command: str | None = None,
        slowapp: Path | None = None,
    ) -> None:
        super().__init__(
            cloud_id=cloud_id,
            run_dir=run_dir,
            cores_per_vcpu=cores_per_vcpu,
            command=command,
            slowapp=slowapp,
            underlay=Namespaces(cloud_id, network=network),
        )
        self._state_file, self._network = state_file, network

    async def _settle_in(self, groups: Cgroups) -> None:
        """Where the predecessor's network stands, its servers may; else nothing is left of them."""
        leftovers.keep(self.run_dir / self.cloud_id, self._state_file)
        if not self._network.stands():
            await super()._settle_in(groups)
            return
        await self._network.reopen()

    async def leave(self) -> None:
        """End without stopping the servers. Their exporters fail until they are adopted."""
        if self._lease is None:
            return
        self._meters.stop()
        for server in self._servers.values():
            if server.settling is not None:
                server.settling.cancel()
            assert isinstance(server.machine, KeptMachine)
            await server.machine.leave()
            server.meter.withdraw()
        self.network.release()
        self._lease.leave()
        self._lease = None

    async def adopt(self, spec: ServerSpec) -> bool:
        """Take over a server that a predecessor booted; False if it does not run any more."""
        namespace = self._network.namespace(spec.id)
        if not namespace.exists():
            return False
        server = self._plan(spec)
        assert isinstance(server.machine, KeptMachine)
        pids = self._ready_groups.pids(self._group(spec))
        if not server.machine.adopt(pids, lambda reason: self._died(server, reason)):
            return False
        self._servers[spec.id], self._slots[spec.id] = server, Slot()
        self._firewalls.plan(spec.id, spec.firewall)
        await self._firewalls.raise_in(spec.id, namespace)
        server.programs = self._programs(server)
        server.meter.resume()
        self._meters.add(spec.id, server.meter)
        server.booting = False
        self._share_out()
        log.info("server_adopted", server=spec.name, ip=spec.ip)
        return True

    async def prune(self, known: Collection[str]) -> None:
        """Remove what a predecessor left of servers and balancers other than these ids."""
        wanted = {short(each) for each in known}
        for name in self._traces() - wanted:
            group = f"{self._top}/{name}"
            await asyncio.to_thread(cgroups.kill_all, self._ready_groups, group)
            await self.network.detach(name)
            await asyncio.to_thread(cgroups.remove_all, self._ready_groups, group)
            for folder in self._folders(name):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            log.info("half_made_removed", cloud=self.cloud_id, name=name)

    def _traces(self) -> set[str]:
        """Give the short ids of everything that a predecessor made."""
        found = {name.removeprefix(f"{self._top}-") for name in leftovers.namespaces(self.cloud_id)}
        found |= {name.rpartition("/")[2] for name in self._ready_groups.members(self._top)}
        inside = (self.run_dir / self.cloud_id).iterdir()
        found |= {folder.name.removeprefix("nlb-") for folder in inside if folder.is_dir()}
        return {name for name in found if leftovers.SHORT.fullmatch(name)}

    def _folders(self, name: str) -> tuple[Path, Path]:
        own = self.run_dir / self.cloud_id
        return own / name, own / f"nlb-{name}"

    def _machine(self, spec: ServerSpec) -> KeptMachine:
        folder = Folder(path=self.run_dir / self.cloud_id / short(spec.id))
        return KeptMachine(spec, folder, self.underlay.house(spec, folder.path, self._group(spec)))

    def _plan(self, spec: ServerSpec) -> Server:
        server = super()._plan(spec)
        server.meter.keeps_counters = True
        return server

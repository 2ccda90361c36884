"""Servers as machines: each boots Debian and runs its real user-data. Needs root on Linux."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers.machine import Folder
from exotide.cloud.servers.machines.machine import NspawnMachine
from exotide.cloud.servers.machines.rootfs import CACHE, Recipe, Release, prepare
from exotide.cloud.servers.machines.underlay import Machines
from exotide.cloud.servers.network import NAMESPACES, Network, server_namespace, short
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.roles import Program
from exotide.cloud.servers.slots import Server
from exotide.cloud.servers.userdata import File

log = structlog.get_logger(__name__)

ROOT: Final = Path(__file__).resolve().parents[5]
AGENTS: Final = ("autoscaler", "servicediscovery")


def default_recipe(
    *, extra_packages: tuple[Path, ...] = (), release: Release = "bookworm"
) -> Recipe:
    """Give the recipe with what the checkout's agents need."""
    found = (ROOT / agent / "requirements.txt" for agent in AGENTS)
    return Recipe(
        requirements=tuple(path for path in found if path.exists()),
        extra_packages=extra_packages,
        release=release,
    )


class MachineServers(ProcessServers):
    """
    Adapter of ports.Servers.

    Args:
        recipe: What the root file system holds. None: `default_recipe`.
        cache: Where root file systems are kept.
        network_number: N of the 198.18.N.0/24 that a predecessor had. None: any that is free.
    """

    def __init__(
        self,
        *,
        cloud_id: str,
        run_dir: Path,
        cores_per_vcpu: float | None = None,
        recipe: Recipe | None = None,
        cache: Path = CACHE,
        network_number: int | None = None,
    ) -> None:
        super().__init__(
            cloud_id=cloud_id,
            run_dir=run_dir,
            cores_per_vcpu=cores_per_vcpu,
            underlay=Machines(cloud_id, network=Network(cloud_id, wanted=network_number)),
        )
        self._recipe, self._cache = recipe or default_recipe(), cache
        self._rootfs: Path | None = None

    async def open(self) -> None:
        """
        Make the root file system if need be, then as ProcessServers.

        Raises:
            MissingProgram, CommandFailed, HostUnsuitable: the root file system cannot be made.
        """
        if self._rootfs is None:
            self.underlay.check()
            self._rootfs = await prepare(self._recipe, cache=self._cache)
        await super().open()

    def _machine(self, spec: ServerSpec) -> NspawnMachine:
        assert self._rootfs is not None
        return NspawnMachine(
            spec,
            Folder(path=self.run_dir / self.cloud_id / short(spec.id)),
            rootfs=self._rootfs,
            namespace=NAMESPACES / server_namespace(self.cloud_id, spec.id),
            entrances=self._ready_groups.entrances(self._group(spec)),
            rebooted=partial(self._rebooted, spec.id),
        )

    def _rebooted(self, server_id: str) -> None:
        """Lift the limit while a machine boots that rebooted by itself, as after `reboot`."""
        server = self._servers.get(server_id)
        if server is None:
            return
        log.info("machine_reboots", server=server.spec.name)
        server.meter.begin()
        server.booting = True
        self._share_out()
        if server.settling is not None:
            server.settling.cancel()
        server.settling = asyncio.create_task(self._settle(server))

    def _files(self, _: Server, /) -> tuple[File, ...]:
        """Write nothing: cloud-init reads the user-data from the metadata service."""
        return ()

    def _programs(self, _: Server, /) -> tuple[Program, ...]:
        return ()

    async def _set_up(self, server: Server) -> None:
        assert isinstance(server.machine, NspawnMachine)
        await server.machine.set_up()

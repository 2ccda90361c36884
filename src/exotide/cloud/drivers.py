"""The drivers by name, each with what a daemon needs beside the two ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.balancer_config import Manner
from exotide.cloud.emulated import EmulatedBalancers, EmulatedServers
from exotide.cloud.errors import PortInUse, ProgramsMissing
from exotide.cloud.ports import Balancers, Servers
from exotide.cloud.servers import cgroups, leftovers, permissions
from exotide.cloud.servers.errors import HostUnsuitable, MissingProgram
from exotide.cloud.servers.kept import KeptServers
from exotide.cloud.servers.loopback.underlay import Loopback
from exotide.cloud.servers.machines.rootfs import Release
from exotide.cloud.servers.machines.servers import MachineServers, default_recipe
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.network import Network
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.programs import SOURCES, find
from exotide.cloud.servers.underlay import Underlay

Name = Literal["auto", "processes", "loopback", "machines", "none"]
HTTP: Final = 80
NEEDS_ROOT: Final = frozenset({"ip", "nsenter", "mount", "umount", "nft", "prlimit"})
"""Programs that only servers with namespaces need."""
MACHINES_ONLY: Final = frozenset(
    {"systemd-nspawn", "systemctl", "mmdebstrap", "chroot", "apt-get", "apt-config", "dpkg-deb"}
)
"""Programs that only machines need."""
LASTING: Final = frozenset({"processes", "none"})
"""Drivers whose servers outlive a cloud that is kept."""
PLAIN: Final = (
    "load balancers are plain: they drain nobody, and learn of their members by health checks alone"
)
EMULATED: Final = ("servers and balancers are emulated: no address of theirs answers",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a driver is told."""

    cloud_id: str
    run_dir: Path
    vcpu_cores: float | None = None
    """Host cores per vCPU. None: the driver decides by what the host has."""
    command: str | None = None
    """What servers without a role run, beside the node exporter."""
    machine_packages: tuple[Path, ...] = ()
    """Debian package files that machines have beside Debian's own."""
    machine_release: Release = "bookworm"
    """Which Debian machines boot, whatever their template."""
    state_file: Path | None = None
    """Where the cloud is kept, so that its servers may outlive it. None: it is not."""
    network_number: int | None = None
    """Of the network that it had before. None: any that is free."""
    balancer: Manner = "attentive"
    """How load balancers treat their members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """What its users should know about a driver."""

    servers: str
    """The driver's name, never `auto`."""
    why: str = ""
    """Why it was chosen, if it chose itself."""
    limits: tuple[str, ...] = ()
    """What differs from servers with a network of their own, one sentence each."""
    http_port: int = HTTP
    """Where balancers serve port 80."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One way to run servers and balancers."""

    servers: Servers
    balancers: Balancers
    fabric_ip: Callable[[], str]
    """Where servers reach the API, once the servers are open."""
    fabric_socket: Callable[[int], socket.socket] | None = None
    """Gives a socket that listens at `fabric_ip`, where that is no address of the host."""
    metadata_sockets: Callable[[], list[socket.socket]] = list
    """Gives sockets at 169.254.169.254, where servers have a network of their own."""
    character: Character
    network_number: Callable[[], int | None] = lambda: None
    """What a successor needs to give out the same addresses, once the servers are open."""

    def sockets(self, port: int) -> list[socket.socket]:
        """
        Give what API and metadata listen on beside the host's own socket.

        Raises:
            PortInUse: The port is taken there.
        """
        if self.fabric_socket is None:
            return self.metadata_sockets()
        try:
            return [self.fabric_socket(port), *self.metadata_sockets()]
        except OSError as error:
            raise PortInUse(port) from error


def named(name: str) -> Name:
    """Read a driver's name. Raises HostUnsuitable for one that this version does not have."""
    for known in _DRIVERS:
        if known == name:
            return known
    raise HostUnsuitable(f"servers of kind {name} are not known here; known: {', '.join(_DRIVERS)}")


def make(name: Name, wanted: Wanted) -> Driver:
    """
    Make a driver; nothing happens on the host before its servers are opened.

    Raises:
        ProgramsMissing: The driver's programs are not installed.
        CloudFault: What was wanted does not fit the host.
    """
    return _DRIVERS[name](wanted)


def require_programs(*, without: Collection[str] = ()) -> None:
    """
    Check that every system program is there, before anything is made.

    Args:
        without: Those that are not needed, by their keys in SOURCES.

    Raises:
        ProgramsMissing: with all of them and their packages.
    """
    wanted = [program for program in SOURCES if program not in without]
    reasons = [reason for program in wanted if (reason := _missing(program)) is not None]
    if reasons:
        raise ProgramsMissing(reasons)


def _missing(program: str) -> str | None:
    try:
        find(program)
    except MissingProgram as error:
        return str(error)
    return None


def _auto(wanted: Wanted) -> Driver:
    """Choose namespaces where they can be made, else what needs no privilege."""
    try:
        permissions.check_capabilities()
        permissions.check_place(Path(sys.executable), Path(sys.prefix), Path(__file__))
        cgroups.detect()
    except HostUnsuitable as error:
        return _loopback(wanted, why=str(error))
    return _processes(wanted, why="this process may make namespaces and control groups")


def _processes(wanted: Wanted, *, why: str = "") -> Driver:
    require_programs(without=MACHINES_ONLY)
    network = Network(wanted.cloud_id, wanted=wanted.network_number)
    if wanted.state_file is None:
        return _on(Namespaces(wanted.cloud_id, network=network), wanted, why)
    servers = KeptServers(
        cloud_id=wanted.cloud_id,
        run_dir=wanted.run_dir,
        state_file=wanted.state_file,
        network=network,
        cores_per_vcpu=wanted.vcpu_cores,
        command=wanted.command,
    )
    return _driver(servers, wanted, why, lasts=True)


def _machines(wanted: Wanted) -> Driver:
    require_programs()
    servers = MachineServers(
        cloud_id=wanted.cloud_id,
        run_dir=wanted.run_dir,
        cores_per_vcpu=wanted.vcpu_cores,
        recipe=default_recipe(
            extra_packages=wanted.machine_packages, release=wanted.machine_release
        ),
        network_number=wanted.network_number,
    )
    return _driver(servers, wanted, why="", lasts=False)


def _loopback(wanted: Wanted, *, why: str = "") -> Driver:
    require_programs(without=NEEDS_ROOT | MACHINES_ONLY)
    return _on(Loopback(wanted.run_dir, number=wanted.network_number), wanted, why)


def _on(underlay: Underlay, wanted: Wanted, why: str) -> Driver:
    servers = ProcessServers(
        cloud_id=wanted.cloud_id,
        run_dir=wanted.run_dir,
        cores_per_vcpu=wanted.vcpu_cores,
        command=wanted.command,
        underlay=underlay,
    )
    return _driver(servers, wanted, why, lasts=False)


def _driver(servers: ProcessServers, wanted: Wanted, why: str, *, lasts: bool) -> Driver:
    underlay = servers.underlay
    balancers = HaproxyBalancers(
        servers.network,
        wanted.run_dir,
        wanted.cloud_id,
        groups=underlay.groups,
        lasts=lasts,
        manner=wanted.balancer,
    )
    return Driver(
        servers=servers,
        balancers=balancers,
        fabric_ip=lambda: servers.fabric_ip,
        fabric_socket=servers.fabric_socket,
        network_number=lambda: servers.network_number,
        character=Character(
            servers=underlay.name,
            why=why,
            limits=(*underlay.limits, *((PLAIN,) if balancers.lags else ())),
            http_port=underlay.network.served_port(HTTP),
        ),
        metadata_sockets=servers.metadata_sockets,
    )


def _none(wanted: Wanted) -> Driver:
    if wanted.balancer != "attentive":
        raise HostUnsuitable(
            f"--balancer {wanted.balancer} needs members that can be checked, and servers of kind "
            "none answer nobody; choose another kind with --servers"
        )
    return Driver(
        servers=EmulatedServers(take_lease=lambda: _lease(wanted)),
        balancers=EmulatedBalancers(),
        fabric_ip=lambda: "127.0.0.1",
        character=Character(servers="none", limits=EMULATED),
    )


async def _lease(wanted: Wanted) -> leftovers.Lease:
    return await leftovers.take(wanted.run_dir, wanted.cloud_id, kind=leftovers.NO_PROCESS)


_DRIVERS: Final[Mapping[Name, Callable[[Wanted], Driver]]] = {
    "auto": _auto,
    "processes": _processes,
    "loopback": _loopback,
    "machines": _machines,
    "none": _none,
}

"""The drivers by name, each with what a daemon needs beside the two ports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.emulated import EmulatedBalancers, EmulatedServers
from exotide.cloud.errors import PortInUse, ProgramsMissing
from exotide.cloud.ports import Balancers, Servers
from exotide.cloud.servers import leftovers
from exotide.cloud.servers.errors import MissingProgram
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.programs import SOURCES, find

Name = Literal["processes", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a driver is told."""

    cloud_id: str
    run_dir: Path
    vcpu_cores: float | None = None
    """Host cores per vCPU. None: the driver decides by what the host has."""
    command: str | None = None
    """What servers without a role run, beside the node exporter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One way to run servers and balancers."""

    servers: Servers
    balancers: Balancers
    fabric_ip: Callable[[], str]
    """Where servers reach the API, once the servers are open."""
    fabric_socket: Callable[[int], socket.socket] | None = None
    """Gives a socket that listens at `fabric_ip`, where that is no address of the host."""

    def sockets(self, port: int) -> list[socket.socket]:
        """
        Give what the API listens on beside the host's own socket.

        Raises:
            PortInUse: The port is taken there.
        """
        if self.fabric_socket is None:
            return []
        try:
            return [self.fabric_socket(port)]
        except OSError as error:
            raise PortInUse(port) from error


def make(name: Name, wanted: Wanted) -> Driver:
    """
    Make a driver; nothing happens on the host before its servers are opened.

    Raises:
        ProgramsMissing: The driver's programs are not installed.
        CloudFault: What was wanted does not fit the host.
    """
    return _DRIVERS[name](wanted)


def require_programs() -> None:
    """
    Check that every system program is there, before anything is made.

    Raises:
        ProgramsMissing: with all of them and their packages.
    """
    reasons = [reason for program in SOURCES if (reason := _missing(program)) is not None]
    if reasons:
        raise ProgramsMissing(reasons)


def _missing(program: str) -> str | None:
    try:
        find(program)
    except MissingProgram as error:
        return str(error)
    return None


def _processes(wanted: Wanted) -> Driver:
    require_programs()
    servers = ProcessServers(
        cloud_id=wanted.cloud_id,
        run_dir=wanted.run_dir,
        cores_per_vcpu=wanted.vcpu_cores,
        command=wanted.command,
    )
    return Driver(
        servers=servers,
        balancers=HaproxyBalancers(servers.network, wanted.run_dir, wanted.cloud_id),
        fabric_ip=lambda: servers.fabric_ip,
        fabric_socket=servers.fabric_socket,
    )


def _none(wanted: Wanted) -> Driver:
    return Driver(
        servers=EmulatedServers(take_lease=lambda: leftovers.take(wanted.run_dir, wanted.cloud_id)),
        balancers=EmulatedBalancers(),
        fabric_ip=lambda: "127.0.0.1",
    )


_DRIVERS: Final[Mapping[Name, Callable[[Wanted], Driver]]] = {
    "processes": _processes,
    "none": _none,
}

"""A local cloud of process servers in the foreground, from nothing to nothing."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.api.world import Pace
from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.directory import STATE_DIR, Entry, publish
from exotide.cloud.errors import PortInUse, ProgramsMissing
from exotide.cloud.servers.errors import MissingProgram
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.programs import SOURCES, find
from exotide.cloud.service import HOST, Access, LocalCloud, listen

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `exotide cloud` was asked for."""

    port: int
    state_dir: Path = STATE_DIR
    pace: Pace
    vcpu_cores: float | None = None
    """Host cores per vCPU. None: the driver decides by what the host has."""
    command: str | None = None
    """What servers without a role run, beside the node exporter."""


async def run(settings: Settings, *, on_ready: Callable[[Entry], None]) -> None:
    """
    Run until TERM or INT, then take everything down.

    Raises:
        CloudUnusable: The port is taken, or programs are missing.
        CloudFault: The host is not able to run servers; says what it needs.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(settings) as entry:
        on_ready(entry)
        await stop.wait()
        _log.info("stopping", cloud=entry.cloud_id)
    _log.info("stopped", cloud=entry.cloud_id)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Entry]:
    """Give a living cloud; see `run` for what may be wrong."""
    require_programs()
    host_socket = listen(HOST, settings.port)
    port = int(host_socket.getsockname()[1])
    cloud_id, access = secrets.token_hex(3), Access.fresh(port)
    servers = ProcessServers(
        cloud_id=cloud_id,
        run_dir=settings.state_dir,
        cores_per_vcpu=settings.vcpu_cores,
        command=settings.command,
    )
    try:
        await servers.open()
        cloud = LocalCloud(
            servers=servers,
            balancers=HaproxyBalancers(servers.network, settings.state_dir, cloud_id),
            access=access,
            sockets=[host_socket, _fabric_socket(servers, port)],
            pace=settings.pace,
        )
        async with cloud:
            entry = Entry(
                cloud_id=cloud_id, pid=os.getpid(), access=access, fabric_ip=servers.fabric_ip
            )
            publish(settings.state_dir / cloud_id, entry)
            yield entry
    finally:
        host_socket.close()
        await servers.close()


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


def _fabric_socket(servers: ProcessServers, port: int) -> socket.socket:
    try:
        return servers.fabric_socket(port)
    except OSError as error:
        raise PortInUse(port) from error

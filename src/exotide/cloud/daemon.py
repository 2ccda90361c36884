"""A local cloud in the foreground, from nothing to nothing."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud import control, drivers
from exotide.cloud.api.world import Pace
from exotide.cloud.directory import RUN_DIR, Entry, publish
from exotide.cloud.drivers import Wanted
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.service import HOST, Access, LocalCloud, listen

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `exotide cloud` was asked for."""

    port: int
    run_dir: Path = RUN_DIR
    pace: Pace
    servers: drivers.Name = "auto"
    """What servers are made of."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Those that differ from a new organisation's."""
    vcpu_cores: float | None = None
    """Host cores per vCPU. None: the driver decides by what the host has."""
    command: str | None = None
    """What servers without a role run, beside the node exporter."""
    ca_dir: Path | None = None
    """Folder of the certificate authority. None: no proxy mode."""


async def run(settings: Settings, *, on_ready: Callable[[Entry], None]) -> None:
    """
    Run until TERM or INT, then take everything down.

    Raises:
        CloudUnusable: The port is taken, programs or the certificate authority cannot be used.
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
    cloud_id = secrets.token_hex(3)
    driver = drivers.make(
        settings.servers,
        Wanted(
            cloud_id=cloud_id,
            run_dir=settings.run_dir,
            vcpu_cores=settings.vcpu_cores,
            command=settings.command,
        ),
    )
    tls = None if settings.ca_dir is None else Tls(settings.ca_dir)
    host_socket = listen(HOST, settings.port)
    port = int(host_socket.getsockname()[1])
    access = Access.fresh(port)
    try:
        await driver.servers.open()
        cloud = LocalCloud(
            servers=driver.servers,
            balancers=driver.balancers,
            access=access,
            sockets=[host_socket, *driver.sockets(port)],
            pace=settings.pace,
            quotas=settings.quotas,
            tls=tls,
        )
        folder = settings.run_dir / cloud_id
        async with cloud, control.serving(cloud.world, cloud.operation_faults, folder):
            entry = Entry(
                cloud_id=cloud_id,
                pid=os.getpid(),
                access=access,
                fabric_ip=driver.fabric_ip(),
                ca_file=None if tls is None else tls.ca_file,
                character=driver.character,
            )
            publish(folder, entry)
            yield entry
    finally:
        host_socket.close()
        await driver.servers.close()

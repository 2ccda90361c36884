"""A local cloud in the foreground, from nothing to nothing."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud import control, drivers
from exotide.cloud.api.iam.model import Reading
from exotide.cloud.api.world import Pace
from exotide.cloud.balancer_config import Manner
from exotide.cloud.directory import RUN_DIR, Entry, is_doomed, publish, started_at
from exotide.cloud.drivers import Wanted
from exotide.cloud.errors import NoCloud, StateUnusable
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.servers.machines.rootfs import Release
from exotide.cloud.service import HOST, Access, LocalCloud, listen
from exotide.cloud.state.identity import Identity, load, save
from exotide.cloud.state.store import FILE, Store

_log: Final = structlog.get_logger(__name__)

DEFAULT_PORT: Final = 8480


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `exotide cloud` was asked for."""

    port: int | None = None
    """None: the one that a kept cloud had, else DEFAULT_PORT; 0: that one, else any free one."""
    run_dir: Path = RUN_DIR
    pace: Pace
    servers: drivers.Name = "auto"
    """What servers are made of."""
    balancer: Manner = "attentive"
    """How load balancers treat their members."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Those that differ from a new organisation's."""
    iam: frozenset[Reading] = frozenset()
    """How policies are judged where the real cloud's documentation leaves it open."""
    vcpu_cores: float | None = None
    """Host cores per vCPU. None: the driver decides by what the host has."""
    command: str | None = None
    """What servers without a role run, beside the node exporter."""
    machine_packages: tuple[Path, ...] = ()
    """Debian package files that machines have beside Debian's own."""
    machine_release: Release = "bookworm"
    """Which Debian machines boot, whatever their template."""
    ca_dir: Path | None = None
    """Folder of the certificate authority. None: no proxy mode."""
    state: Path | None = None
    """Folder in which the cloud is kept. None: it is forgotten at its end."""


async def run(settings: Settings, *, on_ready: Callable[[Entry], None]) -> None:
    """
    Run until TERM or INT, then take everything down; of a kept cloud only the API.

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
    with ExitStack() as stack:
        store = None if settings.state is None else stack.enter_context(Store(settings.state))
        known = None if store is None else load(store)
        driver, cloud_id, run_dir = _driver(settings, store, known)
        tls = None if settings.ca_dir is None else Tls(settings.ca_dir)
        host_socket = stack.enter_context(closing(listen(HOST, _port(settings, known))))
        port = int(host_socket.getsockname()[1])
        access = Access.fresh(port) if known is None else known.access(port)
        try:
            await driver.servers.open()
            if store is not None:
                save(store, _identity(cloud_id, driver, access, run_dir))
            cloud = LocalCloud(
                servers=driver.servers,
                balancers=driver.balancers,
                access=access,
                sockets=[host_socket, *driver.sockets(port)],
                pace=settings.pace,
                quotas=settings.quotas,
                tls=tls,
                store=store,
            )
            cloud.world.iam.readings = settings.iam
            folder = run_dir / cloud_id
            async with cloud, control.serving(cloud.world, folder):
                entry = Entry(
                    cloud_id=cloud_id,
                    pid=os.getpid(),
                    started=started_at(os.getpid()),
                    access=access,
                    fabric_ip=driver.fabric_ip(),
                    ca_file=None if tls is None else tls.ca_file,
                    character=driver.character,
                    state=settings.state,
                )
                publish(folder, entry)
                yield entry
                cloud.leaves_servers = store is not None and not is_doomed(folder)
            if store is not None and not cloud.leaves_servers:
                store.destroy()
        finally:
            await (driver.servers.close() if store is None else driver.servers.leave())


async def remove(state: Path) -> str:
    """
    Remove a kept cloud that does not run, with its servers, and what was kept; gives its id.

    Raises:
        StateUnusable: The folder cannot be used; nothing was changed.
        NoCloud: It holds no cloud.
        CloudFault: The host refuses.
    """
    if not (state / FILE).exists():
        raise NoCloud(f"{state} holds no cloud")
    with Store(state) as store:
        known = load(store)
        if known is None:
            raise NoCloud(f"{state} holds no cloud")
        driver, cloud_id, _ = _driver(Settings(pace=Pace()), store, known)
        await driver.servers.open()
        await driver.servers.close()
        store.destroy()
    return cloud_id


def _driver(
    settings: Settings, store: Store | None, known: Identity | None
) -> tuple[drivers.Driver, str, Path]:
    """Make the driver that a kept cloud had, or the one that was asked for."""
    cloud_id = secrets.token_hex(3) if known is None else known.cloud_id
    run_dir = settings.run_dir if known is None else Path(known.run_dir)
    name = settings.servers if known is None else drivers.named(known.driver)
    if settings.servers not in {"auto", name}:
        raise StateUnusable(
            f"the cloud in {settings.state} has servers of kind {name}, not {settings.servers}; "
            f"start it with --servers {name}, or choose another folder with --state"
        )
    wanted = Wanted(
        cloud_id=cloud_id,
        run_dir=run_dir,
        vcpu_cores=settings.vcpu_cores,
        command=settings.command,
        machine_packages=settings.machine_packages,
        machine_release=settings.machine_release,
        state_file=None if store is None else store.file,
        network_number=None if known is None else known.network_number,
        balancer=settings.balancer,
    )
    return drivers.make(name, wanted), cloud_id, run_dir


def _port(settings: Settings, known: Identity | None) -> int:
    if settings.port:
        return settings.port
    if known is not None:
        return known.port
    return DEFAULT_PORT if settings.port is None else settings.port


def _identity(cloud_id: str, driver: drivers.Driver, access: Access, run_dir: Path) -> Identity:
    return Identity(
        cloud_id=cloud_id,
        driver=driver.character.servers,
        port=access.port,
        key=access.key,
        secret=access.secret,
        zone=access.zone,
        run_dir=str(run_dir),
        network_number=driver.network_number(),
    )

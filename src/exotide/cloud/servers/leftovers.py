"""
Which clouds live, and how to remove every trace of one that does not.

A cloud makes its folder first and removes it last, and holds a lock in it while it lives. The
kernel frees the lock when the process ends, however it ends. So a folder whose lock is free is
a dead cloud, and everything that carries its id is a leftover, unless the cloud is kept: then its
servers wait for its next start. Nothing else is ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.servers import cgroups
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.commands import run
from exotide.cloud.servers.errors import CloudIdTaken, CommandFailed, HostUnsuitable, NoPermission
from exotide.cloud.servers.network import NAMESPACES, fabric_namespace, host_link
from exotide.cloud.trust import Untrusted, own_folder

log = structlog.get_logger(__name__)

CLOUD_ID: Final = re.compile(r"[0-9a-f]{6}")
_LOCKING: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SHORT: Final = re.compile(r"[0-9a-f]{8}")
KEPT: Final = "kept"
"""Names the state file of a cloud whose servers outlive it."""
PROCESSES: Final = "processes"
NO_PROCESS: Final = "none"
"""What a cloud of this kind leaves is its folder: any other may remove it."""
LOCK: Final = "lock"
"""Held by the cloud while it lives; says what its servers are made of."""


class Lease:
    """The lock that says: this cloud lives."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    def end(self) -> None:
        """Remove the cloud's folder, then the lock with it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._descriptor)

    def leave(self) -> None:
        """Give the lock back; what the cloud made stays."""
        os.close(self._descriptor)


def keep(folder: Path, state_file: Path) -> None:
    """Say in a cloud's folder that it is kept: while the file exists, it is no leftover."""
    (folder / KEPT).write_text(str(state_file.resolve()))


def kept_in(folder: Path) -> Path | None:
    """Give the file that a cloud is kept in; None if it is not kept."""
    try:
        file = Path((folder / KEPT).read_text())
    except OSError:
        return None
    return file if file.exists() else None


async def take(run_dir: Path, cloud_id: str, *, kind: str = PROCESSES) -> Lease:
    """
    Make this cloud's folder and hold its lock.

    Args:
        kind: What its servers are made of; only a cloud of the same kind can clean up after it.

    Raises:
        CloudIdTaken: a living cloud has the id.
        NoPermission: the folder cannot be made.
    """
    if not CLOUD_ID.fullmatch(cloud_id):
        raise HostUnsuitable(f"a cloud's id must be six characters of 0-9a-f, got: {cloud_id}")
    folder = run_dir / cloud_id
    async with _guard(run_dir):
        _make(folder)
        descriptor = _try_lock(folder)
        if descriptor is not None:
            (folder / LOCK).write_text(kind)
    if descriptor is None:
        raise CloudIdTaken(f"cloud {cloud_id} is running; choose another id or stop it")
    return Lease(folder, descriptor)


async def sweep(run_dir: Path, groups: Cgroups, *, kind: str = PROCESSES) -> list[str]:
    """Remove what dead clouds of this kind left below this folder and give their ids."""
    swept = []
    async with _guard(run_dir):
        for folder in _folders(run_dir, kind):
            descriptor = _try_lock(folder)
            if descriptor is None:
                continue
            try:
                await remove(folder.name, groups)
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder.name)
                log.warning("leftovers_removed", cloud=folder.name)
            except (CommandFailed, OSError) as error:  # the next start tries again
                log.warning("leftovers_remain", cloud=folder.name, reason=str(error))
            finally:
                os.close(descriptor)
    return swept


async def remove(cloud_id: str, groups: Cgroups) -> None:
    """
    Remove a cloud's processes, namespaces, cables and groups; the caller holds its lock.

    Raises:
        CommandFailed, OSError: when the host refuses; calling again goes on from there.
    """
    top = fabric_namespace(cloud_id)  # namespaces and groups share their first name
    if not await asyncio.to_thread(cgroups.kill_all, groups, top):
        log.error("processes_survived", cloud=cloud_id, group=top)
    for name in namespaces(cloud_id):
        await run("ip", "netns", "del", name)
    if host_link(cloud_id) in _links():
        # It goes with the bridge's namespace, but the kernel takes its time.
        with contextlib.suppress(CommandFailed):
            await run("ip", "link", "del", host_link(cloud_id))
    await asyncio.to_thread(cgroups.remove_all, groups, top)


def namespaces(cloud_id: str) -> list[str]:
    """List a cloud's network namespaces, the bridge's last."""
    top = fabric_namespace(cloud_id)
    if not NAMESPACES.is_dir():
        return []
    names = [entry.name for entry in NAMESPACES.iterdir()]
    return sorted(name for name in names if name.startswith(f"{top}-")) + [
        name for name in names if name == top
    ]


def _folders(run_dir: Path, kind: str) -> list[Path]:
    return sorted(
        folder
        for folder in run_dir.iterdir()
        if CLOUD_ID.fullmatch(folder.name)
        and (folder / LOCK).exists()
        and _kind(folder) in {kind, NO_PROCESS}
        and kept_in(folder) is None
    )


def _kind(folder: Path) -> str:
    return (folder / LOCK).read_text() or PROCESSES


def _links() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def _make(folder: Path) -> None:
    """User-data with secrets lies below, and what is found there is carried out."""
    try:
        own_folder(folder)
    except Untrusted as error:
        raise NoPermission(f"the run folder is not believed: {error}") from error
    except OSError as error:
        raise NoPermission(
            f"cannot make {folder}: {error.strerror}; run as root or choose another run folder"
        ) from error


def _try_lock(folder: Path) -> int | None:
    descriptor = os.open(folder / LOCK, _LOCKING, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.asynccontextmanager
async def _guard(run_dir: Path) -> AsyncIterator[None]:
    """Let one cloud at a time look around: a folder without its lock yet is no leftover."""
    _make(run_dir)
    descriptor = os.open(run_dir / ".guard", _LOCKING, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""
What shuts a process server in: a user of its own without any capability, and few files of the host.

Who may create an instance decides what runs here, so nothing of it may be more than that on the
host. The server keeps its namespaces; in them it sees the host's programs read-only, its own /srv,
/run, /tmp and /dev/shm, and of closed folders only what the programs themselves need.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.programs import find

FIRST_ID: Final = 0x7000_0000
"""systemd's list of Linux user ids leaves those from here to 0x7FFFFFFF to nobody."""
IDS: Final = 1 << 16
"""One for each address of 198.18.0.0/16, so that no two servers of a host share one."""
HIDDEN: Final = ("/run", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they are covered, not used
"""Where the host's programs leave sockets, and where everybody may write."""
TEMPORARY_BYTES: Final = 64 << 20
MOST_TASKS: Final = 1_000
"""Processes and threads of one server; they are counted by its user."""
MOST_FILE_BYTES: Final = 1 << 30
"""Of one file, be it a log."""
NAMES: Final = ("hosts", "resolv.conf", "hostname")
INSIDE: Final = Path("/run/exotide")
"""Where the server sees its folder, wherever the host has it."""

SHUT: Final = """
set -e
hostname "$1" 2> /dev/null || echo "$1" > /proc/sys/kernel/hostname
mount --fstab "$2/fstab" --all
mount -t proc -o ro,nosuid,nodev,noexec proc /proc
mount -o remount,bind,ro /
cd /srv
shift 2
exec "$@"
"""
"""Inside the new namespaces, as their root; what comes after has lost that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cage:
    """One server's; `folder` holds its srv, etc, procfs and log."""

    name: str
    ip: str
    folder: Path

    @property
    def user_id(self) -> int:
        """The server's own user and group."""
        return FIRST_ID + int(ipaddress.IPv4Address(self.ip)) % IDS

    @property
    def inside(self) -> Path:
        """The folder as the server sees it."""
        return INSIDE / self.folder.parent.name / self.folder.name

    def fit(self, text: str) -> str:
        """Replace the folder by what the server sees it as."""
        return text.replace(str(self.folder), str(self.inside))

    def prepare(self, owned: Sequence[Path]) -> None:
        """Write what will be mounted, and give the server its files; beside /srv these."""
        for part in (self.folder, self.folder / "procfs"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)  # what is above stays closed to all but root
        for file in owned:
            _touch(file, self.user_id)
        srv = self.folder / "srv"
        if srv.lstat().st_uid != self.user_id:
            _give(srv, self.user_id)
        (self.folder / "fstab").write_text(self._fstab())

    def command(self, inner: Sequence[str]) -> list[str]:
        """Run a command as PID 1 of new namespaces, inside."""
        unshare = [find("unshare"), "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        shut = ["/bin/sh", "-c", SHUT, "sh", self.name, str(self.folder)]
        user = str(self.user_id)
        drop = [
            *(find("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
            "--pdeathsig=KILL",  # another user forgets the one of unshare
        ]
        limit = [
            *(find("prlimit"), f"--nproc={MOST_TASKS}", f"--fsize={MOST_FILE_BYTES}", "--core=0"),
        ]
        return [*unshare, *shut, *limit, *drop, *inner]

    def _fstab(self) -> str:
        """Give the mounts in order; /srv shows the folder first, which nothing hides there."""
        needed = exposed()
        kept = [self.folder / "kept" / str(number) for number in range(len(needed))]
        for place in kept:
            place.mkdir(parents=True, exist_ok=True)
        stage = [Path("/srv/kept") / place.name for place in kept]
        closed = {hiding for path in needed if (hiding := closed_above(path)) is not None}
        return "".join(
            [
                _bind(self.folder, Path("/srv")),
                *(_bind(path, place) for path, place in zip(needed, stage, strict=True)),
                *(_cover(path, "0755", "1m") for path in sorted(closed)),
                *(_cover(path, _mode(path), TEMPORARY_BYTES) for path in _covered()),
                *(_bind(place, path) for path, place in zip(needed, stage, strict=True)),
                _bind(Path("/srv"), self.inside),
                *self._names(),
                _bind(Path("/srv/srv"), Path("/srv")),
            ]
        )

    def _names(self) -> Iterable[str]:
        """Mount the names of hosts; some hosts keep theirs below /run, which is covered by now."""
        for name in NAMES:
            target = Path("/etc", name).resolve()
            if any(target.is_relative_to(path) for path in _covered()):
                shutil.copy(self.folder / "etc" / name, self.folder / "etc" / target.name)
                yield _bind(Path("/srv/etc"), target.parent)
            elif target.exists():
                yield _bind(Path("/srv/etc", name), target)


@functools.cache
def exposed() -> tuple[Path, ...]:
    """Give what the programs need of what the server cannot see: the Python that runs them."""
    package = Path(__file__).resolve().parents[2]
    beside = [package.parents[1] / name for name in ("slowapp", "autoscaler", "servicediscovery")]
    places = [Path(sys.prefix), Path(sys.base_prefix), package.parent]
    places += [path for path in beside if path.is_dir()]
    both = {each for path in places for each in (path, path.resolve())}
    wanted = {path for path in both if _hidden(path)}
    return tuple(sorted(path for path in wanted if not wanted & set(path.parents)))


def closed_above(path: Path) -> Path | None:
    """Give the topmost folder above a path that others may not enter; None: there is none."""
    for above in reversed(path.parents):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None


def check(uid_map: str | None = None) -> None:
    """
    Make sure that servers can have users of their own.

    Args:
        uid_map: What /proc/self/uid_map says. None: read it.

    Raises:
        HostUnsuitable: this process's user namespace lacks their ids.
    """
    text = Path("/proc/self/uid_map").read_text() if uid_map is None else uid_map
    for line in text.splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= FIRST_ID and first + count >= FIRST_ID + IDS:
            return
    raise HostUnsuitable(
        f"each server has a user of its own, but the ids from {FIRST_ID} to {FIRST_ID + IDS - 1} "
        "do not exist here: /proc/self/uid_map lacks them; run outside of the user namespace"
    )


def _hidden(path: Path) -> bool:
    return closed_above(path) is not None or any(path.is_relative_to(each) for each in _covered())


@functools.cache
def _covered() -> tuple[Path, ...]:
    found = {Path(name).resolve() for name in HIDDEN if Path(name).is_dir()}
    return tuple(sorted(found))


def _mode(path: Path) -> str:
    return "0755" if path == Path("/run") else "1777"


def _cover(path: Path, mode: str, size: int | str) -> str:
    return f"exotide {_quoted(path)} tmpfs mode={mode},size={size},nosuid,nodev 0 0\n"


def _bind(source: Path, target: Path) -> str:
    return f"{_quoted(source)} {_quoted(target)} none bind,X-mount.mkdir 0 0\n"


def _quoted(path: Path) -> str:
    """Write a path as fstab has it."""
    text = str(path).replace("\\", "\\134")
    return text.replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def _touch(file: Path, user_id: int) -> None:
    """Make a file that the server may write, in a folder where it may not; never a link."""
    descriptor = os.open(
        file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
    )
    try:
        os.fchown(descriptor, user_id, user_id)
    finally:
        os.close(descriptor)


def _give(folder: Path, user_id: int) -> None:
    """Give a tree that was made here to the server."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(above) / name, user_id, user_id, follow_symlinks=False)
    os.chown(folder, user_id, user_id)

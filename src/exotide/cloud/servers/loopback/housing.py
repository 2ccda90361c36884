"""
Where a server lives without a network of its own: its folder, its address, perhaps its mounts.

What its programs are told was written for a machine of its own, where "all addresses" and "this
machine" are meant, and files lie below /srv. Here these words are replaced by the server's own
address and folder. Where the kernel lets users make namespaces, the server has its own mounts,
processes and name, and /srv stays what it is.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud.ports import ServerFailed
from exotide.cloud.servers import cgroups
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.loopback.governor import MARK
from exotide.cloud.servers.namespaces import entered, furnished, listening_ports

OWN_ADDRESS: Final = re.compile(r"(?<![\w.-])(?:127\.0\.0\.1|0\.0\.0\.0|localhost)(?![\w./-])")
"""`0.0.0.0/0` means all others and stays."""
OWN_FOLDER: Final = re.compile(r"(?<![\w./-])/srv(?![\w.-])")
AS_USER: Final = ("--user", "--map-root-user")
PROBE_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackHousing:
    """Adapter of Housing."""

    name: str
    ip: str
    folder: Path
    group: str
    groups: Cgroups
    own_mounts: bool

    @property
    def is_pid_1(self) -> bool:
        return self.own_mounts

    @property
    def environment(self) -> dict[str, str]:
        return {MARK: self.group}

    def prepare(self, _: Sequence[Path], /) -> None:
        """Its programs run as the user whose folder it is."""

    def command(self, inner: Sequence[str]) -> list[str]:
        if self.own_mounts:
            inner = furnished(self.name, self.folder, inner, *AS_USER)
        else:
            inside = str(self.folder / "srv")
            inner = ["/bin/sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", inside, *inner]
        return entered(self.groups.entrances(self.group), inner)

    def fit(self, text: str) -> str:
        text = OWN_ADDRESS.sub(self.ip, text)
        if self.own_mounts:
            return text
        return OWN_FOLDER.sub(lambda _: str(self.folder / "srv"), text)

    def require(self, ports: Sequence[int]) -> None:
        for port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.ip, port))
                except OSError as error:
                    raise ServerFailed(
                        f"server {self.name} cannot have port {port} at {self.ip}: "
                        f"{error.strerror}; a program listens there, perhaps at all addresses "
                        "of this machine: stop it, or bind it to 127.0.0.1"
                    ) from error

    def listening(self, pid: int) -> set[int]:
        return listening_ports(pid, self.ip)

    async def vacate(self) -> None:
        """Kill what a killed first process left; nothing does it by itself here."""
        await asyncio.to_thread(cgroups.kill_all, self.groups, self.group)


def may_have_mounts(folder: Path) -> bool:
    """Try whether a server can have its own mounts, processes and name; `folder` is any."""
    for name in ("srv", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("hosts", "resolv.conf", "hostname"):
        (folder / "etc" / name).touch()
    command = furnished("probe", folder, ["/bin/true"], *AS_USER)
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=PROBE_WITHIN_S, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""Namespaces and control groups as the underlay of servers. Needs root on Linux."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers import cage, cgroups, permissions
from exotide.cloud.servers.cage import Cage
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.network import Network
from exotide.cloud.servers.programs import find

LISTENING: Final = "0A"
"""State of a listening socket in /proc/net/tcp."""

ENTER: Final = """
set -e
while [ "$1" != -- ]; do echo $$ >> "$1"; shift; done
shift
exec "$@"
"""
"""Enter the groups first, so that a killed cloud's processes are found by them."""

FURNISH: Final = """
set -e
hostname "$1" 2> /dev/null || echo "$1" > /proc/sys/kernel/hostname
mount --bind "$2/srv" /srv
for name in hosts resolv.conf hostname; do
  if [ -e "/etc/$name" ]; then mount --bind "$2/etc/$name" "/etc/$name"; fi
done
cd /srv
shift 2
exec "$@"
"""
"""
Inside the new namespaces: the server's own name, /srv and names of hosts.

Only root may write the name to a file; in a user namespace the system call does it.
"""


BALANCED: Final = (
    "members see a load balancer's address, not its clients'; security groups are in force"
)
TRUSTED: Final = (
    "servers are users of their own without capabilities; trusted are the kernel, which they "
    "share, and what every user of this host may read"
)


class Namespaces:
    """Adapter of Underlay: each server has its own network, mounts, processes and name."""

    name = "processes"
    own_network = True
    limits: tuple[str, ...] = (BALANCED, TRUSTED)

    def __init__(self, cloud_id: str, *, network: Network | None = None) -> None:
        self.network = network or Network(cloud_id)
        self._groups: Cgroups | None = None

    def check(self, *paths: Path) -> None:
        permissions.check()
        cage.check()
        permissions.check_place(*paths)

    def groups(self) -> Cgroups:
        if self._groups is None:
            self._groups = cgroups.detect()
        return self._groups

    def house(self, spec: ServerSpec, folder: Path, group: str) -> NamespaceHousing:
        return NamespaceHousing(
            cage=Cage(name=spec.name, ip=spec.ip, folder=folder),
            namespace=self.network.namespace(spec.id),
            entrances=tuple(self.groups().entrances(group)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceHousing:
    """Adapter of Housing."""

    cage: Cage
    namespace: Path
    entrances: tuple[Path, ...]

    @property
    def is_pid_1(self) -> bool:
        return True

    @property
    def environment(self) -> dict[str, str]:
        return {}

    def prepare(self, owned: Sequence[Path], /) -> None:
        self.cage.prepare(owned)

    def command(self, inner: Sequence[str]) -> list[str]:
        # nsenter, since `ip netns exec` remounts /sys and loses the control groups.
        enter = [find("nsenter"), f"--net={self.namespace}"]
        return entered(self.entrances, [*enter, *self.cage.command(inner)])

    def fit(self, text: str) -> str:
        return self.cage.fit(text)

    def require(self, ports: Sequence[int]) -> None:
        """Every port is free: the network is new."""

    def listening(self, pid: int) -> set[int]:
        return listening_ports(pid)

    async def vacate(self) -> None:
        """The kernel has done it."""


def entered(entrances: Sequence[Path], inner: Sequence[str]) -> list[str]:
    """Run a command inside groups."""
    return ["/bin/sh", "-c", ENTER, "sh", *map(str, entrances), "--", *inner]


def furnished(name: str, folder: Path, inner: Sequence[str], *flags: str) -> list[str]:
    """Run a command as PID 1 with its own mounts, name, /srv and names of hosts."""
    unshare = [find("unshare"), *flags, "--mount", "--uts", "--pid", "--fork", "--kill-child"]
    furnish = ["/bin/sh", "-c", FURNISH, "sh", name, str(folder)]
    return [*unshare, "--mount-proc", *furnish, *inner]


def listening_ports(pid: int, ip: str | None = None) -> set[int]:
    """Give the TCP ports that listen in a process's network, at any address or at this one."""
    ports: set[int] = set()
    for name in ("tcp",) if ip else ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            ports |= parse_listening(Path(f"/proc/{pid}/net/{name}").read_text(), ip=ip)
    return ports


def parse_listening(table: str, *, ip: str | None = None) -> set[int]:
    """Give the listening ports in a /proc/net/tcp table, of any address or of one."""
    rows = [line.split() for line in table.splitlines()[1:]]
    sockets = [row[1].rpartition(":") for row in rows if row[3] == LISTENING]
    wanted = None if ip is None else _in_hex(ip)
    return {int(port, 16) for address, _, port in sockets if wanted in (None, address)}


def _in_hex(ip: str) -> str:
    """Write an address as the kernel's table does: its bytes as one native integer."""
    number = int.from_bytes(bytes(int(part) for part in ip.split(".")), sys.byteorder)
    return f"{number:08X}"

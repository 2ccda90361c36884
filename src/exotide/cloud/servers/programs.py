"""System programs: where they are, and which Debian package has them."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud.servers.errors import MissingProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a program comes from."""

    names: tuple[str, ...]
    """Names to look for, the Debian one first."""
    package: str


SOURCES: Final = {
    "ip": Source(names=("ip",), package="iproute2"),
    "nsenter": Source(names=("nsenter",), package="util-linux"),
    "nft": Source(names=("nft",), package="nftables"),
    "unshare": Source(names=("unshare",), package="util-linux"),
    "prlimit": Source(names=("prlimit",), package="util-linux"),
    "setpriv": Source(names=("setpriv",), package="util-linux"),
    "mount": Source(names=("mount",), package="mount"),
    "systemd-nspawn": Source(names=("systemd-nspawn",), package="systemd-container"),
    "systemctl": Source(names=("systemctl",), package="systemd"),
    "mmdebstrap": Source(names=("mmdebstrap",), package="mmdebstrap"),
    "apt-get": Source(names=("apt-get",), package="apt"),
    "apt-config": Source(names=("apt-config",), package="apt"),
    "dpkg-deb": Source(names=("dpkg-deb",), package="dpkg"),
    "chroot": Source(names=("chroot",), package="coreutils"),
    "umount": Source(names=("umount",), package="mount"),
    "haproxy": Source(names=("haproxy",), package="haproxy"),
    "prometheus": Source(names=("prometheus",), package="prometheus"),
    "alertmanager": Source(
        names=("prometheus-alertmanager", "alertmanager"), package="prometheus-alertmanager"
    ),
    "node-exporter": Source(
        names=("prometheus-node-exporter", "node_exporter"), package="prometheus-node-exporter"
    ),
}

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""A user's PATH often lacks the sbin folders, which hold ip and haproxy."""


def find(program: str, *, path: str | None = None) -> str:
    """
    Give the full path of a system program, by its key in SOURCES.

    Args:
        path: Folders to search, separated by colons. None: PATH and the system's folders.

    Raises:
        MissingProgram: with the package to install.
    """
    source = SOURCES[program]
    for name in source.names:
        found = shutil.which(name, path=path) if path is not None else _anywhere(name)
        if found:
            return found
    raise MissingProgram(
        f"{source.names[0]} is not installed; run: apt-get install {source.package}"
    )


def find_agent(command: str) -> str:
    """
    Give the full path of one of the project's own commands.

    Raises:
        MissingProgram: when it is neither beside this interpreter nor on the PATH.
    """
    beside = Path(sys.executable).parent / command
    if beside.exists():
        return str(beside)
    found = shutil.which(command)
    if found:
        return found
    raise MissingProgram(f"{command} is not installed beside {sys.executable}; run: make setup")


def _anywhere(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)

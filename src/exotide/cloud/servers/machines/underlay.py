"""Machines as the underlay of servers: namespaces, and groups that systemd is content with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.machines.hierarchies import SystemdCgroups
from exotide.cloud.servers.namespaces import BALANCED, Namespaces
from exotide.cloud.servers.programs import find

NEEDED: Final = ("systemd-nspawn", "mmdebstrap", "setpriv")


ISOLATED: Final = (
    "a machine's root is nobody on the host, in a user namespace; trusted is the kernel, of which "
    "it reaches more than programs under processes"
)


class Machines(Namespaces):
    """Adapter of Underlay: what the process servers have, and a whole Debian on top."""

    name = "machines"
    limits = (
        "machines boot Debian 12 under systemd and run their user-data, whatever their template",
        "machines share the host's kernel, and one that was stopped starts with a fresh disk",
        ISOLATED,
        BALANCED,
    )

    def check(self, *paths: Path) -> None:
        super().check(*paths)
        for program in NEEDED:
            find(program)

    def groups(self) -> Cgroups:
        return SystemdCgroups(super().groups())

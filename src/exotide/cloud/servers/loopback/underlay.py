"""What servers stand on when an ordinary user starts them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers import permissions
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.loopback.governor import Governor
from exotide.cloud.servers.loopback.housing import LoopbackHousing, may_have_mounts
from exotide.cloud.servers.loopback.network import LOW_PORTS_AT, LoopbackNetwork
from exotide.cloud.servers.programs import find

NEEDED: Final = ("node-exporter", "setpriv", "unshare")
LIMITS: Final = (
    "security groups are kept and do not filter: this machine reaches every port of every server",
    "a server sees each client as 127.0.0.1, so source-hash sends all of them to one member",
    "no instance metadata at 169.254.169.254",
    "a server that used up its CPU is stopped for the rest of 100 ms: its latency is coarser",
)
LOW_PORTS: Final = (
    f"ports below {{first}} are not for ordinary users: balancers serve them at {LOW_PORTS_AT} + "
    f"port, so 80 is at {LOW_PORTS_AT + 80}"
)
SHARED: Final = (
    "servers share this machine's files, host name and list of processes: user namespaces are not "
    "allowed here"
)


class Loopback:
    """
    Adapter of Underlay.

    Args:
        own_mounts: Whether each server has mounts, processes and a name of its own, in a user
            namespace. None: where the kernel lets this user make one.
        first_free_port: The lowest port that may be opened. None: ask the kernel.
        number: Of the network that a predecessor had. None: any that is free.
    """

    name = "loopback"
    own_network = False

    def __init__(
        self,
        run_dir: Path,
        *,
        own_mounts: bool | None = None,
        first_free_port: int | None = None,
        number: int | None = None,
    ) -> None:
        self.network = LoopbackNetwork(first_free_port=first_free_port, wanted=number)
        self._run_dir = run_dir
        self._own_mounts: bool | None = own_mounts
        self._groups: Cgroups | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        first = self.network.first_free_port
        low = (LOW_PORTS.format(first=first),) if first > 1 else ()
        return (*low, *LIMITS, *(() if self.own_mounts else (SHARED,)))

    @property
    def own_mounts(self) -> bool:
        """Whether servers have mounts of their own; tried once."""
        if self._own_mounts is None:
            self._own_mounts = not _hidden() and _try_mounts()
        return self._own_mounts

    def check(self, *paths: Path) -> None:
        for program in NEEDED:
            find(program)
        task = f"/proc/self/task/{os.getpid()}/children"
        if not Path(task).exists():
            raise HostUnsuitable(
                f"{task} is missing, by which servers' processes are found; "
                "it needs Linux with CONFIG_PROC_CHILDREN"
            )
        if self.own_mounts:
            permissions.check_place(*paths)

    def groups(self) -> Cgroups:
        if self._groups is None:
            # With mounts of its own, `unshare` is above the server's PID 1.
            self._groups = Governor(self._run_dir, spared=2 if self.own_mounts else 1)
        return self._groups

    def house(self, spec: ServerSpec, folder: Path, group: str) -> LoopbackHousing:
        return LoopbackHousing(
            name=spec.name,
            ip=spec.ip,
            folder=folder,
            group=group,
            groups=self.groups(),
            own_mounts=self.own_mounts,
        )


def _try_mounts() -> bool:
    with tempfile.TemporaryDirectory(prefix="exotide-") as folder:
        return may_have_mounts(Path(folder))


def _hidden() -> bool:
    """Whether a server's own /srv would hide the programs."""
    try:
        permissions.check_place(Path(sys.executable), Path(sys.prefix), Path(__file__))
    except HostUnsuitable:
        return True
    return False

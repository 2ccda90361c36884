"""
Control groups of one cloud's servers: CPU limit, CPU used, and which processes belong.

Version 1 (one tree per controller) and version 2 (one tree) behind the same few methods.
All calls are short file operations and may be made from any thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from exotide.cloud.servers.errors import HostUnsuitable, NoPermission

PERIOD_US: Final = 100_000
"""The kernel's default; shorter periods cost latency for busy servers (measured)."""
LEAST_QUOTA_US: Final = 1_000
"""The kernel refuses less."""
GONE_WITHIN_S: Final = 5.0
"""How long the last process of a killed group may take to vanish."""


class Cgroups(Protocol):
    """Groups are named by their path below the top, such as `exotide-1a2b3c/0f9e8d7c`."""

    def create(self, group: str) -> None:
        """Make the group and its parents; fine if it exists. Raises NoPermission."""

    def entrances(self, group: str) -> list[Path]:
        """Files into which a process writes 0 to enter the group with all its children."""

    def limit(self, group: str, cores: float | None) -> None:
        """Limit the group's CPU to this many cores; None lifts the limit."""

    def weigh(self, group: str, weight: int) -> None:
        """Set the group's weight beside its siblings, 100 being an ordinary one's."""

    def usage_s(self, group: str) -> float:
        """CPU seconds that the group has used since it was made."""

    def pids(self, group: str) -> list[int]:
        """Processes in exactly this group."""

    def members(self, group: str) -> list[str]:
        """The group and all groups below it, deepest first; empty if there is none."""

    def remove(self, group: str) -> None:
        """Remove an empty group; fine if it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupsV1:
    """One tree per controller; cpu and cpuacct may be the same mount."""

    cpu: Path
    cpuacct: Path

    @property
    def _roots(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.cpu, self.cpuacct)))

    def create(self, group: str) -> None:
        for root in self._roots:
            _make(root / group)

    def entrances(self, group: str) -> list[Path]:
        return [root / group / "cgroup.procs" for root in self._roots]

    def limit(self, group: str, cores: float | None) -> None:
        folder = self.cpu / group
        (folder / "cpu.cfs_period_us").write_text(f"{PERIOD_US}\n")
        (folder / "cpu.cfs_quota_us").write_text(f"{_quota_us(cores) or -1}\n")

    def weigh(self, group: str, weight: int) -> None:
        # 1024 is version 1's ordinary weight, 100 is version 2's.
        (self.cpu / group / "cpu.shares").write_text(f"{weight * 1024 // 100}\n")

    def usage_s(self, group: str) -> float:
        return int((self.cpuacct / group / "cpuacct.usage").read_text()) / 1e9

    def pids(self, group: str) -> list[int]:
        return sorted({pid for file in self.entrances(group) for pid in _pids(file)})

    def members(self, group: str) -> list[str]:
        return _members(self._roots, group)

    def remove(self, group: str) -> None:
        for root in self._roots:
            _remove(root / group)


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupsV2:
    """One tree; the cpu controller is handed down from group to group."""

    root: Path

    def create(self, group: str) -> None:
        folder = self.root
        for part in Path(group).parts:
            _delegate(folder)
            folder /= part
            _make(folder)

    def entrances(self, group: str) -> list[Path]:
        return [self.root / group / "cgroup.procs"]

    def limit(self, group: str, cores: float | None) -> None:
        quota = _quota_us(cores) or "max"
        (self.root / group / "cpu.max").write_text(f"{quota} {PERIOD_US}\n")

    def weigh(self, group: str, weight: int) -> None:
        (self.root / group / "cpu.weight").write_text(f"{min(max(weight, 1), 10_000)}\n")

    def usage_s(self, group: str) -> float:
        for line in (self.root / group / "cpu.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "usage_usec":
                return int(value) / 1e6
        raise HostUnsuitable(f"{self.root / group / 'cpu.stat'} has no usage_usec")

    def pids(self, group: str) -> list[int]:
        return _pids(self.root / group / "cgroup.procs")

    def members(self, group: str) -> list[str]:
        return _members((self.root,), group)

    def remove(self, group: str) -> None:
        _remove(self.root / group)


def detect(mountinfo: str | None = None) -> Cgroups:
    """
    Choose the version that this host uses for CPU.

    Args:
        mountinfo: What /proc/self/mountinfo says. None: read it.

    Raises:
        HostUnsuitable: when no mounted tree has the cpu controller.
    """
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    controllers, unified = _mounts(text)
    if "cpu" in controllers and "cpuacct" in controllers:
        return CgroupsV1(cpu=controllers["cpu"], cpuacct=controllers["cpuacct"])
    if unified is not None and "cpu" in (unified / "cgroup.controllers").read_text().split():
        return CgroupsV2(root=unified)
    raise HostUnsuitable(
        "no control group tree with the cpu controller is mounted below /sys/fs/cgroup; "
        "in a container, start it with --privileged --cgroupns=host"
    )


def kill_all(groups: Cgroups, group: str, *, within_s: float = GONE_WITHIN_S) -> bool:
    """
    Kill every process of the group and of the groups below; True when none is left.

    Processes are found through the groups alone, never by name. Blocks for up to `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        pids = [pid for name in groups.members(group) for pid in groups.pids(name)]
        if not pids:
            return True
        if time.monotonic() > deadline:
            return False
        _send(pids, signal.SIGKILL)
        time.sleep(0.005)


def signal_all(groups: Cgroups, group: str, number: signal.Signals) -> None:
    """Send a signal to every process of the group and of the groups below; none may be left out."""
    told: set[int] = set()
    while fresh := {pid for name in groups.members(group) for pid in groups.pids(name)} - told:
        _send(fresh, number)
        told |= fresh


def remove_all(groups: Cgroups, group: str, *, within_s: float = GONE_WITHIN_S) -> None:
    """
    Remove the group and those below it, once killed; blocks for up to `within_s`.

    Raises:
        OSError: when the kernel still holds one after that time.
    """
    deadline = time.monotonic() + within_s
    while names := groups.members(group):
        try:
            for name in names:
                groups.remove(name)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        if pid > 1:  # 0 stands for a process of a foreign PID namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _quota_us(cores: float | None) -> int | None:
    return None if cores is None else max(round(cores * PERIOD_US), LEAST_QUOTA_US)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoPermission(
            f"cannot make the control group {folder}: {error.strerror}; "
            "run as root on a host, or in a container with --privileged"
        ) from error


def _delegate(folder: Path) -> None:
    control = folder / "cgroup.subtree_control"
    if "cpu" in control.read_text().split():
        return
    try:
        control.write_text("+cpu\n")
    except OSError as error:
        raise NoPermission(
            f"cannot hand the cpu controller down in {control}: {error.strerror}; "
            "in a container, start it with --privileged --cgroupns=host"
        ) from error


def _pids(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split()]
    except FileNotFoundError:
        return []
    except OSError:  # version 1 answers ENODEV while the group is being removed
        return []


def _members(roots: Iterable[Path], group: str) -> list[str]:
    found: set[str] = set()
    for root in roots:
        for folder, _, _ in os.walk(root / group):
            found.add(str(Path(folder).relative_to(root)))
    return sorted(found, key=lambda name: (-name.count("/"), name))


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


def _mounts(mountinfo: str) -> tuple[dict[str, Path], Path | None]:
    controllers: dict[str, Path] = {}
    unified: Path | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4])
        kind, _, options = right.split()[:3]
        if kind == "cgroup":
            controllers |= dict.fromkeys(options.split(","), point)
        elif kind == "cgroup2":
            unified = point
    return controllers, unified

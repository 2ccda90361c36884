"""
Limits process trees without control groups: stops them for a part of every 100 ms.

A group's processes are found through the first ones, which write their numbers into a file, and
after their death through a mark in the environment that descendants inherit.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.servers.loopback import bucket, trees
from exotide.cloud.servers.loopback.bucket import Bucket
from exotide.cloud.servers.loopback.trees import Tree

log = structlog.get_logger(__name__)

MARK: Final = "EXOTIDE_GROUP"
FOLDER: Final = "trees"
CLOUD_PREFIX: Final = "exotide-"
WALK_EVERY_S: Final = bucket.PERIOD_S
"""Between two walks a new process is not counted; it is caught up with as its time is."""
SPREAD: Final = 0.618
"""Multiples of the golden section lie apart, however many there are."""
STOP_ROUNDS: Final = 10
"""A tree that still forks after so many rounds is stopped again at the next look."""


@dataclass(slots=True, kw_only=True, eq=False)
class Governed:
    """One group that is measured, and limited while `cores` is set."""

    name: str
    file: Path
    tree: Tree = field(default_factory=Tree)
    cores: float | None = None
    bucket: Bucket = field(default_factory=lambda: bucket.begin(now_s=0.0, cores=0.0))
    usage_s: float = 0.0
    charged_s: float = 0.0
    """How much of it the bucket knows of."""
    stopped: bool = False
    look_at_s: float = 0.0
    walk_at_s: float = 0.0
    roots: tuple[int, ...] = ()


class Governor:
    """
    Adapter of Cgroups; its thread runs while any group is limited.

    Args:
        run_dir: Holds one folder per cloud, as ProcessServers has it.
        spared: How many generations at the top of each tree are never stopped: the server's
            first processes must hear what they are told.
    """

    def __init__(self, run_dir: Path, *, spared: int = 1) -> None:
        self._run_dir, self._spared = run_dir, spared
        self._groups: dict[str, Governed] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._host_cores = os.cpu_count() or 1
        self._limited = 0

    def create(self, group: str) -> None:
        with self._changed:
            file = self._file(group)
            if "/" not in group:
                file.mkdir(parents=True, exist_ok=True)
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            self._groups.setdefault(group, Governed(name=group, file=file))

    def entrances(self, group: str) -> list[Path]:
        return [self._file(group)]

    def limit(self, group: str, cores: float | None) -> None:
        with self._changed:
            governed = self._known(group)
            if cores is None:
                self._resume(governed)
            elif governed.cores is None:
                now_s = time.monotonic()
                self._measure(governed, now_s)
                governed.charged_s = governed.usage_s
                governed.bucket = bucket.begin(now_s=now_s - self._offset_s(), cores=cores)
                governed.look_at_s = now_s
            governed.cores = cores
            if cores is not None and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="governor", daemon=True)
                self._thread.start()
            self._changed.notify()

    def weigh(self, group: str, weight: int) -> None:
        """Nothing here can prefer one group to another."""

    def usage_s(self, group: str) -> float:
        with self._changed:
            governed = self._known(group)
            self._measure(governed, time.monotonic())
            return governed.usage_s

    def pids(self, group: str) -> list[int]:
        with self._changed:
            governed = self._groups.get(group)
            if governed is not None and governed.roots and self._walk(governed):
                return governed.tree.pids
        return [pid for pid in trees.marked(f"{MARK}={group}") if pid != os.getpid()]

    def members(self, group: str) -> list[str]:
        file = self._file(group)
        if not file.exists():
            return []
        names = sorted(entry.name for entry in file.iterdir()) if file.is_dir() else []
        return [*(f"{group}/{name}" for name in names), group]

    def remove(self, group: str) -> None:
        with self._changed:
            governed = self._groups.pop(group, None)
            if governed is not None:
                governed.tree.close()
        file = self._file(group)
        if file.is_dir():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)

    def _run(self) -> None:
        """Look after every limited group in turn, until none is left."""
        with self._changed:
            while limited := [each for each in self._groups.values() if each.cores is not None]:
                for governed in limited:
                    self._look(governed)
                due_s = min(each.look_at_s for each in limited) - time.monotonic()
                if due_s > 0.0:
                    self._changed.wait(due_s)
            self._thread = None

    def _look(self, governed: Governed) -> None:
        now_s, cores = time.monotonic(), governed.cores
        if cores is None or now_s < governed.look_at_s:
            return
        self._measure(governed, now_s)
        used_s, governed.charged_s = governed.usage_s - governed.charged_s, governed.usage_s
        governed.bucket = bucket.spend(governed.bucket, used_s=used_s, now_s=now_s, cores=cores)
        if governed.bucket.may_run:
            self._resume(governed)
        elif not governed.stopped:
            self._stop(governed)
        governed.look_at_s = now_s + bucket.look_after_s(
            governed.bucket, now_s=now_s, cores=cores, host_cores=self._host_cores
        )

    def _measure(self, governed: Governed, now_s: float) -> None:
        if now_s >= governed.walk_at_s:
            self._walk(governed)
            governed.walk_at_s = now_s + WALK_EVERY_S
        governed.usage_s = governed.tree.usage_s()

    def _walk(self, governed: Governed) -> list[int]:
        """Find the group's processes; a root that died is trusted again only by its mark."""
        try:
            told = [int(word) for word in governed.file.read_text().split()]
        except FileNotFoundError:
            told = []
        mark = f"{MARK}={governed.name}"
        roots = [pid for pid in told if pid in governed.roots or trees.is_marked(pid, mark)]
        pids = governed.tree.walk(roots)
        governed.roots = tuple(pid for pid in roots if pid in pids)
        return pids

    def _stop(self, governed: Governed) -> None:
        """Stop the whole tree: who forked meanwhile has children that another walk finds."""
        stopped: set[int] = set()
        for _ in range(STOP_ROUNDS):
            self._walk(governed)
            fresh = [pid for pid in governed.tree.below(self._spared) if pid not in stopped]
            if not fresh:
                break
            trees.send(fresh, signal.SIGSTOP)
            stopped.update(fresh)
        governed.stopped = True

    def _resume(self, governed: Governed) -> None:
        # The first process is never stopped here: where it is, someone froze the whole server.
        if governed.stopped and not any(map(governed.tree.is_stopped, governed.roots)):
            trees.send(governed.tree.below(self._spared), signal.SIGCONT)
            governed.stopped = False

    def _offset_s(self) -> float:
        """Spread the groups' periods: those that begin together compete for the host's cores."""
        self._limited += 1
        return self._limited * SPREAD % 1.0 * bucket.PERIOD_S

    def _known(self, group: str) -> Governed:
        try:
            return self._groups[group]
        except KeyError:
            raise FileNotFoundError(f"no such group: {group}") from None

    def _file(self, group: str) -> Path:
        cloud, _, name = group.partition("/")
        folder = self._run_dir / cloud.removeprefix(CLOUD_PREFIX) / FOLDER
        return folder / name if name else folder

"""Worlds without time and network: a clock moved by hand, a pool that fails on demand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from exotide_autoscaler.domain import Instant, Member, Pool
from exotide_autoscaler.errors import CloudUnavailable, Refused
from exotide_autoscaler.journal import SCHEMA, Journal

T = TypeVar("T")


@dataclass(slots=True)
class HandClock:
    """Adapter of ports.Clock; the real time that passed is `elapsed_s`."""

    elapsed_s: float = 0.0
    wall_s: float = 1_800_000_000.0
    uptime_s: float = 5000.0
    boots: int = 1

    def now(self) -> Instant:
        return Instant(wall_s=self.wall_s, monotonic_s=self.uptime_s, boot=f"boot-{self.boots}")

    def advance(self, seconds: float) -> None:
        self.elapsed_s += seconds
        self.wall_s += seconds
        self.uptime_s += seconds

    def reboot(self) -> None:
        self.boots += 1
        self.uptime_s = 0.0
        self.advance(8.0)


@dataclass(slots=True)
class InstantScribe:
    """Adapter of ports.Scribe without a thread."""

    journal: Journal

    async def run(self, work: Callable[[Journal], T]) -> T:
        return work(self.journal)


@dataclass(slots=True)
class FailingPools:
    """Adapter of ports.Pools, as strict as the cloud: unknown victims are refused."""

    clock: HandClock
    size: int = 1
    ids: list[str] = field(default_factory=lambda: ["m0"])
    fault: str = ""
    """Empty, or what happens to calls: unread, refused, lost, done-but-lost, late."""
    changes: list[tuple[float, int]] = field(default_factory=list)
    """When, in real time, the pool got another size."""
    born: int = 1

    async def get(self) -> Pool:
        if self.fault == "unread":
            raise CloudUnavailable("no answer")
        settled = len(self.ids) == self.size
        return Pool(
            name="web",
            size=self.size,
            state="running" if settled else "scaling-up",
            members=tuple(self.ids),
        )

    async def scale(self, size: int) -> None:
        self._change(size)

    async def evict(self, victims: tuple[str, ...]) -> None:
        if set(victims) - set(self.ids):
            raise Refused("not a member")
        if self.fault not in {"refused", "lost"}:
            self.ids = [member for member in self.ids if member not in victims]
        self._change(self.size - len(victims))

    async def members(self) -> tuple[Member, ...]:
        """The order of birth is also that of the list."""
        return tuple(Member(id=member) for member in self.ids)

    async def failing(self) -> frozenset[str]:
        return frozenset()

    def settle(self) -> None:
        while len(self.ids) < self.size:
            self.ids.append(f"m{self.born}")
            self.born += 1
        del self.ids[self.size :]

    def _change(self, size: int) -> None:
        if self.fault == "refused":
            raise Refused("no")
        if self.fault != "lost":
            if size != self.size:
                self.changes.append((self.clock.elapsed_s, size))
            self.size = size
        if self.fault in {"lost", "done-but-lost"}:
            raise CloudUnavailable("no answer")


def memory_journal() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    return connection

"""Worlds without time and network: a clock moved by hand, a pool that fails on demand."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from exotide_autoscaler.domain import Instant, Intent, Member, Policy, Pool, Reason
from exotide_autoscaler.errors import (
    Busy,
    CloudUnavailable,
    MemberRefused,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from exotide_autoscaler.inbox import AlertKey
from exotide_autoscaler.journal import Journal
from exotide_autoscaler.reception import store
from exotide_autoscaler.reconcile import Pass, Reconciler
from exotide_autoscaler.schema import SCHEMA
from exotide_autoscaler.webhook import Message, Outcome

T = TypeVar("T")
POLICY = Policy(min_size=1, max_size=4, interval_s=60)


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


class Killed(BaseException):
    """The program ended in the middle of a call."""


@dataclass(slots=True)
class FailingPools:
    """
    Adapter of ports.Pools, as strict and as unkind as the cloud.

    What was asked for is accepted, and becomes true when `settle` is called, if it ever does.
    """

    clock: HandClock
    size: int = 1
    ids: list[str] = field(default_factory=lambda: ["m0"])
    fault: str = ""
    """Empty, or what happens to calls: unread, refused, quota, busy, lost, done-but-lost,
    killed-before, killed-after."""
    ages: str = "told"
    """told, or: unread, untold (no creation times), lagging (the newest member is not listed)."""
    health: str = "told"
    """told, or: unread."""
    state: str = ""
    """A state that never ends; empty: as the members are."""
    comes: bool = True
    """Whether members that were asked for come."""
    protected: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    """Members that fail the health check."""
    broken: set[str] = field(default_factory=set)
    """Members in state error."""
    changes: list[tuple[float, int]] = field(default_factory=list)
    """When, in real time, the pool got another size."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    """From which size to which the cloud was asked to go, refused or not."""
    evicted: list[str] = field(default_factory=list)
    """Who was to go, each time that the cloud was asked."""
    born: int = 1
    before: tuple[int, list[str]] | None = None
    """What the pool was before its latest change."""

    async def get(self) -> Pool:
        if self.fault == "unread":
            raise CloudUnavailable("no answer")
        settled = len(self.ids) == self.size
        return Pool(
            name="web",
            size=self.size,
            state=self.state or ("running" if settled or not self.comes else "scaling-up"),
            members=tuple(self.ids),
        )

    async def scale(self, size: int) -> None:
        self.asked.append((self.size, size))
        self._change(size, self.ids[max(0, len(self.ids) - size) :])

    async def evict(self, victims: tuple[str, ...]) -> None:
        self.asked.append((self.size, self.size - len(victims)))
        self.evicted += victims
        if self.fault in {"", "done-but-lost", "killed-after"}:
            if unknown := set(victims) - set(self.ids):
                raise MemberRefused(f"{unknown} are no members", members=frozenset(unknown))
            if held := set(victims) & self.protected:
                said = f"{held} are protected"
                raise MemberRefused(said, members=frozenset(held), said=said)
        left = [member for member in self.ids if member not in victims]
        self._change(self.size - len(victims), left)

    async def members(self) -> tuple[Member, ...]:
        if self.fault == "unread" or self.ages == "unread":
            raise CloudUnavailable("no answer")
        listed = self.ids[:-1] if self.ages == "lagging" else self.ids
        return tuple(
            Member(
                id=member,
                created_at=None if self.ages == "untold" else f"{int(member[1:]):08d}",
                state="error" if member in self.broken else "running",
                ip=f"ip-{member}",
            )
            for member in listed
        )

    async def failing(self) -> frozenset[str]:
        if self.fault == "unread" or self.health == "unread":
            raise Unauthorized("the key may not read load balancers")
        return frozenset(f"ip-{member}" for member in self.dead & set(self.ids))

    def settle(self) -> None:
        """Let everything come true."""
        while len(self.ids) < self.size and self.comes:
            self.ids.append(f"m{self.born}")
            self.born += 1
        del self.ids[self.size :]

    def fall_back(self) -> None:
        """What was accepted is not done after all."""
        if self.before is not None:
            self.size, self.ids = self.before
            self.before = None

    def _change(self, size: int, members: list[str]) -> None:
        if self.fault == "refused":
            raise Refused("no")
        if self.fault == "quota":
            raise QuotaExceeded("no room")
        if self.fault == "busy":
            raise Busy("something else is under way")
        if self.fault == "killed-before":
            raise Killed
        if self.fault != "lost":
            if size != self.size:
                self.changes.append((self.clock.elapsed_s, size))
                self.before = self.size, list(self.ids)
            self.size, self.ids = size, members
        if self.fault == "killed-after":
            raise Killed
        if self.fault in {"lost", "done-but-lost"}:
            raise CloudUnavailable("no answer")


def memory_journal() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    return connection


@dataclass(slots=True)
class World:
    connection: sqlite3.Connection
    clock: HandClock
    pools: FailingPools
    policy: Policy
    reconciler: Reconciler

    @property
    def journal(self) -> Journal:
        return Journal(self.connection)

    def hook(self, intent: Intent, *alerts: str, over: bool = False) -> Outcome:
        """Let a webhook come; with alerts, each named `fingerprint@start`."""
        keys = tuple(
            AlertKey(fingerprint=name, starts_at=start)
            for name, _, start in (alert.partition("@") for alert in alerts)
        )
        outcome = Outcome.RESOLVED if over else Outcome.ACCEPTED
        message = Message(
            intent=intent,
            outcome=outcome,
            firing=() if over else keys,
            resolved=keys if over else (),
        )
        return store(self.journal, message, now=self.clock.now(), policy=self.policy).outcome

    def run(self) -> Pass:
        return asyncio.run(self.reconciler.run_pass())

    def restart(self) -> None:
        """As after kill -9: only the journal is left."""
        scribe = InstantScribe(Journal(self.connection))
        self.reconciler = Reconciler(self.pools, scribe, self.clock, self.policy)
        asyncio.run(self.reconciler.recall())

    def after(self, seconds: float) -> Reason:
        self.clock.advance(seconds)
        self.pools.settle()
        return self.run().decision.reason

    def reasons(self) -> list[Reason]:
        return [item.decision.reason for item in self.journal.decisions(after=0, limit=1000)]

    def owed(self) -> list[Intent]:
        return [item.intent for item in self.journal.owed(self.clock.now())]


@contextmanager
def a_world(policy: Policy = POLICY, size: int = 1) -> Iterator[World]:
    with closing(memory_journal()) as connection:
        clock = HandClock()
        pools = FailingPools(clock, size=size)
        pools.settle()
        scribe = InstantScribe(Journal(connection))
        yield World(connection, clock, pools, policy, Reconciler(pools, scribe, clock, policy))


def passes(world: World, count: int, *, every_s: float = 61) -> None:
    """Let time pass without anything coming true by itself."""
    for _ in range(count):
        world.clock.advance(every_s)
        world.run()

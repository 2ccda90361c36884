"""The autoscaler on a local cloud that fails on demand: over HTTP."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from exoscale.api.v2 import Client
from exotide_autoscaler.client import Client as AutoscalerClient
from exotide_autoscaler.domain import Intent, Member, Policy, Pool, Reason
from exotide_autoscaler.journal import Journal
from exotide_autoscaler.pools import ExoscalePools
from exotide_autoscaler.reception import store
from exotide_autoscaler.reconcile import Pass, Reconciler
from exotide_autoscaler.webhook import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.world import Pace
from exotide.cloud.faults.model import (
    BootFailure,
    BrokenBody,
    Drop,
    Duration,
    EarlySuccess,
    Effect,
    FailingOperation,
    FallBack,
    Fault,
    ForeignChange,
    Lag,
    Latency,
    Protection,
    Quota,
    RateLimit,
    Refusal,
    Selector,
    ServerError,
    Shortfall,
    Stage,
    Staggered,
    StuckOperation,
    StuckState,
    Timing,
    WrongField,
)
from exotide.cloud.reset import reset
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.stack.policies import autoscaler_policy
from tests.sdk import key_for

from .worlds import HandClock, InstantScribe, memory_journal

UP, DOWN = Intent.UP, Intent.DOWN
POLICY = Policy(min_size=1, max_size=4, interval_s=60)
CALL_WITHIN_S = 0.4
ROUNDS_TO_RECOVER = 8


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    with running_cloud(pace=Pace(retry_s=0.01)) as running:
        yield running
    structlog.reset_defaults()


@dataclass
class WatchedPools:
    """Real pools, and what was asked of them."""

    inner: ExoscalePools
    asked: list[tuple[int, int]]
    shown: int = 0

    async def get(self) -> Pool:
        pool = await self.inner.get()
        self.shown = pool.size
        return pool

    async def scale(self, size: int) -> None:
        self.asked.append((self.shown, size))
        await self.inner.scale(size)

    async def evict(self, victims: tuple[str, ...]) -> None:
        self.asked.append((self.shown, self.shown - len(victims)))
        await self.inner.evict(victims)

    async def members(self) -> tuple[Member, ...]:
        return await self.inner.members()

    async def failing(self) -> frozenset[str]:
        return await self.inner.failing()


@dataclass
class Bench:
    """The autoscaler's own parts on a real endpoint; only its clock is moved by hand."""

    cloud: RunningCloud
    client: Any
    connection: sqlite3.Connection
    pool_id: str = ""
    clock: HandClock = field(default_factory=HandClock)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        template = next(
            key for key, each in TEMPLATES.items() if each.zone == self.cloud.access.zone
        )
        started = self.client.create_instance_pool(
            name="web",
            size=2,
            instance_type={"id": next(iter(INSTANCE_TYPES))},
            template={"id": template},
            disk_size=10,
        )
        self.pool_id = started["reference"]["id"]
        self.cloud.settle()
        key = key_for(self.client, autoscaler_policy(self.pool_id))
        self.api = AutoscalerClient(
            key["key"],
            key["secret"],
            endpoint=self.cloud.access.endpoint,
            timeout_s=CALL_WITHIN_S,
            environ={},
        )
        self.pools = ExoscalePools(self.api, pool_id=self.pool_id)
        scribe = InstantScribe(Journal(self.connection))
        self.reconciler = Reconciler(self.pools, scribe, self.clock, POLICY)

    @property
    def size(self) -> int:
        """The truth, whatever the API says."""
        return self.cloud.cloud.world.pools[self.pool_id].size

    @property
    def owed(self) -> list[Intent]:
        return [item.intent for item in Journal(self.connection).owed(self.clock.now())]

    @property
    def members(self) -> list[str]:
        """The oldest first."""
        return list(self.cloud.cloud.world.pools[self.pool_id].members)

    def watch(self, asked: list[tuple[int, int]]) -> None:
        """Note from which size, as it was read, to which size the cloud is asked to go."""
        self.reconciler = Reconciler(
            WatchedPools(self.pools, asked),
            InstantScribe(Journal(self.connection)),
            self.clock,
            POLICY,
        )

    def wait_for_size(self, size: int) -> None:
        ends_at = time.monotonic() + 5
        while self.size != size:
            assert time.monotonic() < ends_at
            time.sleep(0.01)  # what falls back does so by the clock of the cloud

    def hook(self, intent: Intent) -> None:
        """Let a webhook come, late enough to be no repeat of what was just served."""
        self.clock.advance(POLICY.repeat_window_s + 1)
        message = Message(intent=intent)
        store(Journal(self.connection), message, now=self.clock.now(), policy=POLICY)

    def round(self) -> Pass:
        """Let an interval pass, then run one pass."""
        self.clock.advance(POLICY.interval_s + 1)
        done = self.loop.run_until_complete(self.reconciler.run_pass())
        if not self.cloud.cloud.world.faults.all():
            self.cloud.settle()
        return done

    def add(self, fault: Fault) -> None:
        self._there(lambda: self.cloud.cloud.world.faults.add(fault))

    def heal(self) -> None:
        """End all faults and let everything come to rest."""
        self._there(self.cloud.cloud.world.faults.clear)
        self.cloud.settle()

    def _there(self, work: Callable[[], object]) -> None:
        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self.cloud.loop).result(10)


@contextmanager
def bench(cloud: RunningCloud) -> Iterator[Bench]:
    client = Client(cloud.access.key, cloud.access.secret, url=cloud.url)
    with closing(memory_journal()) as connection, closing(client.http_client):
        made = Bench(cloud, client, connection)
        try:
            yield made
        finally:
            made.loop.run_until_complete(made.api.close())
            made.loop.close()
            emptying = reset(cloud.cloud.world)
            asyncio.run_coroutine_threadsafe(emptying, cloud.loop).result(10)


effects: st.SearchStrategy[Effect] = st.one_of(
    st.builds(ServerError, status=st.sampled_from([500, 502, 503, 504]), carried_out=st.booleans()),
    st.builds(RateLimit, retry_after_s=st.just(1)),
    st.builds(BrokenBody, form=st.sampled_from(["truncated", "html", "wrong-type", "empty"])),
    st.builds(Drop, moment=st.sampled_from(["before", "after", "middle"])),
    st.builds(Latency, delay_s=st.sampled_from([Duration(first=0.02), Duration(first=0.6)])),
    st.builds(StuckOperation, carried_out=st.booleans()),
    st.builds(FailingOperation),
)
OPERATIONS = [None, None, "get-*", "*-instance-pool*", "list-instances"]


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    effect = draw(effects)
    works = effect.stage is Stage.OPERATION
    operation = draw(st.sampled_from([None, None, "scale-*", "evict-*"] if works else OPERATIONS))
    timing = Timing(
        seed=draw(st.integers(0, 99)),
        probability=draw(st.sampled_from([1.0, 0.5])),
        count=draw(st.sampled_from([None, 1, 2])),
    )
    return Fault(effect=effect, selector=Selector(operation=operation), timing=timing)


steps = st.tuples(
    st.none() | faults(),
    st.sampled_from([UP, UP, DOWN, Intent.NONE]),
    st.booleans(),
)
"""A new fault, a webhook, and whether all faults end after the round."""


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=2, max_size=6), st.sampled_from([UP, DOWN]))
def test_no_sequence_of_faults_scales_to_a_wrong_size_and_the_end_of_faults_is_the_end_of_trouble(
    cloud: RunningCloud, history: list[tuple[Fault | None, Intent, bool]], last: Intent
) -> None:
    with bench(cloud) as site:
        wishes: dict[int, int] = {1: 0, -1: 0}
        changes: dict[int, int] = {1: 0, -1: 0}
        for fault, intent, ends in history:
            if fault is not None:
                site.add(fault)
            if intent is not Intent.NONE:
                site.hook(intent)
                wishes[1 if intent is UP else -1] += 1
            before = site.size
            site.round()
            if ends:
                site.heal()
            changed = site.size - before
            assert changed in {-1, 0, 1}, "at most one change per interval"
            assert POLICY.min_size <= site.size <= POLICY.max_size
            if changed:
                changes[changed] += 1
                assert changes[changed] <= wishes[changed], "nobody asked for this change"
        site.heal()
        assert_recovers(site, last)


def assert_recovers(site: Bench, last: Intent) -> None:
    """Without faults, what is owed is served, and a new wish changes the size by one."""
    for _ in range(ROUNDS_TO_RECOVER):
        done = site.round()
        assert not done.error
    assert site.owed == []
    before = site.size
    site.hook(last)
    site.round()
    expected = min(POLICY.max_size, max(POLICY.min_size, before + (1 if last is UP else -1)))
    assert site.size == expected
    for _ in range(2):
        site.round()
    assert (site.size, site.owed) == (expected, [])


def test_a_boot_failure_leaves_the_pool_as_it_was_and_the_wish_is_served_later(
    cloud: RunningCloud,
) -> None:
    with bench(cloud) as site:
        site.add(Fault(effect=BootFailure(), timing=Timing(seed=1, count=2)))
        site.hook(UP)
        for _ in range(2):
            site.round()
            cloud.settle()
            assert site.size == 2
        for _ in range(3):
            site.round()
            cloud.settle()
        assert (site.size, site.owed) == (3, [])


def test_a_quota_that_is_reached_is_told_and_served_when_there_is_room(
    cloud: RunningCloud,
) -> None:
    with bench(cloud) as site:
        site.add(Fault(effect=Quota(limit=2), timing=Timing(seed=1)))
        site.hook(UP)
        done = site.round()
        assert done.error.startswith("QuotaExceeded: ")
        assert (site.size, site.owed) == (2, [UP])
        site.heal()
        site.round()
        assert site.size == 3


def test_a_stuck_operation_is_waited_for_and_never_scaled_over(cloud: RunningCloud) -> None:
    with bench(cloud) as site:
        stuck = Fault(
            effect=StuckOperation(),
            selector=Selector(operation="scale-*"),
            timing=Timing(seed=1, count=1),
        )
        site.add(stuck)
        site.hook(UP)
        site.round()
        assert site.size == 3
        site.hook(UP)
        reasons = {site.round().decision.reason for _ in range(3)}
        assert reasons == {Reason.SETTLING}
        assert site.size == 3
        site.heal()
        site.round()
        assert site.size == 4


unkind_effects: st.SearchStrategy[Effect] = st.one_of(
    st.builds(FallBack, delay_s=st.just(Duration(first=0.01)), fresh=st.booleans()),
    st.builds(Staggered, delay_s=st.just(Duration(first=0.01)), late_size=st.booleans()),
    st.builds(Shortfall, gives_up=st.booleans()),
    st.builds(StuckState, state=st.sampled_from([None, "degraded"]), accepts=st.booleans()),
    st.builds(Protection, status=st.sampled_from([400, 403, 409, 412])),
    st.builds(BootFailure, stays=st.booleans()),
    st.builds(Refusal, status=st.sampled_from([400, 403, 404, 409, 412])),
    st.builds(Lag, behind_s=st.just(5.0)),
    st.builds(WrongField, field=st.sampled_from(["created-at", "state", "size", "instances"])),
    st.builds(ForeignChange, change=st.sampled_from(["grow", "shrink", "evict", "delete"])),
    st.just(EarlySuccess()),
    effects,
)


@st.composite
def unkind_faults(draw: st.DrawFn) -> Fault:
    effect = draw(unkind_effects)
    works = effect.stage in {Stage.OPERATION, Stage.POOL}
    operation = draw(st.sampled_from([None, "scale-*", "evict-*"] if works else OPERATIONS))
    if effect.stage is Stage.BOOT:
        operation = None
    timing = Timing(seed=draw(st.integers(0, 99)), count=draw(st.sampled_from([1, 2, 3])))
    return Fault(effect=effect, selector=Selector(operation=operation), timing=timing)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(unkind_faults(), max_size=2), st.sampled_from([UP, DOWN, Intent.NONE])),
        min_size=2,
        max_size=7,
    ),
    st.sampled_from([UP, DOWN]),
)
def test_however_unkind_the_cloud_is_no_step_is_too_long_and_afterwards_all_is_well(
    cloud: RunningCloud, history: list[tuple[list[Fault], Intent]], last: Intent
) -> None:
    with bench(cloud) as site:
        asked: list[tuple[int, int]] = []
        site.watch(asked)
        for faults_, intent in history:
            for fault in faults_:
                site.add(fault)
            if intent is not Intent.NONE:
                site.hook(intent)
            before = len(asked)
            site.round()
            assert len(asked) - before <= 1, "one call in a pass"
        for shown, wanted in asked:
            assert abs(wanted - shown) == 1
            assert wanted <= POLICY.max_size or wanted < shown
            assert wanted >= POLICY.min_size
        site.heal()
        if not POLICY.min_size <= site.size <= POLICY.max_size:
            return  # others took it beyond the limits, and nobody set these to hold
        assert_recovers(site, last)


def test_a_fall_back_is_asked_for_again_and_only_to_the_same_size(cloud: RunningCloud) -> None:
    with bench(cloud) as site:
        timing = Timing(seed=1, count=1)
        site.add(Fault(effect=FallBack(delay_s=Duration(first=0.01)), timing=timing))
        site.hook(UP)
        site.round()
        site.wait_for_size(2)
        site.heal()
        for _ in range(3):
            site.round()
        assert (site.size, site.owed) == (3, [])


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_a_protected_member_stays_whatever_the_code_and_the_next_one_goes(
    cloud: RunningCloud, status: int
) -> None:
    with bench(cloud) as site:
        protected = min(site.members)  # both were made in the same second
        site.add(
            Fault(
                effect=Protection(status=status),
                selector=Selector(instance=protected),
                timing=Timing(seed=1),
            )
        )
        site.hook(DOWN)
        for _ in range(2):
            site.round()
            cloud.settle()
        assert site.members == [protected]


def test_a_member_that_never_comes_blocks_nothing_after_the_limit(cloud: RunningCloud) -> None:
    with bench(cloud) as site:
        site.add(Fault(effect=Shortfall(), timing=Timing(seed=1, count=1)))
        site.hook(UP)
        site.round()
        assert (site.size, len(site.members)) == (3, 2)
        site.clock.advance(POLICY.settle_s)
        assert Reason.UNSETTLED in site.round().closed
        site.hook(DOWN)
        site.round()
        assert (site.size, len(site.members)) == (2, 2)


def test_a_member_in_error_leaves_by_its_id_once_the_pool_had_its_time(
    cloud: RunningCloud,
) -> None:
    with bench(cloud) as site:
        site.add(Fault(effect=BootFailure(stays=True), timing=Timing(seed=1, count=1)))
        site.hook(UP)
        site.round()
        _, _, broken = site.members
        site.clock.advance(POLICY.settle_s)
        site.round()
        site.hook(DOWN)
        site.round()
        assert broken not in site.members
        assert len(site.members) == 2

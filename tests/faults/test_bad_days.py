"""Pools under any order of changes and faults: what holds all the time, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exotide.cloud.api.errors import FailureReason
from exotide.cloud.api.world import Pace
from exotide.cloud.faults.model import (
    BootFailure,
    Death,
    Duration,
    EarlySuccess,
    Effect,
    FailingOperation,
    FallBack,
    Fault,
    ForeignChange,
    Hang,
    Lag,
    Latency,
    NoCapacity,
    Protection,
    Quota,
    RateLimit,
    Refusal,
    ServerError,
    Shortfall,
    SlowBoot,
    Staggered,
    StuckOperation,
    StuckState,
    Timing,
    WrongField,
)
from tests.cloud_api.asgi import POOL, LocalApi

MOST: Final = 6
COUNTS: Final = st.none() | st.integers(1, 2)
STEPS: Final = st.integers(1, 3)
NUMBERS: Final = st.integers(0, 9)
PAUSES: Final = st.sampled_from([0.0, 0.5, 3.0]).map(lambda s: Duration(first=s))
LIVES: Final = st.sampled_from([0.5, 3.0]).map(lambda s: Duration(first=s))
"""Time passes here only when there is nothing else to do, so nobody may die at once for ever."""
RELEASES: Final = st.sampled_from([None, 0.5, 3.0])
OF_POOLS: Final[st.SearchStrategy[Effect]] = st.one_of(
    st.builds(Shortfall, comes=st.integers(0, 2), gives_up=st.booleans()),
    st.builds(Shortfall, comes=st.integers(0, 2), message=st.just("the zone is full")),
    st.builds(Staggered, delay_s=PAUSES, late_size=st.booleans()),
    st.builds(FallBack, delay_s=PAUSES),
    st.builds(FallBack, delay_s=PAUSES, fresh=st.just(True)),
    st.builds(
        StuckState,
        state=st.sampled_from([None, "suspended", "degraded"]),
        accepts=st.booleans(),
        release_after_s=RELEASES,
    ),
    st.just(Protection()),
)
OF_SERVERS: Final[st.SearchStrategy[Effect]] = st.one_of(
    st.builds(BootFailure, stays=st.booleans(), release_after_s=RELEASES),
    st.builds(Death, delay_s=LIVES, stays=st.booleans(), release_after_s=RELEASES),
    st.builds(Hang, delay_s=PAUSES),
    st.builds(SlowBoot, delay_s=PAUSES),
    st.just(NoCapacity()),
)
OF_OPERATIONS: Final[st.SearchStrategy[Effect]] = st.one_of(
    st.builds(StuckOperation, carried_out=st.booleans(), release_after_s=RELEASES),
    st.builds(FailingOperation, reason=st.just(FailureReason.PARTIAL)),
    st.just(EarlySuccess()),
)
OF_REQUESTS: Final[st.SearchStrategy[Effect]] = st.one_of(
    st.builds(ServerError, carried_out=st.booleans(), failing_reads=st.integers(0, 2)),
    st.builds(Latency, delay_s=PAUSES),
    st.builds(Lag, behind_s=st.sampled_from([0.0, 0.5, 3.0])),
    st.builds(ForeignChange, change=st.sampled_from(["grow", "shrink", "evict", "delete"])),
    st.sampled_from([Refusal(), RateLimit(), WrongField(field="created-at")]),
)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes when nothing else is to be done, and by itself not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        """Go on to the next timer if there is nothing to do before it."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, timers[0].when())
        super()._run_once()  # type: ignore[misc]


class BadDays(RuleBasedStateMachine):
    """One pool behind a load balancer; looks at it through the API, and below it."""

    def __init__(self) -> None:
        super().__init__()
        pace = Pace(retry_s=0.1)
        self.local = LocalApi(has_faults=True, pace=pace, loop=VirtualLoop())
        self.world, self.servers = self.local.world, self.local.servers
        self.pool = ""
        self.gone: set[str] = set()
        """Ids of members that were listed once and were not later."""
        self.listed: set[str] = set()
        self.ended: dict[str, str] = {}
        """How operations ended, by id."""
        self.bounds = (0, 0)
        """Between these sizes were all that anybody asked for."""
        self.may_return = self.is_asked_by_others = False

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            self.local.close()

    @initialize(size=st.integers(1, 3))
    def a_pool_serves(self, size: int) -> None:
        self.pool = self.local.make("/v2/instance-pool", POOL | {"size": size})
        nlb = self.local.make("/v2/load-balancer", {"name": "lb"})
        check = {"mode": "tcp", "port": 8080, "interval": 10, "timeout": 5}
        service = {"name": "http", "instance-pool": {"id": self.pool}, "port": 80}
        more = {"protocol": "tcp", "strategy": "round-robin", "target-port": 8080}
        path = f"/v2/load-balancer/{nlb}/service"
        self.local.done("POST", path, service | more | {"healthcheck": check})
        self.bounds = (size, size)

    @rule(turns=st.integers(1, 8))
    def a_moment_passes(self, turns: int) -> None:
        self.local.turns(turns)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.local.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(effect=OF_POOLS | OF_SERVERS | OF_OPERATIONS, count=COUNTS)
    def something_goes_wrong(self, effect: Effect, count: int | None) -> None:
        self._add(effect, count)

    @rule(effect=OF_POOLS | OF_SERVERS | OF_OPERATIONS, by=STEPS)
    def a_growth_goes_wrong(self, effect: Effect, by: int) -> None:
        self._add(effect, by)
        self.grow(by)

    @rule(effect=OF_POOLS, number=NUMBERS)
    def an_eviction_goes_wrong(self, effect: Effect, number: int) -> None:
        self._add(effect, 1)
        self.evict({number})

    @rule(effect=OF_REQUESTS, count=st.integers(1, 3))
    def requests_go_wrong(self, effect: Effect, count: int) -> None:
        self._add(effect, count)

    @rule(limit=st.integers(0, MOST))
    def the_quota_is_lower(self, limit: int) -> None:
        self._add(Quota(limit=limit), None)

    @rule()
    def all_is_mended(self) -> None:
        self._on_loop(self.world.faults.clear)

    @rule(number=NUMBERS)
    def something_is_mended(self, number: int) -> None:
        if faults := self.world.faults.all():
            fault_id = faults[number % len(faults)].id
            self._on_loop(lambda: self.world.faults.remove(fault_id))

    @rule(number=NUMBERS)
    def something_is_released(self, number: int) -> None:
        if faults := self.world.faults.all():
            fault_id = faults[number % len(faults)].id
            self._on_loop(lambda: self.world.faults.holds.release(fault_id))

    @rule(size=st.integers(0, MOST))
    def scale(self, size: int) -> None:
        self._ask(":scale", {"size": size}, size)

    @rule(by=STEPS)
    def grow(self, by: int) -> None:
        self.scale(min(self.world.pools[self.pool].size + by, MOST))

    @rule(chosen=st.sets(NUMBERS, min_size=1, max_size=2))
    def evict(self, chosen: set[int]) -> None:
        pool = self.world.pools[self.pool]
        places = {number % max(1, len(pool.members)) for number in chosen}
        victims = [key for place, key in enumerate(pool.members) if place in places]
        self._ask(":evict", {"instances": victims}, pool.size - len(victims))

    @rule()
    def update(self) -> None:
        self._ask("", {"labels": {"role": "member"}}, self.world.pools[self.pool].size)

    @rule(number=NUMBERS)
    def delete_member(self, number: int) -> None:
        members = self.world.pools[self.pool].members
        if members:
            self.local.call("DELETE", f"/v2/instance/{members[number % len(members)]}")

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        running = list(self.servers.running)
        if running:
            self.servers.kill(running[number % len(running)])
            self.local.turns(1)

    @rule()
    def read_everything(self) -> None:
        """Whatever a fault does to answers, they are JSON, and refused with a status of HTTP."""
        paths = [f"/v2/instance-pool/{self.pool}", "/v2/instance", "/v2/load-balancer"]
        paths += [f"/v2/operation/{key}" for key in list(self.world.operations.known)[-1:]]
        for path in paths:
            answer = self.local.call("GET", path)
            assert isinstance(answer.body, dict)
            assert answer.status in {200, 409, 429, 503}, answer

    @invariant()
    def whoever_is_listed_exists_once_and_whoever_left_does_not_return(self) -> None:
        pool = self.world.pools.get(self.pool)
        if pool is None:
            return
        now = set(pool.members)
        assert len(now) == len(pool.members)
        assert all(self.world.instances[key].pool_id == pool.id for key in now)
        self.gone |= self.listed - now
        self.listed = now
        assert self.may_return or not now & self.gone

    @invariant()
    def the_size_is_one_between_those_that_were_asked_for(self) -> None:
        pool = self.world.pools.get(self.pool)
        if pool is not None and not self.is_asked_by_others:
            least, most = self.bounds
            assert least <= pool.size <= most
            assert pool.size >= len(pool.members) or pool.state == "scaling-down"

    @invariant()
    def an_operation_that_ended_stays_as_it_ended(self) -> None:
        states = {key: str(each.state) for key, each in self.world.operations.known.items()}
        assert set(states.values()) <= {"pending", "success", "failure"}
        assert all(states[key] == state for key, state in self.ended.items())
        self.ended = {key: state for key, state in states.items() if state != "pending"}

    @invariant()
    def servers_have_addresses_of_their_own(self) -> None:
        ips = [spec.ip for spec in self.servers.running.values()]
        assert len(set(ips)) == len(ips)
        assert set(ips) <= self.servers.reserved

    def _ends_well(self) -> None:
        if not self.pool:
            return
        self._on_loop(self.world.faults.clear)
        settling = asyncio.wait_for(self.world.background.settle(), 300)
        self.local.loop.run_until_complete(settling)
        pool = self.world.pools[self.pool]
        assert (pool.state, pool.size) == ("running", len(pool.members))
        assert set(self.world.instances) == set(pool.members) == set(self.servers.running)
        assert {each.state for each in self.world.instances.values()} <= {"running"}
        ips = {each.ip for each in self.world.instances.values()}
        (served,) = self.local.balancers.members.values()
        assert set(served) == ips
        balancers = {each.ip for each in self.world.load_balancers.values()}
        assert self.servers.reserved == ips | balancers
        assert self.world.faults.shown_states == {}
        assert all(each.state != "pending" for each in self.world.operations.known.values())
        self._can_be_removed()

    def _can_be_removed(self) -> None:
        for key in list(self.world.load_balancers):
            self.local.done("DELETE", f"/v2/load-balancer/{key}")
        self.local.done("DELETE", f"/v2/instance-pool/{self.pool}")
        assert (self.world.pools, self.world.instances) == ({}, {})
        assert (self.servers.running, self.servers.reserved) == ({}, frozenset())

    def _ask(self, action: str, body: Any, size: int) -> None:
        before = self.world.pools[self.pool].size
        answer = self.local.call("PUT", f"/v2/instance-pool/{self.pool}{action}", body)
        assert answer.status in {200, 400, 403, 409, 412, 429, 503}, answer
        least, most = self.bounds
        self.bounds = (min(least, size, before), max(most, size, before))

    def _add(self, effect: Effect, count: int | None) -> None:
        self.may_return |= isinstance(effect, FallBack)
        self.is_asked_by_others |= isinstance(effect, ForeignChange)
        self.world.faults.add(Fault(effect=effect, timing=Timing(seed=1, count=count)))

    def _on_loop(self, work: Any) -> None:
        """Do something where the cloud lives, and do not wait for what it starts."""

        async def run() -> None:
            work()

        self.local.loop.run_until_complete(run())


BadDays.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBadDays = BadDays.TestCase

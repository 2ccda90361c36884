"""Webhooks, faults, kills, time and foreign hands in any order: what holds after each step."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

import pytest
from exotide_autoscaler.domain import Intent, Policy, Reason
from exotide_autoscaler.reconcile import Pass
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from .worlds import Killed, World, a_world

UP, DOWN = Intent.UP, Intent.DOWN
ENDS = {
    Reason.SERVED,
    Reason.WITHDRAWN,
    Reason.OUTRANKED,
    Reason.UNSETTLED,
    Reason.EXPIRED,
    Reason.AT_LIMIT,
}
PASSES_TO_RECOVER = 25
ALERTS = ["f@1", "f@2", "g@1"]
FAULTS = ["", "", "unread", "refused", "quota", "busy", "lost", "done-but-lost"]
FAULTS += ["killed-before", "killed-after"]


class AnyDay(RuleBasedStateMachine):
    """One autoscaler, one pool, and everything that can go wrong with them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.downs = 0
        self.falls = 0
        self.chosen: set[str] = set()

    @initialize(size=st.integers(0, 6), holds=st.booleans(), cooldown_s=st.sampled_from([0, 200]))
    def begin(self, size: int, holds: bool, cooldown_s: float) -> None:
        self.policy = Policy(
            min_size=1, max_size=4, holds_min=holds, holds_max=holds, cooldown_s=cooldown_s
        )
        self.world: World = self.stack.enter_context(a_world(self.policy, size=size))
        self.pools = self.world.pools

    # --- senders ----------------------------------------------------------------------------

    @rule(alerts=st.lists(st.sampled_from(ALERTS), max_size=2, unique=True))
    def ask_for_more(self, alerts: list[str]) -> None:
        self.world.hook(UP, *alerts)

    @rule(alerts=st.lists(st.sampled_from(ALERTS), max_size=2, unique=True))
    def ask_for_less(self, alerts: list[str]) -> None:
        self.world.hook(DOWN, *alerts)
        self.downs += 1

    @rule(intent=st.sampled_from([UP, DOWN]), alert=st.sampled_from(ALERTS))
    def end_an_alert(self, intent: Intent, alert: str) -> None:
        self.world.hook(intent, alert, over=True)

    # --- time and the program ---------------------------------------------------------------

    @rule(seconds=st.one_of(st.floats(0, 30), st.floats(30, 400)))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def run(self) -> None:
        self.pass_once()

    @rule(count=st.integers(1, 12))
    def run_for_minutes(self, count: int) -> None:
        for _ in range(count):
            self.world.clock.advance(61)
            self.pass_once()

    @rule(reboots=st.booleans(), jump_s=st.sampled_from([0.0, 0.0, -5e5, 5e5]))
    def kill(self, reboots: bool, jump_s: float) -> None:
        self.world.clock.wall_s += jump_s
        if reboots:
            self.world.clock.reboot()
        self.world.restart()

    # --- the cloud --------------------------------------------------------------------------

    @rule(fault=st.sampled_from(FAULTS))
    def answer_badly(self, fault: str) -> None:
        self.pools.fault = fault

    @rule()
    def settle(self) -> None:
        self.pools.settle()

    @rule()
    def fall_back(self) -> None:
        self.falls += self.pools.before is not None
        self.pools.fall_back()

    @rule(comes=st.booleans(), state=st.sampled_from(["", "", "scaling-up", "scaling-down", "odd"]))
    def never_settle(self, comes: bool, state: str) -> None:
        self.pools.comes, self.pools.state = comes, state

    @rule(
        ages=st.sampled_from(["told", "told", "unread", "untold", "lagging"]),
        health=st.sampled_from(["told", "unread"]),
    )
    def list_badly(self, ages: str, health: str) -> None:
        self.pools.ages, self.pools.health = ages, health

    @rule(which=st.integers(0, 6), how=st.sampled_from(["protected", "dead", "broken"]))
    def afflict(self, which: int, how: str) -> None:
        afflicted: set[str] = getattr(self.pools, how)
        if which < len(self.pools.ids):
            afflicted ^= {self.pools.ids[which]}

    # --- foreign hands ----------------------------------------------------------------------

    @rule(size=st.integers(0, 6))
    def resize_by_hand(self, size: int) -> None:
        self.falls += 1  # what they take away or bring back is not counted as ours
        self.pools.size, self.pools.before = size, None

    @precondition(lambda self: self.pools.ids)
    @rule(which=st.integers(0, 6))
    def delete_by_hand(self, which: int) -> None:
        del self.pools.ids[which % len(self.pools.ids)]

    # --- what is watched --------------------------------------------------------------------

    def pass_once(self) -> Pass | None:
        asked, evicted = len(self.pools.asked), len(self.pools.evicted)
        listed = list(self.pools.ids)
        try:
            done = self.world.run()
        except Killed:
            self.pools.fault, done = "", None
            self.world.restart()
        for before, wanted in self.pools.asked[asked:]:
            self.judge_step(before, wanted)
        for victim in self.pools.evicted[evicted:]:
            self.judge_victim(victim, listed)
        assert len(self.pools.asked) - asked <= 1, "one call in a pass"
        return done

    def judge_step(self, before: int, wanted: int) -> None:
        if wanted >= before:
            assert wanted <= self.policy.max_size
            assert wanted <= before + 1 or wanted == self.policy.min_size
        else:
            assert wanted == before - 1
            assert wanted >= self.policy.min_size

    def judge_victim(self, victim: str, listed: list[str]) -> None:
        """Nobody who serves goes while a dead one could, unless it was asked for already."""
        pools, repeated = self.pools, victim in self.chosen
        self.chosen.add(victim)
        if repeated or pools.ages != "told" or pools.health != "told":
            return
        if victim in pools.dead | pools.broken:
            return
        spared = set(self.world.reconciler._chooser._spared_until)
        could_go = (pools.dead | pools.broken) & set(listed) - pools.protected - spared
        assert not could_go, f"{victim} serves, and {could_go} could have gone"

    @invariant()
    def the_journal_says_what_became_of_each_request(self) -> None:
        if not hasattr(self, "world"):
            return
        rows = self.world.connection.execute(
            "SELECT r.id, r.closed, (SELECT count(*) FROM decisions d"
            " WHERE d.request_id = r.id AND d.reason = r.closed) FROM requests r"
        ).fetchall()
        for request_id, closed, said in rows:
            assert closed is None or (closed in ENDS and said), f"request {request_id}: {closed}"

    @invariant()
    def an_interval_lies_between_changes(self) -> None:
        if hasattr(self, "world"):
            times = [at for at, _ in self.pools.changes]
            gap_s = self.policy.interval_s - 1e-3
            assert all(later - earlier >= gap_s for earlier, later in pairwise(times))

    @invariant()
    def no_more_leave_than_somebody_asked_for(self) -> None:
        if not hasattr(self, "world") or self.policy.holds_max:
            return
        sizes = [size for _, size in self.pools.changes]
        shrinks = len(self.pools.evicted) and sum(
            later < earlier for earlier, later in pairwise(sizes)
        )
        assert shrinks <= self.downs + self.falls

    def teardown(self) -> None:
        """Once nothing is wrong any more, every request comes to its end."""
        if hasattr(self, "world"):
            self.heal()
            for _ in range(PASSES_TO_RECOVER):
                self.world.clock.advance(61)
                self.pass_once()
                self.pools.settle()
            assert self.world.owed() == []
            if self.policy.holds_max:
                assert 1 <= self.pools.size <= 4
        self.stack.close()

    def heal(self) -> None:
        pools = self.pools
        pools.fault, pools.ages, pools.health = "", "told", "told"
        pools.state, pools.comes, pools.before = "", True, None
        pools.protected = set()
        pools.settle()


AnyDay.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAnyDay = pytest.mark.timeout(300)(AnyDay.TestCase)

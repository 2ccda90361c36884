"""Whole histories: webhooks, time, faults, restarts and jumping clocks in any order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from exotide_autoscaler.domain import Intent, Policy, Reason
from exotide_autoscaler.webhook import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from .worlds import POLICY, FailingPools, World, a_world

UP, DOWN = Intent.UP, Intent.DOWN


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def test_the_first_intent_is_served_at_once_and_confirmed_by_the_pool(world: World) -> None:
    world.hook(UP)
    assert world.run().decision.reason is Reason.ALERT
    assert world.pools.size == 2
    assert world.owed() == [UP]
    world.after(10)
    assert world.owed() == []
    assert Reason.SERVED in world.reasons()


def test_two_webhooks_in_one_second_are_one_change_even_if_the_first_is_served_between(
    world: World,
) -> None:
    assert world.hook(UP) is Outcome.ACCEPTED
    world.run()
    world.clock.advance(0.9)
    assert world.hook(UP) is Outcome.REPEATED
    for _ in range(5):
        world.after(61)
    assert world.pools.size == 2


def test_a_webhook_well_after_a_change_is_a_new_wish_and_waits_for_the_interval(
    world: World,
) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(30)
    assert world.hook(UP) is Outcome.ACCEPTED
    assert world.after(0) is Reason.INTERVAL
    assert world.after(30) is Reason.ALERT
    assert world.pools.size == 3


def test_a_shrink_asked_for_during_a_growth_happens_after_it(world: World) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(20)
    world.hook(DOWN)
    assert world.run().decision.reason is Reason.SETTLING
    assert world.after(20) is Reason.INTERVAL
    assert world.after(20) is Reason.ALERT
    assert world.pools.size == 1
    assert world.pools.ids == ["m1"]


def test_a_cooldown_delays_an_intent_and_never_drops_it() -> None:
    with a_world(Policy(interval_s=60, cooldown_s=300), size=1) as world:
        world.hook(UP)
        world.run()
        world.clock.advance(30)
        world.hook(DOWN)
        assert world.after(31) is Reason.COOLDOWN
        assert world.after(239) is Reason.ALERT
        assert world.pools.size == 1


def test_if_both_wait_up_wins_and_the_loss_of_the_other_is_recorded(world: World) -> None:
    world.hook(DOWN)
    world.hook(UP)
    done = world.run()
    assert (world.pools.size, done.closed) == (2, ())
    assert Reason.OUTRANKED in world.reasons()
    for _ in range(3):
        world.after(61)
    assert world.pools.size == 2


@pytest.mark.parametrize(("intent", "size"), [(DOWN, 1), (UP, 4)])
def test_at_its_limit_the_pool_ignores_an_intent_and_says_so(intent: Intent, size: int) -> None:
    with a_world(size=size) as world:
        world.hook(intent)
        assert world.run().decision.reason is Reason.AT_LIMIT
        assert world.owed() == []
        assert world.pools.changes == []


def test_an_intent_that_cannot_be_served_expires_and_that_is_recorded(world: World) -> None:
    world.pools.fault = "unread"
    world.hook(UP)
    assert world.after(899) is Reason.CLOUD_ERROR
    assert world.owed() == [UP]
    world.after(2)
    assert world.owed() == []
    world.pools.fault = ""
    assert world.after(60) is Reason.NO_ALERT
    assert Reason.EXPIRED in world.reasons()


def test_a_repeat_renews_an_intent(world: World) -> None:
    world.pools.fault = "unread"
    world.hook(UP)
    world.after(800)
    assert world.hook(UP) is Outcome.REPEATED
    world.after(800)
    world.pools.fault = ""
    world.after(60)
    assert world.pools.size == 2


@pytest.mark.parametrize("fault", ["refused", "lost", "unread"])
def test_an_error_changes_nothing_and_the_next_interval_tries_again(
    world: World, fault: str
) -> None:
    world.pools.fault = fault
    world.hook(UP)
    assert world.after(0) is Reason.CLOUD_ERROR
    world.pools.fault = ""
    if fault != "unread":
        assert world.after(59) is Reason.INTERVAL
        world.clock.advance(1)
    assert world.after(0) is Reason.ALERT
    assert [size for _, size in world.pools.changes] == [2]


def test_repeats_during_an_outage_of_the_scale_call_are_one_wish(world: World) -> None:
    world.pools.fault = "lost"
    for _ in range(4):
        world.hook(UP)
        world.after(120)
    world.pools.fault = ""
    for _ in range(4):
        world.after(61)
    assert world.pools.size == 2


@pytest.mark.parametrize("size", [1, 3])
def test_a_change_whose_answer_was_lost_is_not_made_again(size: int) -> None:
    with a_world(size=size) as world:
        world.pools.fault = "done-but-lost"
        world.hook(DOWN if size == 3 else UP)
        world.run()
        world.pools.fault = ""
        for _ in range(4):
            world.after(61)
        assert world.pools.size == 2
        assert Reason.SERVED in world.reasons()


def test_an_operation_that_failed_after_the_cloud_said_yes_is_asked_for_again(
    world: World,
) -> None:
    world.hook(UP)
    world.run()
    world.pools.size = 1
    assert world.after(30) is Reason.INTERVAL
    assert world.after(31) is Reason.ALERT
    assert world.pools.size == 2


@pytest.mark.parametrize("happened", [True, False])
def test_after_a_kill_between_write_ahead_and_answer_the_pool_itself_tells(
    world: World, happened: bool
) -> None:
    world.hook(UP)
    now = world.clock.now()
    world.journal.ask(world.journal.owed(now)[0], size=1, target=2, victims=(), now=now)
    if happened:
        world.pools.size = 2
        world.pools.settle()
    world.clock.advance(5)
    world.restart()
    for _ in range(4):
        world.after(30)
    assert world.pools.size == 2
    assert len(world.pools.changes) == (0 if happened else 1)


def test_a_call_that_was_under_way_at_the_kill_may_have_been_made_at_that_very_moment(
    world: World,
) -> None:
    world.hook(UP)
    now = world.clock.now()
    world.journal.ask(world.journal.owed(now)[0], size=1, target=2, victims=(), now=now)
    world.clock.advance(50)
    world.pools.size = 2
    world.restart()
    world.hook(DOWN)
    assert world.after(30) is Reason.INTERVAL
    assert world.after(30) is Reason.ALERT


def test_even_a_bug_in_the_middle_of_a_change_does_not_let_the_next_one_come_early(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: FailingPools, _size: int, _members: list[str]) -> None:
        raise ZeroDivisionError

    world.hook(UP)
    with monkeypatch.context() as patched:
        patched.setattr(FailingPools, "_change", broken)
        with pytest.raises(ZeroDivisionError):
            world.run()
    assert world.after(59) is Reason.INTERVAL
    assert world.after(1) is Reason.ALERT


@pytest.mark.parametrize("restarts", [True, False])
def test_a_refused_change_starts_no_cooldown(restarts: bool) -> None:
    with a_world(Policy(interval_s=60, cooldown_s=300)) as world:
        world.pools.fault = "refused"
        world.hook(UP)
        world.run()
        world.pools.fault = ""
        if restarts:
            world.restart()
        assert world.after(60) is Reason.ALERT


def test_no_restart_changes_the_size_twice_in_an_interval(world: World) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(20)
    world.hook(UP)
    world.restart()
    assert world.after(0) is Reason.INTERVAL
    assert world.after(39) is Reason.INTERVAL
    assert world.after(1) is Reason.ALERT


@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
@pytest.mark.parametrize("event", ["nothing", "restart", "reboot"])
def test_a_jump_of_the_wall_clock_delays_by_at_most_an_interval_and_never_scales_twice(
    world: World, jump_s: float, event: str
) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(10)
    world.clock.wall_s += jump_s
    if event == "reboot":
        world.clock.reboot()
    if event != "nothing":
        world.restart()
    world.hook(UP)
    assert world.after(10) is Reason.INTERVAL
    assert world.after(60) is Reason.ALERT


def test_a_reboot_after_days_costs_at_most_an_interval(world: World) -> None:
    world.hook(UP)
    world.run()
    world.after(30)
    world.clock.wall_s += 3 * 86_400
    world.clock.reboot()
    world.restart()
    world.hook(UP)
    assert world.after(52) is Reason.ALERT


def test_an_old_intent_is_not_served_after_days_without_power(world: World) -> None:
    world.hook(UP)
    world.clock.wall_s += 3 * 86_400
    world.clock.reboot()
    world.restart()
    assert world.after(0) is Reason.NO_ALERT
    assert Reason.EXPIRED in world.reasons()


events = st.one_of(
    st.tuples(st.just("hook"), st.sampled_from([UP, DOWN])),
    st.tuples(st.just("wait"), st.floats(0, 200)),
    st.tuples(st.just("pass"), st.none()),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(
        st.just("fault"), st.sampled_from(["", "", "unread", "refused", "lost", "done-but-lost"])
    ),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("reboot"), st.none()),
    st.tuples(st.just("jump"), st.floats(-1e6, 1e6)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=40), st.integers(1, 4))
def test_in_any_history_the_limits_hold_and_an_interval_lies_between_changes(
    history: list[tuple[str, object]], size: int
) -> None:
    with a_world(size=size) as world:
        for kind, value in history:
            play(world, kind, value)
        sizes = [size for _, size in world.pools.changes]
        assert all(POLICY.min_size <= size <= POLICY.max_size for size in sizes)
        times = [at for at, _ in world.pools.changes]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert all(gap >= POLICY.interval_s - 1e-3 for gap in gaps)


def play(world: World, kind: str, value: object) -> None:
    if kind == "hook":
        assert isinstance(value, Intent)
        world.hook(value)
    elif kind == "wait":
        assert isinstance(value, float)
        world.clock.advance(value)
    elif kind == "jump":
        assert isinstance(value, float)
        world.clock.wall_s += value
    elif kind == "fault":
        world.pools.fault = str(value)
    elif kind == "pass":
        world.run()
    elif kind == "settle":
        world.pools.settle()
    else:
        if kind == "reboot":
            world.clock.reboot()
        world.restart()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([UP, DOWN]),
    st.lists(
        st.tuples(st.sampled_from(["unread", "refused", "lost", "done-but-lost"]), st.booleans()),
        max_size=10,
    ),
)
def test_through_any_faults_and_restarts_within_its_ttl_an_intent_is_served_exactly_once(
    intent: Intent, troubles: list[tuple[str, bool]]
) -> None:
    with a_world(size=2) as world:
        world.hook(intent)
        for fault, restarts in troubles:
            world.pools.fault = fault
            world.after(61)
            if restarts:
                world.restart()
        world.pools.fault = ""
        for _ in range(3):
            world.after(61)
        assert [size for _, size in world.pools.changes] == [3 if intent is UP else 1]
        assert world.owed() == []

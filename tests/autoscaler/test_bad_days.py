"""What the autoscaler does on bad days of the cloud, of senders and of operators, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from exotide_autoscaler.domain import Intent, Policy, Reason
from exotide_autoscaler.webhook import Outcome

from .worlds import POLICY, World, a_world

UP, DOWN = Intent.UP, Intent.DOWN


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


@pytest.fixture
def three() -> Iterator[World]:
    with a_world(size=3) as made:
        yield made


def passes(world: World, count: int, *, every_s: float = 61) -> None:
    """Let time pass without anything coming true by itself."""
    for _ in range(count):
        world.clock.advance(every_s)
        world.run()


# --- said yes, then fell back ----------------------------------------------------------------


def test_what_the_cloud_accepted_and_does_not_keep_is_asked_for_again(world: World) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(10)
    assert world.run().decision.reason is Reason.SETTLING
    assert Reason.SERVED not in world.reasons()
    world.pools.fall_back()
    assert world.after(61) is Reason.ALERT
    world.after(10)
    assert (world.pools.size, world.owed()) == (2, [])
    assert [target for _, target in world.pools.asked] == [2, 2]


def test_what_falls_back_for_ever_expires_and_is_never_asked_beyond_its_target(
    world: World,
) -> None:
    world.hook(UP)
    for _ in range(30):
        world.clock.advance(61)
        world.run()
        world.pools.fall_back()
    assert world.owed() == []
    assert Reason.EXPIRED in world.reasons()
    assert {target for _, target in world.pools.asked} == {2}


def test_an_eviction_that_fell_back_is_asked_for_again_with_the_same_member(three: World) -> None:
    three.hook(DOWN)
    three.run()
    three.pools.fall_back()
    three.after(61)
    three.after(10)
    assert (three.pools.size, three.owed()) == (2, [])
    assert three.pools.evicted == ["m0", "m0"]


def test_an_eviction_that_fell_back_with_a_new_member_in_its_place_takes_the_next_one(
    three: World,
) -> None:
    three.hook(DOWN)
    three.run()
    three.pools.size, three.pools.ids = 3, ["m1", "m2", "m3"]
    three.after(61)
    three.after(10)
    assert (three.pools.size, three.owed()) == (2, [])
    assert three.pools.evicted == ["m0", "m1"]


def test_whoever_changes_the_pool_meanwhile_outranks_what_fell_back() -> None:
    with a_world(size=2) as world:
        world.hook(UP)
        world.run()
        world.pools.size, world.pools.ids = 1, ["m0"]
        world.after(61)
        assert (world.pools.size, world.owed()) == (1, [])
        assert Reason.OUTRANKED in world.reasons()


# --- never settles ---------------------------------------------------------------------------


def test_a_pool_that_never_settles_is_judged_by_the_size_asked_for(three: World) -> None:
    three.pools.comes = False
    three.hook(UP)
    three.run()
    passes(three, 9)
    three.hook(UP)
    assert three.run().decision.reason is Reason.SETTLING
    assert three.pools.size == 4
    passes(three, 1)
    assert Reason.UNSETTLED in three.reasons()
    assert Reason.AT_LIMIT in three.reasons()
    three.hook(DOWN)
    passes(three, 1)
    assert three.pools.size == 3
    assert three.pools.evicted == []


def test_after_the_limit_an_up_adds_one_to_the_size_asked_for() -> None:
    with a_world(replace(POLICY, max_size=9)) as world:
        world.pools.comes = False
        world.hook(UP)
        world.run()
        passes(world, 11)
        assert Reason.UNSETTLED in world.reasons()
        world.hook(UP)
        world.run()
        assert world.pools.size == 3


def test_after_the_limit_a_down_takes_the_member_in_error_by_its_id(three: World) -> None:
    three.pools.size = 4
    three.pools.broken = {"m1"}
    three.run()
    passes(three, 11)
    three.hook(DOWN)
    three.run()
    assert three.pools.evicted == ["m1"]
    assert three.pools.size == 3


def test_a_state_that_never_ends_blocks_nothing_for_longer_than_the_limit(three: World) -> None:
    three.pools.state = "scaling-up"
    three.hook(DOWN)
    assert three.run().decision.reason is Reason.SETTLING
    passes(three, 11)
    assert three.pools.evicted == ["m0"]
    assert three.pools.size == 2


def test_each_accepted_change_starts_the_clock_of_settling_anew(world: World) -> None:
    world.pools.comes = False
    world.hook(UP)
    world.run()
    passes(world, 9)
    world.pools.fall_back()
    passes(world, 1)
    assert [target for _, target in world.pools.asked] == [2, 2]
    passes(world, 9)
    assert Reason.UNSETTLED not in world.reasons()
    passes(world, 1)
    assert Reason.UNSETTLED in world.reasons()


def test_repeats_do_not_keep_alive_what_never_settles(world: World) -> None:
    world.pools.comes = False
    world.hook(UP, "f@1")
    world.run()
    for _ in range(4):
        passes(world, 3)
        world.hook(UP, "f@1")
    assert world.reasons().count(Reason.UNSETTLED) == 1


def test_refused_calls_to_a_pool_that_never_settles_come_more_and_more_seldom(
    three: World,
) -> None:
    three.pools.state = "scaling-up"
    three.run()
    passes(three, 10)
    three.pools.fault = "busy"
    for _ in range(14):
        three.hook(DOWN)
        passes(three, 1, every_s=60)
    assert 3 <= len(three.pools.asked) <= 6
    assert Reason.BACK_OFF in three.reasons()


def test_a_restart_does_not_forget_since_when_the_pool_is_unsettled(three: World) -> None:
    three.pools.size = 4
    three.run()
    passes(three, 9)
    three.restart()
    three.hook(DOWN)
    assert three.run().decision.reason is Reason.SETTLING
    passes(three, 1)
    assert three.pools.size == 3


# --- the chosen one cannot go ----------------------------------------------------------------


def test_a_protected_member_is_named_and_the_next_one_goes(three: World) -> None:
    three.pools.protected = {"m0"}
    three.hook(DOWN)
    done = three.run()
    assert done.decision.reason is Reason.MEMBER_REFUSED
    assert "m0" in done.error
    assert "check" not in done.error
    three.after(10)
    assert three.pools.evicted == ["m0", "m1"]
    assert three.pools.ids == ["m0", "m2"]


def test_a_member_that_was_refused_is_left_alone_for_a_while(three: World) -> None:
    three.pools.protected = {"m0"}
    three.hook(DOWN)
    three.run()
    three.after(10)
    three.clock.advance(120)
    three.hook(DOWN)
    three.run()
    assert three.pools.evicted == ["m0", "m1", "m2"]


def test_if_nobody_may_go_the_request_is_kept_and_said(three: World) -> None:
    three.pools.protected = {"m0", "m1", "m2"}
    three.hook(DOWN)
    for _ in range(5):
        three.after(10)
    assert three.pools.evicted == ["m0", "m1", "m2"]
    assert (three.pools.size, three.owed()) == (3, [DOWN])
    three.pools.protected = set()
    three.after(700)
    assert three.pools.size == 2


def test_without_ages_nobody_is_chosen_by_luck_and_after_an_interval_the_cloud_chooses(
    three: World,
) -> None:
    for how in ("unread", "untold", "lagging"):
        with a_world(size=3) as world:
            world.pools.ages = how
            world.hook(DOWN)
            assert world.run().decision.reason is Reason.AGES_UNKNOWN
            assert world.after(30) is Reason.AGES_UNKNOWN
            world.after(31)
            assert world.pools.evicted == []
            assert world.pools.asked == [(3, 2)]


def test_ages_that_can_be_read_again_choose_the_oldest(three: World) -> None:
    three.pools.ages = "unread"
    three.hook(DOWN)
    three.run()
    three.pools.ages = "told"
    three.after(10)
    assert three.pools.evicted == ["m0"]


# --- an answer is lost -----------------------------------------------------------------------


def test_after_a_lost_answer_the_same_member_is_asked_for_and_nobody_else(three: World) -> None:
    three.pools.fault = "lost"
    three.hook(DOWN)
    three.run()
    three.pools.fault, three.pools.ages = "", "unread"
    three.pools.ids = ["m2", "m1", "m0"]
    three.after(61)
    assert three.pools.evicted == ["m0", "m0"]
    assert three.pools.size == 2


def test_a_list_that_lags_behind_a_done_eviction_takes_no_second_member(three: World) -> None:
    three.pools.fault = "done-but-lost"
    three.hook(DOWN)
    three.run()
    three.pools.fault, three.pools.ages = "", "unread"
    truth = three.pools.size, three.pools.ids
    three.pools.size, three.pools.ids = 3, ["m0", "m1", "m2"]  # the pool is shown as it was
    passes(three, 1)
    three.pools.size, three.pools.ids = truth
    passes(three, 3)
    assert set(three.pools.evicted) == {"m0"}
    assert three.owed() == []


def test_however_long_pool_and_list_lag_behind_an_eviction_nobody_else_goes(three: World) -> None:
    three.hook(DOWN)
    three.run()
    truth = three.pools.size, three.pools.ids

    class Lagging:
        """Shows what was before; changes meet what is."""

        def __getattr__(self, name: str) -> object:
            return getattr(three.pools, name)

        async def get(self) -> object:
            three.pools.size, three.pools.ids = 3, ["m0", "m1", "m2"]
            shown = await three.pools.get()
            three.pools.size, three.pools.ids = truth
            return shown

    three.reconciler._pools = Lagging()  # type: ignore[assignment]
    passes(three, 12)
    assert set(three.pools.evicted) == {"m0"}
    assert three.pools.size == 2
    three.reconciler._pools = three.pools
    passes(three, 3)
    assert three.owed() == []


def test_a_member_that_was_protected_after_its_eviction_fell_back_is_spared(three: World) -> None:
    three.hook(DOWN)
    three.run()
    three.pools.fall_back()
    three.pools.protected = {"m0"}
    passes(three, 2)
    assert three.pools.evicted == ["m0", "m0", "m1"]


def test_members_that_left_are_not_missed_again_if_somebody_grows_the_pool(three: World) -> None:
    three.pools.fault = "done-but-lost"
    three.hook(DOWN)
    three.run()
    three.pools.fault = ""
    three.pools.size = 3
    three.after(61)
    assert three.pools.evicted == ["m0"]
    assert (three.pools.size, three.owed()) == (3, [])


# --- who goes first --------------------------------------------------------------------------


def test_whoever_fails_the_health_check_goes_first(three: World) -> None:
    three.pools.dead = {"m1", "m2"}
    three.hook(DOWN)
    three.run()
    three.after(61)
    three.clock.advance(61)
    three.hook(DOWN)
    three.run()
    assert three.pools.evicted == ["m1", "m2"]
    assert three.pools.ids == ["m0"]


def test_a_member_in_error_goes_before_one_that_fails_the_check(three: World) -> None:
    three.pools.dead, three.pools.broken = {"m1"}, {"m2"}
    three.hook(DOWN)
    three.run()
    assert three.pools.evicted == ["m2"]


def test_if_health_cannot_be_read_the_oldest_goes(three: World) -> None:
    three.pools.health = "unread"
    three.hook(DOWN)
    three.run()
    assert three.pools.evicted == ["m0"]


# --- words -----------------------------------------------------------------------------------


def test_an_alert_that_is_over_withdraws_its_waiting_request(world: World) -> None:
    world.pools.fault = "unread"
    world.hook(UP, "f@1")
    world.run()
    assert world.hook(UP, "f@1", over=True) is Outcome.WITHDRAWN
    world.pools.fault = ""
    world.after(61)
    assert world.pools.asked == []
    assert Reason.WITHDRAWN in world.reasons()


@pytest.mark.parametrize(
    ("first", "second", "end", "goes_on"),
    [
        (["f@1"], ["g@1"], ["f@1"], True),
        (["f@1"], [], ["f@1"], True),
        (["f@1"], ["f@1"], ["f@1"], False),
        (["f@1"], ["f@1"], ["f@2"], True),
        (["f@1", "g@1"], ["f@1"], ["f@1", "g@1"], False),
    ],
)
def test_a_request_goes_on_while_anybody_else_asks(
    world: World, first: list[str], second: list[str], end: list[str], goes_on: bool
) -> None:
    world.pools.fault = "unread"
    world.hook(UP, *first)
    world.clock.advance(1)
    world.hook(UP, *second)
    world.hook(UP, *end, over=True)
    assert world.owed() == ([UP] if goes_on else [])


def test_an_alert_that_is_over_takes_back_nothing_that_was_done(world: World) -> None:
    world.hook(UP, "f@1")
    world.run()
    assert world.hook(UP, "f@1", over=True) is Outcome.RESOLVED
    world.after(61)
    assert (world.pools.size, world.owed()) == (2, [])


def test_while_an_alert_holds_its_waiting_up_outranks_a_down(three: World) -> None:
    three.pools.fault = "unread"
    three.hook(UP, "f@1")
    three.clock.advance(320)
    three.hook(DOWN)
    three.pools.fault = ""
    three.run()
    assert three.pools.size == 4


def test_a_waiting_up_whose_alert_is_silent_for_long_loses_to_a_newer_down(three: World) -> None:
    three.pools.fault = "unread"
    three.hook(UP, "f@1")
    three.clock.advance(480)
    three.hook(DOWN, "g@1")
    three.pools.fault = ""
    done = three.run()
    assert done.closed == (Reason.OUTRANKED,)
    assert three.pools.size == 2


def test_a_waiting_up_without_an_alert_holds_until_it_expires(three: World) -> None:
    three.pools.fault = "unread"
    three.hook(UP)
    three.clock.advance(880)
    three.hook(DOWN)
    three.pools.fault = ""
    three.run()
    assert three.pools.size == 4


def test_an_accepted_up_never_outranks_a_later_down(world: World) -> None:
    world.hook(UP)
    world.run()
    world.clock.advance(20)
    world.hook(DOWN)
    world.after(41)
    assert world.pools.size == 1


def test_if_an_accepted_up_falls_back_the_later_word_wins(three: World) -> None:
    three.hook(UP)
    three.run()
    three.clock.advance(20)
    three.hook(DOWN)
    three.pools.fall_back()
    three.after(61)
    assert three.pools.size == 2
    assert Reason.OUTRANKED in three.reasons()


@pytest.mark.parametrize("fault", ["refused", "quota"])
def test_a_refused_up_loses_to_a_newer_down(three: World, fault: str) -> None:
    three.pools.fault = fault
    three.hook(UP)
    three.run()
    three.clock.advance(61)
    three.pools.fault = ""
    three.hook(DOWN)
    three.run()
    assert three.pools.size == 2
    assert Reason.OUTRANKED in three.reasons()


def test_a_refused_up_without_a_down_is_tried_until_it_expires(three: World) -> None:
    three.pools.fault = "quota"
    three.hook(UP)
    passes(three, 10)
    three.pools.fault = ""
    passes(three, 1)
    assert three.pools.size == 4


@pytest.mark.parametrize("fault", ["busy", "lost"])
def test_an_up_that_was_not_refused_but_only_put_off_still_outranks(
    three: World, fault: str
) -> None:
    three.pools.fault = fault
    three.hook(UP)
    three.run()
    three.clock.advance(61)
    three.hook(DOWN)
    three.pools.fault = ""
    three.run()
    assert three.pools.size == 4


def test_a_repeat_of_up_cancels_the_downs_before_it_also_when_it_is_merged(world: World) -> None:
    world.hook(UP)
    world.run()
    world.pools.settle()
    world.clock.advance(1)
    world.run()
    assert world.hook(DOWN) is Outcome.ACCEPTED
    assert world.hook(UP) is Outcome.REPEATED
    for _ in range(4):
        world.after(61)
    assert world.pools.size == 2


def test_one_alert_from_two_senders_counts_once_also_when_it_was_served_meanwhile(
    world: World,
) -> None:
    assert world.hook(UP, "f@1") is Outcome.ACCEPTED
    world.run()
    world.after(12.8)
    assert world.hook(UP, "f@1") is Outcome.DUPLICATE
    for _ in range(4):
        world.after(61)
    assert world.pools.size == 2


def test_a_duplicate_cancels_nothing(three: World) -> None:
    three.hook(UP, "f@1")
    three.run()
    three.after(8)
    three.hook(DOWN)
    assert three.hook(UP, "f@1") is Outcome.DUPLICATE
    three.after(61)
    assert three.pools.size == 3


def test_the_same_alert_sent_every_minute_counts_each_time(world: World) -> None:
    for _ in range(3):
        assert world.hook(UP, "f@1") is Outcome.ACCEPTED
        world.run()
        world.after(10)
        world.clock.advance(50)
    assert world.pools.size == 4


def test_a_group_in_which_one_alert_is_new_is_no_duplicate(world: World) -> None:
    world.hook(UP, "f@1")
    world.run()
    world.after(12)
    assert world.hook(UP, "f@1", "g@1") is Outcome.ACCEPTED


# --- limits on a live pool -------------------------------------------------------------------

SET = Policy(min_size=3, max_size=4, holds_min=True, holds_max=True)


def test_below_the_lower_limit_the_pool_grows_at_once_without_a_webhook() -> None:
    with a_world(SET) as world:
        assert world.run().decision.reason is Reason.OUT_OF_LIMITS
        assert world.pools.size == 3


def test_above_the_upper_limit_the_pool_shrinks_one_by_one() -> None:
    with a_world(SET, size=7) as world:
        sizes = []
        for _ in range(5):
            world.after(61)
            sizes.append(world.pools.size)
        assert sizes == [6, 5, 4, 4, 4]
        assert world.pools.evicted == ["m0", "m1", "m2"]


def test_a_down_above_the_limit_takes_one_step_as_well() -> None:
    with a_world(size=7) as world:
        world.hook(DOWN)
        world.run()
        assert world.pools.size == 6


def test_limits_that_nobody_set_leave_the_pool_alone() -> None:
    with a_world(size=7) as world:
        passes(world, 3)
        assert world.pools.asked == []


def test_while_an_up_holds_no_limit_takes_members_away() -> None:
    with a_world(SET, size=7) as world:
        world.hook(UP, "f@1")
        world.run()
        passes(world, 4)
        assert world.pools.asked == []
        passes(world, 3)
        assert world.pools.size < 7


def test_the_member_chosen_for_a_limit_is_asked_for_again_after_a_lost_answer() -> None:
    with a_world(SET, size=5) as world:
        world.pools.fault = "lost"
        world.run()
        world.pools.fault, world.pools.ages = "", "unread"
        world.after(61)
        assert world.pools.evicted == ["m0", "m0"]
        world.after(61)
        assert world.pools.size == 4


# --- a webhook in the middle of a pass -------------------------------------------------------


def test_an_up_that_comes_while_a_victim_is_chosen_stops_the_eviction(three: World) -> None:
    class Interrupted:
        """Lets an `up` come while ages are read."""

        def __getattr__(self, name: str) -> object:
            return getattr(three.pools, name)

        async def members(self) -> object:
            three.hook(UP)
            return await three.pools.members()

    three.reconciler._pools = three.reconciler._chooser._pools = Interrupted()  # type: ignore[assignment]
    three.hook(DOWN)
    three.run()
    assert three.pools.asked == []
    three.after(10)
    assert three.pools.size == 4

"""Senders that contradict each other, repeat themselves or fall silent; limits without a sender."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from exotide_autoscaler.domain import Intent, Policy, Reason
from exotide_autoscaler.webhook import Outcome

from .worlds import World, a_world, passes

UP, DOWN = Intent.UP, Intent.DOWN


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


@pytest.fixture
def three() -> Iterator[World]:
    with a_world(size=3) as made:
        yield made


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

"""What the autoscaler does on bad days of the cloud and of operators, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from exotide_autoscaler.domain import Intent, Reason

from .worlds import POLICY, World, a_world, passes

UP, DOWN = Intent.UP, Intent.DOWN


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


@pytest.fixture
def three() -> Iterator[World]:
    with a_world(size=3) as made:
        yield made


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

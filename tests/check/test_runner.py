"""How checks are made: acts, looks, time limits, and faults of the API on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.check.errors import WebFault
from exotide.check.model import Check, Result, Seen, Status
from exotide.check.runner import LONGEST_PAUSE_S, in_order
from exotide.check.scene import Scene
from exotide.stack.errors import AccessDenied, CloudUnavailable

from .world import World, unavailable

FINE = Seen(fine=True, text="all is well")
NOT_YET = Seen(fine=False, text="not yet")


def one(look: Callable[[Scene], Seen], **more: Any) -> Check:
    return Check(id="one", parts=(1,), says="It works", look=look, **more)


def made(world: World, *checks: Check) -> dict[str, Result]:
    return world.check(checks)


def fine_at(world: World, at_s: float) -> Callable[[Scene], Seen]:
    began = world.clock.now()
    return lambda _: FINE if world.clock.now() - began >= at_s else NOT_YET


def test_a_look_that_becomes_fine_in_time_passes_and_tells_how_long_it_took() -> None:
    world = World()
    result = made(world, one(fine_at(world, 30), within_s=60))["one"]
    assert (result.status, result.seen) == (Status.PASSED, "all is well")
    assert 30 <= result.took_s <= 33
    assert result.says == "It works within 60 s"
    assert world.screen.waits[-1] == "It works: not yet"
    assert world.screen.said[0].startswith("passed")


def test_a_look_that_is_fine_too_late_fails_with_what_was_seen_last() -> None:
    world = World()
    check = one(fine_at(world, 90), within_s=60, advise=lambda _: "wait for longer")
    result = made(world, check)["one"]
    assert (result.status, result.seen, result.hint) == (
        Status.FAILED,
        "not yet",
        "wait for longer",
    )
    assert 60 <= result.took_s <= 63
    assert world.screen.said[0].startswith("FAILED")


def test_what_waiting_cannot_change_fails_at_once() -> None:
    world = World()
    seen = Seen(fine=False, final=True, text="two of them")
    result = made(world, one(lambda _: seen, within_s=300))["one"]
    assert (result.status, result.took_s) == (Status.FAILED, 0)


def test_what_comes_after_the_contract_s_time_but_before_patience_is_over_passes_late() -> None:
    world = World()
    world.options = replace(world.options, patience=2)
    result = made(world, one(fine_at(world, 90), within_s=60))["one"]
    assert result.status is Status.LATE
    assert result.says == "It works within 60 s"
    assert 90 <= result.took_s <= 93
    assert world.screen.said[0].startswith("passed late")
    assert made(world, one(fine_at(world, 30), within_s=60))["one"].status is Status.PASSED
    assert made(world, one(fine_at(world, 150), within_s=60))["one"].status is Status.FAILED


@given(
    st.floats(0, 500),
    st.floats(1, 200),
    st.floats(0, 200),
    st.booleans(),
    st.floats(0.1, 3),
)
def test_a_check_passes_by_the_contract_late_by_patience_and_else_not_at_all(
    at_s: float, within_s: float, slower_s: float, is_slow: bool, patience: float
) -> None:
    world = World()
    world.options = replace(world.options, patience=patience, is_slow=is_slow)
    check = one(fine_at(world, at_s), within_s=within_s, slower_s=slower_s)
    status = made(world, check)["one"].status
    limit_s = (within_s + slower_s * is_slow) * patience
    if at_s <= min(within_s, limit_s):
        assert status is Status.PASSED
    elif at_s > max(within_s, limit_s) + LONGEST_PAUSE_S:
        assert status is Status.FAILED
    elif within_s + LONGEST_PAUSE_S < at_s <= limit_s:
        assert status is Status.LATE


def test_what_passed_late_is_good_enough_for_what_needs_it() -> None:
    world = World()
    world.options = replace(world.options, is_slow=True)
    first = one(fine_at(world, 90), within_s=60, slower_s=60)
    second = replace(first, id="two", look=lambda _: FINE, needs=("one",), since="one")
    results = made(world, first, second)
    assert results["two"].status is Status.PASSED
    assert results["two"].took_s < 1, "its time counts from when the first came"


def test_checks_that_were_not_made_say_why() -> None:
    checks = (one(lambda _: FINE), replace(one(lambda _: FINE), id="two"))
    done = made(World(), checks[0])
    first, second = in_order(checks, done, otherwise="stopped")
    assert first is done["one"]
    assert (second.status, second.seen) == (Status.SKIPPED, "stopped")


@pytest.mark.parametrize("within_s", [0.0, 10.0, 120.0])
def test_faults_of_the_api_are_waited_out_and_shown(within_s: float) -> None:
    world = World()
    world.account.faults = unavailable(12)

    def look(scene: Scene) -> Seen:
        scene.account.pools()
        return FINE

    assert made(world, one(look, within_s=within_s))["one"].status is Status.PASSED
    assert len([each for each in world.screen.waits if "503" in each]) == 12


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(CloudUnavailable("503"), Status.PASSED, id="the-api-s"),
        pytest.param(WebFault("refused"), Status.LATE, id="a-server-s"),
    ],
)
def test_a_fault_of_the_api_hides_what_is_in_time_and_one_of_a_server_is_what_is_late(
    fault: Exception, status: Status
) -> None:
    world = World()
    world.options = replace(world.options, is_slow=True)
    until = world.clock.now() + 30

    def look(_: Scene) -> Seen:
        if world.clock.now() < until:
            raise fault
        return FINE

    assert made(world, one(look, within_s=10, slower_s=60))["one"].status is status


def test_faults_that_do_not_end_fail_the_check_with_the_last_one() -> None:
    world = World()

    def look(_: Scene) -> Seen:
        raise WebFault("http://192.0.2.1 does not answer: refused")

    result = made(world, one(look))["one"]
    assert (result.status, result.seen) == (
        Status.FAILED,
        "http://192.0.2.1 does not answer: refused",
    )
    assert 60 <= result.took_s <= 63


def test_a_key_that_may_not_do_this_fails_at_once() -> None:
    world = World()
    world.account.faults = [AccessDenied("delete instance was refused (403)")]
    check = one(lambda scene: Seen(fine=bool(scene.account.pools()), text="seen"), within_s=300)
    result = made(world, check)["one"]
    assert (result.status, result.took_s) == (Status.FAILED, 0)


def test_an_act_that_fails_fails_its_check_and_the_advice_may_fail_too() -> None:
    world = World()

    def fail(_: Scene) -> None:
        raise CloudUnavailable("create instance pool got no answer")

    def advise(scene: Scene) -> str:
        fail(scene)
        return "never"

    result = made(world, one(lambda _: FINE, act=fail, advise=advise))["one"]
    assert (result.status, result.seen) == (Status.FAILED, "create instance pool got no answer")
    assert result.hint == "create instance pool got no answer"


def test_what_must_hold_passes_only_after_that_time() -> None:
    world = World()
    result = made(world, one(lambda _: FINE, holds_s=70))["one"]
    assert result.status is Status.PASSED
    assert 70 <= result.took_s <= 73


def test_what_does_not_hold_fails_when_it_breaks() -> None:
    world = World()
    until = world.clock.now() + 40
    check = one(lambda _: FINE if world.clock.now() < until else NOT_YET, holds_s=70)
    result = made(world, check)["one"]
    assert result.status is Status.FAILED
    assert 40 <= result.took_s <= 43


def test_a_fault_while_it_must_hold_begins_the_time_anew() -> None:
    world = World()

    def look(scene: Scene) -> Seen:
        scene.account.pools()
        return FINE

    world.clock.after(30, lambda: world.account.faults.extend(unavailable(1)))
    result = made(world, one(look, holds_s=70))["one"]
    assert result.status is Status.PASSED
    assert 100 <= result.took_s <= 106


def test_time_counts_from_a_moment_that_an_earlier_check_or_an_act_notes() -> None:
    world = World()
    first = Check(
        id="first",
        parts=(1,),
        says="First",
        act=lambda scene: scene.note("begun"),
        look=fine_at(world, 20),
        within_s=30,
    )
    second = one(fine_at(world, 50), within_s=40, since="first", needs=("first",))
    third = replace(second, id="third", look=lambda _: FINE, since="begun")
    results = made(world, first, second, third)
    assert results["one"].status is Status.PASSED
    assert 28 <= results["one"].took_s <= 33
    assert 50 <= results["third"].took_s <= 54


def test_checks_that_are_looked_at_together_do_not_wait_for_each_other() -> None:
    world = World()
    slow = one(fine_at(world, 50), within_s=60)
    quick = replace(slow, id="quick", look=fine_at(world, 5), along=True)
    never = replace(slow, id="never", look=lambda _: NOT_YET, within_s=10, along=True)
    results = made(world, slow, quick, never)
    assert list(results) == ["one", "quick", "never"]
    assert results["one"].took_s >= 50
    assert 5 <= results["quick"].took_s <= 8
    assert results["never"].status is Status.FAILED
    assert 10 <= results["never"].took_s <= 13

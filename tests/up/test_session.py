"""What `exotide up` and `down` do with a stack, on a clock that the test moves."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.stack.errors import AccessDenied
from exotide.up.course import (
    Answered,
    ClockSet,
    Event,
    HungUp,
    Interrupted,
    Outcome,
    Terminated,
)
from exotide.up.messages import Trouble
from exotide.up.session import BrokenOff, Session

from .worlds import ANSWERED, ASKED, PART_S, PARTS, World, down, session, up

YES, NO = Answered(yes=True), Answered(yes=False)
MADE_S = (len(PARTS) + 1) * PART_S
"""When the apply has ended."""
LATER_S = MADE_S + 20
TRANSIENT = Trouble(
    is_error=True, summary="giving up after 5 attempt(s)", detail="", address="pool"
)
REFUSED = Trouble(is_error=True, summary="Forbidden", detail="", address="pool")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(root=tmp_path)


def journal_of(world: World) -> dict[str, object] | None:
    file = world.root / ".exotide/up.json"
    return json.loads(file.read_text()) if file.exists() else None


def test_the_time_to_live_ends_a_stack(world: World) -> None:
    began = world.now
    course = up(world, [], ttl_s=3600)
    assert course.outcome is Outcome.DONE
    assert world.exists == []
    assert 3600 <= world.now - began < 3600 + 60
    assert journal_of(world) is None
    assert "its time to live is over: destroying" in world.text


def test_the_cost_follows_the_size_of_the_pool(world: World) -> None:
    world.size = 3
    began = world.now
    up(world, [], ttl_s=3600)
    lines = [each for each in world.shown if each.startswith("up ")]
    assert "pool 3" in lines[-1]
    assert "EUR (0.08552/h)  destroyed in" in lines[-1]
    assert max(map(len, lines)) < 80
    hour_eur = 0.03472 + 0.02333 + 0.0014 + 3 * (0.00729 + 0.0014)
    told = float(world.text.rpartition("it came to about ")[2].split()[0])
    assert told == pytest.approx(hour_eur * (world.now - began) / 3600, abs=0.0005)


def test_a_size_that_is_not_known_stays_what_it_was(world: World) -> None:
    world.size = None
    up(world, [(LATER_S, Terminated())], ttl_s=3600)
    lines = [each for each in world.shown if each.startswith("up ")]
    assert lines
    assert all("pool 1" in each for each in lines)


def test_no_leaves_the_stack_running_and_says_what_that_costs(world: World) -> None:
    course = up(world, [(LATER_S, Interrupted()), (LATER_S + 5, NO)])
    assert course.outcome is Outcome.LEFT_RUNNING
    assert world.exists == list(PARTS)
    assert world.questions == ["destroy the stack? No: it is left running."]
    assert "is left running and costs 0.06814 EUR per hour" in world.text
    kept = journal_of(world)
    assert kept is not None
    assert kept["phase"] == "running"


def test_yes_during_the_apply_removes_what_the_broken_apply_did_not_know(world: World) -> None:
    world.orphans = True
    course = up(world, [(PART_S + 1, Interrupted()), (PART_S + 2, YES)])
    assert course.outcome is Outcome.DONE
    assert world.exists == []
    assert "removed    instance pool web-pool (pool), which no state knew" in world.text


def test_no_during_the_apply_lists_what_the_broken_apply_did_not_know(world: World) -> None:
    world.orphans = True
    course = up(world, [(PART_S + 1, Interrupted()), (PART_S + 2, NO)])
    assert course.outcome is Outcome.LEFT_RUNNING
    assert "1 RESOURCES OF STACK web STILL EXIST" in world.text
    assert "instance pool web-pool (pool)" in world.text
    kept = journal_of(world)
    assert kept is not None
    assert kept["is_torn"] is True


def test_what_a_broken_apply_left_is_removed_before_the_next_makes_it_again(world: World) -> None:
    world.exists = ["group", "pool"]
    world.know(["group"])
    assert session(world, [], is_torn=True).clear()
    assert world.exists == ["group"]


def test_what_was_there_before_any_apply_is_left_alone(world: World) -> None:
    world.exists = ["pool"]
    assert not session(world, []).clear()
    assert world.exists == ["pool"]
    assert "give this one another name" in world.text


def test_what_others_made_after_an_apply_broke_off_is_left_alone(world: World) -> None:
    broke_off = world.now - 86_400
    world.exists = ["group", "pool", "server"]
    world.made_at = {"server": broke_off + 3_600}
    assert not session(world, [], is_torn=True, torn_until=broke_off).clear()
    assert world.exists == ["group", "pool", "server"]
    assert "these were made after that: they are another stack's" in world.text
    assert down(world, is_torn=True, torn_until=broke_off).outcome is Outcome.LEFT_OVER
    assert world.exists == ["group", "pool", "server"]


def test_what_an_apply_made_until_it_broke_off_is_its_own(world: World) -> None:
    broke_off = world.now - 86_400
    world.exists = ["pool", "server"]
    world.made_at = {"pool": broke_off - 60, "server": broke_off + 300}
    assert session(world, [], is_torn=True, torn_until=broke_off).clear(), "clocks may differ"
    assert world.exists == []


def test_what_a_broken_apply_made_and_nobody_can_remove_is_not_called_somebody_else_s(
    world: World,
) -> None:
    world.exists, world.stubborn = ["pool"], {"pool"}
    assert not session(world, [], is_torn=True).clear()
    assert "broke off and made these, and they could not be removed" in world.text
    assert "another name" not in world.text


def test_what_the_key_may_not_list_keeps_a_stack_from_being_begun_or_called_gone(
    world: World,
) -> None:
    world.unseen = "list iam roles was refused (403)"
    with pytest.raises(AccessDenied, match="list iam roles"):
        session(world, []).clear()
    assert session(world, [], makes_keys=False).clear(), "it can have no roles"
    up(world, [], stays=True, makes_keys=False)
    assert down(world, makes_keys=True).outcome is Outcome.LEFT_OVER
    assert "IS NOT KNOWN, it may cost money: list iam roles was refused" in world.text
    assert world.exists == [], "what it may, it removes"


def test_an_api_with_faults_while_it_sweeps_does_not_let_an_orphan_stay(world: World) -> None:
    world.exists = ["pool"]
    world.silent = 1
    course = down(world, is_torn=True, torn_until=world.now)
    assert course.outcome is Outcome.DONE
    assert "was not looked for: no answer" in world.text
    assert world.exists == []


def test_an_outage_of_half_an_hour_is_waited_out(world: World) -> None:
    up(world, [], stays=True)
    world.faults = [TRANSIENT] * 8
    began = world.now
    assert down(world).outcome is Outcome.DONE
    assert 1000 < world.now - began < 2400
    assert world.exists == []


def test_who_does_not_want_to_wait_for_an_outage_may_give_up_at_any_time(world: World) -> None:
    up(world, [], stays=True)
    world.faults = [TRANSIENT] * 20
    script: list[tuple[float, Event]] = [
        (100, Interrupted()),
        (101, NO),
        (200, Interrupted()),
        (201, YES),
    ]
    assert down(world, script).outcome is Outcome.ABANDONED
    assert len(world.questions) == 2
    assert "3 RESOURCES OF STACK web STILL EXIST" in world.text


def test_after_a_no_the_next_ctrl_c_asks_again(world: World) -> None:
    script: list[tuple[float, Event]] = [
        (LATER_S, Interrupted()),
        (LATER_S + 1, NO),
        (LATER_S + 2, Interrupted()),
        (LATER_S + 3, Interrupted()),
        (LATER_S + 10, Interrupted()),
        (LATER_S + 11, YES),
    ]
    course = up(world, script, ttl_s=3600)
    assert course.outcome is Outcome.DONE
    assert len(world.questions) == 3
    assert world.now < 1_000_000 + 600


@pytest.mark.parametrize("by_s", [-40 * 365 * 86_400.0, 3_600.0, 40 * 365 * 86_400.0])
def test_a_clock_that_is_set_neither_ends_a_stack_nor_lets_it_live_longer(
    world: World, by_s: float
) -> None:
    world.now += 50 * 365 * 86_400
    began = world.now
    course = up(world, [(LATER_S, ClockSet(by_s=by_s))], ttl_s=3600)
    assert course.outcome is Outcome.DONE
    assert 3600 <= world.now - by_s - began < 3600 + 60
    assert f"the clock was set {'forward' if by_s > 0 else 'back'} by" in world.text
    told = float(world.text.rpartition("it came to about ")[2].split()[0])
    assert told == pytest.approx(0.0681, abs=0.002), "an hour's"


@pytest.mark.parametrize(
    "refusal",
    ["CreateInstancePool: Conflict: quota exceeded", "invalid request: Precondition Failed: quota"],
)
def test_a_quota_that_is_used_up_is_told_with_the_next_step(world: World, refusal: str) -> None:
    world.fails_at, world.failure = "server", refusal
    up(world, [], can_ask=False)
    said = world.text
    assert said.index("a quota of the account is used up") < said.index(refusal)
    assert "ask for more in the portal" in said


def test_a_state_that_was_damaged_in_the_apply_does_not_hide_what_was_made(world: World) -> None:
    world.fails_at, world.breaks_state = "server", True
    course = up(world, [], ttl_s=36_000)
    assert course.outcome is Outcome.LEFT_OVER
    assert world.exists == [], "it was removed through the API"
    assert "is damaged; put terraform.tfstate.backup in its place" in world.text


def test_another_account_knows_nothing_of_a_stack(world: World) -> None:
    up(world, [], stays=True)
    assert session(world, []).knows_account()
    world.exists.clear()
    assert not session(world, []).knows_account()


def test_an_apply_that_fails_asks_whether_to_destroy_what_it_made(world: World) -> None:
    world.fails_at = "server"
    course = up(world, [(LATER_S, YES)])
    assert course.outcome is Outcome.FAILED
    assert world.questions == ["destroy what was made? No: it stays, and costs."]
    assert world.exists == []
    assert journal_of(world) is None


def test_an_apply_that_fails_with_a_time_to_live_is_cleaned_up_at_once(world: World) -> None:
    world.fails_at = "server"
    began = world.now
    course = up(world, [], ttl_s=36_000)
    assert course.outcome is Outcome.FAILED
    assert world.exists == []
    assert world.now - began < 120


def test_an_apply_that_fails_before_anything_was_made_leaves_nothing_to_remember(
    world: World,
) -> None:
    world.fails_at = "group"
    assert up(world, []).outcome is Outcome.FAILED
    assert world.questions == []
    assert "the apply failed; nothing of stack web is left" in world.text


def test_variables_with_which_nothing_could_be_done_are_not_remembered(world: World) -> None:
    world.exists = ["group"]
    world.know(["group"])
    world.fails_at = "pool"
    kept: list[object] = []
    for fails_at in ("pool", "server"):
        world.fails_at = fails_at
        up(world, [], can_ask=False, variables={"max_size": "x"})
        known = journal_of(world)
        assert known is not None
        kept.append(known["variables"])
    assert kept == [{}, {"max_size": "x"}]


def test_a_detached_stack_stays_and_says_that_nobody_destroys_it(world: World) -> None:
    course = up(world, [], ttl_s=3600, stays=True)
    assert course.outcome is Outcome.DONE
    assert "nothing runs that destroys it at 1970-01-12 14:46" in world.text
    kept = journal_of(world)
    assert kept is not None
    assert kept["destroy_after"] == pytest.approx(1_003_600 + MADE_S, abs=2)


def test_faults_that_pass_are_waited_out_ever_longer(world: World) -> None:
    up(world, [], stays=True)
    world.faults = [TRANSIENT] * 3
    assert down(world).outcome is Outcome.DONE
    pauses = [each for each in world.said if "trying again" in each]
    assert [each.rpartition("in ")[2] for each in pauses] == ["5 s", "15 s", "30 s"]
    assert journal_of(world) is None


def test_a_refusal_is_not_tried_again_and_what_is_left_is_listed(world: World) -> None:
    up(world, [], stays=True)
    world.faults = [REFUSED]
    assert down(world).outcome is Outcome.LEFT_OVER
    assert "trying again" not in world.text
    assert "3 RESOURCES OF STACK web STILL EXIST AND MAY COST MONEY" in world.text
    assert "exo compute instance-pool delete pool -z at-vie-1" in world.text
    assert "NOT EVERYTHING WAS REMOVED" in world.text
    kept = journal_of(world)
    assert kept is not None
    assert kept["phase"] == "destroying"


def test_an_api_that_does_not_answer_at_first_is_asked_again(world: World) -> None:
    up(world, [], stays=True)
    world.silent = 3
    assert down(world).outcome is Outcome.DONE


def test_an_api_that_does_not_answer_leaves_no_doubt_that_nothing_is_known(world: World) -> None:
    up(world, [], stays=True)
    world.silent = 99
    assert down(world).outcome is Outcome.LEFT_OVER
    assert "WHAT IS LEFT OF STACK web IS NOT KNOWN, it may cost money: no answer" in world.text


def test_a_state_that_terraform_damaged_as_it_died_hides_nothing(world: World) -> None:
    up(world, [], stays=True)
    (world.root / "terraform.tfstate").write_text('{"version": 4, "reso')
    assert down(world).outcome is Outcome.LEFT_OVER
    assert "3 RESOURCES OF STACK web STILL EXIST" in world.text
    assert "is damaged; put terraform.tfstate.backup in its place" in world.text
    assert journal_of(world) is not None


def test_a_journal_that_cannot_be_written_does_not_keep_a_stack_alive(world: World) -> None:
    up(world, [], stays=True)
    folder = world.root / ".exotide"
    (folder / "up.json").unlink()
    (folder / "up.json.new").mkdir()
    assert down(world).outcome is Outcome.DONE
    assert world.exists == []
    assert "the journal cannot be written" in world.text


def test_without_a_state_down_lists_what_it_finds_and_removes_it_only_when_told(
    world: World,
) -> None:
    world.exists = ["pool", "server"]
    assert down(world).outcome is Outcome.LEFT_OVER
    assert world.exists == ["pool", "server"]
    at_work = session(world, [])
    at_work.hands.sweeps = True
    assert at_work.down(at_work.course).outcome is Outcome.DONE
    assert world.exists == []


def test_an_abandoned_destroy_says_what_is_left(world: World) -> None:
    script: list[tuple[float, Event]] = [
        (LATER_S, Interrupted()),
        (LATER_S + 1, YES),
        (LATER_S + 7, Interrupted()),
        (LATER_S + 8, YES),
    ]
    course = up(world, script)
    assert course.outcome is Outcome.ABANDONED
    assert world.exists
    assert "STILL EXIST" in world.text
    kept = journal_of(world)
    assert kept is not None
    assert kept["phase"] == "running", "the next up repairs it instead of destroying it"


def test_what_happens_while_a_question_is_open_is_told_after_it(world: World) -> None:
    script: list[tuple[float, Event]] = [
        (LATER_S, Interrupted()),
        (LATER_S + 1, YES),
        (LATER_S + 3, Interrupted()),
        (LATER_S + 10, NO),
    ]
    up(world, script)
    asked, answered = (
        [at for at, each in enumerate(world.said) if each == mark] for mark in (ASKED, ANSWERED)
    )
    assert [at + 1 for at in asked] == answered
    assert "destroyed  server  4 s" in world.said[answered[1] + 1]


def test_a_terraform_of_an_earlier_run_is_told_to_stop_only_once(world: World) -> None:
    at_work = session(world, [])
    found = at_work.hands.terraform.apply({})
    at_work.finish(found, stop=True)
    kept = journal_of(world)
    assert kept is not None
    assert world.runs[0].is_told
    told = Session(hands=at_work.hands, operator=at_work.operator, screen=at_work.screen)
    again = at_work.hands.terraform.apply({})
    again.process = again.process.__class__(pid=1, started="", is_told_to_stop=True)
    told.finish(again, stop=True)
    assert not world.runs[1].is_told


def test_waiting_for_an_earlier_terraform_ends_with_ctrl_c(world: World) -> None:
    at_work = session(world, [(1, Interrupted())])
    with pytest.raises(BrokenOff):
        at_work.finish(at_work.hands.terraform.apply({}), stop=False)
    assert not world.runs[0].is_told


moments = st.floats(0, 200)
happenings = st.lists(
    st.tuples(
        moments,
        st.sampled_from([Interrupted(), YES, NO, Terminated(), HungUp()]),
    ),
    max_size=8,
)
worlds = st.fixed_dictionaries(
    {
        "stubborn": st.sets(st.sampled_from(list(PARTS)), max_size=2),
        "fails_at": st.none() | st.sampled_from(list(PARTS)),
        "orphans": st.booleans(),
        "faults": st.lists(st.sampled_from([TRANSIENT, REFUSED]), max_size=3),
    }
)


@settings(deadline=None, max_examples=60)
@given(worlds, happenings, st.none() | st.just(150.0), st.booleans())
def test_whatever_happens_nothing_is_left_without_a_word(
    given_world: dict[str, object],
    happens: list[tuple[float, Event]],
    ttl_s: float | None,
    can_ask: bool,
) -> None:
    with TemporaryDirectory() as folder:
        world = World(root=Path(folder), **given_world)  # type: ignore[arg-type]
        # Somebody ends it at last, or it would run for ever.
        script = [*happens, (400.0, Terminated())]
        course = up(world, script, ttl_s=ttl_s, can_ask=can_ask)
        assert course.outcome is not None
        if world.exists:
            assert "STILL EXIST" in world.text or course.outcome in {
                Outcome.LEFT_RUNNING,
                Outcome.FAILED,
            }
            assert journal_of(world) is not None
            assert course.outcome.exit_code != 0
        if ttl_s is not None and world.exists:
            assert "STILL EXIST" in world.text
        unknown = set(world.exists) - set(world.known)
        if unknown:
            assert all(f"({each})" in world.text for each in unknown)

"""What a run does next, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.up.course import (
    Action,
    Answered,
    Applied,
    ClockSet,
    Course,
    Destroyed,
    Event,
    HungUp,
    Interrupted,
    Next,
    Outcome,
    Passed,
    Phase,
    Question,
    Terminated,
    advance,
)

DUE = 100.0
NOTHING = ()
MADE = Applied(is_whole=True, is_something=True)
BROKEN = Applied(is_whole=False, is_something=True)
CLEAN, DIRTY = Destroyed(is_all=True), Destroyed(is_all=False)


def course(**given: object) -> Course:
    return replace(Course(can_ask=True), **given)  # type: ignore[arg-type]


RUNNING = course(phase=Phase.RUNNING)
DYING = course(phase=Phase.DESTROYING)


@pytest.mark.parametrize(
    ("before", "event", "actions", "after"),
    [
        pytest.param(
            RUNNING, Interrupted(), (Action.ASK_DESTROY,), {"question": Question.DESTROY}, id="asks"
        ),
        pytest.param(
            replace(RUNNING, question=Question.DESTROY),
            Answered(yes=True),
            (Action.DESTROY,),
            {"phase": Phase.DESTROYING},
            id="yes",
        ),
        pytest.param(
            replace(RUNNING, question=Question.DESTROY),
            Answered(yes=False),
            NOTHING,
            {"outcome": Outcome.LEFT_RUNNING},
            id="no-leaves-it-running",
        ),
        pytest.param(
            replace(RUNNING, question=Question.DESTROY),
            Interrupted(),
            NOTHING,
            {"outcome": Outcome.LEFT_RUNNING},
            id="ctrl-c-is-no",
        ),
        pytest.param(
            replace(RUNNING, question=Question.DESTROY, deadline_s=DUE),
            Answered(yes=False),
            NOTHING,
            {"phase": Phase.RUNNING, "outcome": None},
            id="no-keeps-the-time-to-live",
        ),
        pytest.param(
            replace(RUNNING, deadline_s=DUE),
            Interrupted(),
            (Action.ASK_DESTROY,),
            {"phase": Phase.RUNNING, "question": Question.DESTROY},
            id="every-ctrl-c-with-a-time-to-live-asks",
        ),
        pytest.param(
            replace(RUNNING, deadline_s=DUE),
            ClockSet(by_s=3600.0),
            NOTHING,
            {"deadline_s": DUE + 3600.0},
            id="a-clock-that-is-set-takes-no-time-away",
        ),
        pytest.param(RUNNING, ClockSet(by_s=-9.0), NOTHING, {"deadline_s": None}, id="set-no-ttl"),
        pytest.param(
            replace(RUNNING, deadline_s=DUE), Terminated(), (Action.DESTROY,), {}, id="term-ttl"
        ),
        pytest.param(
            RUNNING, Terminated(), NOTHING, {"outcome": Outcome.LEFT_RUNNING}, id="term-no-ttl"
        ),
        pytest.param(
            replace(RUNNING, deadline_s=DUE, question=Question.DESTROY),
            HungUp(),
            (Action.WITHDRAW, Action.DESTROY),
            {"can_ask": False},
            id="lost-terminal-ttl",
        ),
        pytest.param(
            replace(RUNNING, can_ask=False),
            Interrupted(),
            NOTHING,
            {"outcome": Outcome.LEFT_RUNNING},
            id="nobody-to-ask",
        ),
        pytest.param(
            DYING,
            Interrupted(),
            (Action.ASK_ABANDON,),
            {"question": Question.ABANDON},
            id="abandon",
        ),
        pytest.param(
            replace(DYING, question=Question.ABANDON),
            Answered(yes=True),
            (Action.STOP,),
            {"then": Next.ABANDON},
            id="abandon-yes",
        ),
        pytest.param(
            replace(DYING, then=Next.ABANDON),
            Interrupted(),
            NOTHING,
            {"question": None},
            id="stops",
        ),
        pytest.param(
            replace(DYING, question=Question.ABANDON),
            CLEAN,
            (Action.WITHDRAW,),
            {"outcome": Outcome.DONE},
            id="done-before-the-answer",
        ),
        pytest.param(
            replace(DYING, then=Next.ABANDON),
            DIRTY,
            NOTHING,
            {"outcome": Outcome.ABANDONED},
            id="left",
        ),
        pytest.param(DYING, DIRTY, NOTHING, {"outcome": Outcome.LEFT_OVER}, id="left-over"),
        pytest.param(course(), MADE, NOTHING, {"phase": Phase.RUNNING}, id="applied"),
        pytest.param(
            course(stays=True), MADE, NOTHING, {"outcome": Outcome.DONE}, id="applied-detached"
        ),
        pytest.param(course(), BROKEN, (Action.ASK_DESTROY,), {"has_failed": True}, id="failed"),
        pytest.param(
            course(deadline_s=DUE), BROKEN, (Action.DESTROY,), {"has_failed": True}, id="failed-ttl"
        ),
        pytest.param(
            course(can_ask=False), BROKEN, NOTHING, {"outcome": Outcome.FAILED}, id="failed-silent"
        ),
        pytest.param(
            course(),
            Applied(is_whole=False, is_something=False),
            NOTHING,
            {"outcome": Outcome.FAILED},
            id="failed-before-anything-was-made",
        ),
        pytest.param(
            replace(DYING, has_failed=True),
            CLEAN,
            NOTHING,
            {"outcome": Outcome.FAILED},
            id="cleaned",
        ),
    ],
)
def test_what_follows(
    before: Course, event: Event, actions: tuple[Action, ...], after: dict[str, object]
) -> None:
    reached, done = advance(before, event, now=1.0)
    assert done == actions
    assert {name: getattr(reached, name) for name in after} == after


def test_a_yes_during_the_apply_stops_terraform_first_and_destroys_then() -> None:
    reached, _ = advance(course(), Interrupted(), now=1)
    reached, actions = advance(reached, Answered(yes=True), now=2)
    assert (reached.phase, actions) == (Phase.APPLYING, (Action.STOP,))
    reached, actions = advance(reached, BROKEN, now=3)
    assert (reached.phase, actions) == (Phase.DESTROYING, (Action.DESTROY,))


def test_after_a_no_the_next_ctrl_c_asks_again_and_harms_nothing() -> None:
    reached = replace(RUNNING, deadline_s=DUE)
    for _ in range(3):
        reached, actions = advance(reached, Interrupted(), now=1)
        assert actions == (Action.ASK_DESTROY,)
        reached, actions = advance(reached, Answered(yes=False), now=2)
        assert (reached, actions) == (replace(RUNNING, deadline_s=DUE), NOTHING)


def test_the_time_that_the_stack_itself_records_is_the_one_that_counts() -> None:
    reached, _ = advance(course(deadline_s=50), replace(MADE, deadline_s=DUE), now=60)
    assert advance(reached, Passed(), now=99)[1] == NOTHING
    assert advance(reached, Passed(), now=100)[1] == (Action.DESTROY,)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.DONE, 0),
        (Outcome.FAILED, 1),
        (Outcome.LEFT_OVER, 1),
        (Outcome.LEFT_RUNNING, 130),
        (Outcome.ABANDONED, 130),
    ],
)
def test_every_outcome_has_its_exit_status(outcome: Outcome, code: int) -> None:
    assert outcome.exit_code == code


@dataclass
class World:
    """Terraform and the terminal, as strict as the real ones: the events that can happen now."""

    course: Course
    was_down: bool
    now: float = 0.0
    questions: list[Question] = field(default_factory=list)
    reasons: int = 0
    """How often something happened that may bring a question."""
    stops: int = 0
    destroys: int = 0
    said_yes: bool = False

    def meet(self, event: Event) -> None:
        before = self.course
        is_failure = isinstance(event, Applied) and not event.is_whole
        self.reasons += isinstance(event, Interrupted) or is_failure
        if isinstance(event, Answered):
            if before.question is None:
                return
            self.said_yes |= event.yes and before.question is Question.DESTROY
        if isinstance(event, Applied) and before.phase is not Phase.APPLYING:
            return
        if isinstance(event, Destroyed) and before.phase is not Phase.DESTROYING:
            return
        if isinstance(event, Applied | Destroyed):
            self.stops = 0
        self.course, actions = advance(before, event, now=self.now)
        for action in actions:
            self.do(action, before)
        assert (self.course.outcome is None) == (self.course.phase is not Phase.ENDED)

    def do(self, action: Action, before: Course) -> None:
        assert before.phase is not Phase.ENDED, "nothing is done after the end"
        match action:
            case Action.ASK_DESTROY | Action.ASK_ABANDON:
                assert self.course.can_ask
                assert before.question is None
                assert self.course.question is not None
                self.questions.append(self.course.question)
            case Action.WITHDRAW:
                assert before.question is not None
            case Action.STOP:
                self.stops += 1
            case Action.DESTROY:
                self.destroys += 1
                deadline_s = self.course.deadline_s
                assert self.said_yes or deadline_s is not None, "destroyed without a reason"


events = st.one_of(
    st.builds(Interrupted),
    st.builds(Answered, yes=st.booleans()),
    st.builds(Terminated),
    st.builds(HungUp),
    st.builds(Passed),
    st.builds(
        Applied,
        is_whole=st.booleans(),
        is_something=st.booleans(),
        deadline_s=st.none() | st.just(DUE),
    ),
    st.builds(Destroyed, is_all=st.booleans()),
)
stories = st.lists(st.tuples(events, st.floats(0, 30)), max_size=25)
beginnings = st.builds(
    Course,
    phase=st.sampled_from([Phase.APPLYING, Phase.DESTROYING]),
    deadline_s=st.none() | st.just(DUE),
    can_ask=st.booleans(),
    stays=st.booleans(),
)


def told(beginning: Course, story: list[tuple[Event, float]]) -> World:
    world = World(course=beginning, was_down=beginning.phase is Phase.DESTROYING)
    for event, later_s in story:
        world.now += later_s
        world.meet(event)
    return world


@given(beginnings, stories)
def test_nobody_is_asked_without_a_ctrl_c_or_a_failure_for_each_question(
    beginning: Course, story: list[tuple[Event, float]]
) -> None:
    world = told(beginning, story)
    assert len(world.questions) <= world.reasons


@given(beginnings, st.integers(1, 12), st.booleans())
def test_no_number_of_ctrl_c_alone_destroys_anything(
    beginning: Course, times: int, is_applied: bool
) -> None:
    """Somebody is there; the time to live is not over; nothing was asked for but by Ctrl-C."""
    world = World(course=replace(beginning, can_ask=True), was_down=False)
    if is_applied:
        world.meet(MADE)
    for _ in range(times):
        world.meet(Interrupted())
    assert world.destroys == 0


@given(beginnings, stories)
def test_terraform_is_never_told_to_stop_a_second_time(
    beginning: Course, story: list[tuple[Event, float]]
) -> None:
    world = World(course=beginning, was_down=False)
    for event, later_s in story:
        world.now += later_s
        world.meet(event)
        assert world.stops <= 1


@given(beginnings, stories)
def test_nothing_is_destroyed_without_a_yes_or_a_time_to_live(
    beginning: Course, story: list[tuple[Event, float]]
) -> None:
    world = told(beginning, story)
    assert world.destroys <= 1
    if not (world.said_yes or world.course.deadline_s is not None or world.was_down):
        assert world.destroys == 0
        assert world.course.phase is not Phase.DESTROYING


@given(beginnings, stories, st.booleans(), st.booleans())
def test_a_stack_with_a_time_to_live_ends_destroyed_or_listed(
    beginning: Course, story: list[tuple[Event, float]], is_whole: bool, is_all: bool
) -> None:
    world = told(replace(beginning, deadline_s=DUE, stays=False), story)
    world.now = max(world.now, DUE)
    for event in (
        Passed(),
        Applied(is_whole=is_whole, is_something=True),
        Passed(),
        Destroyed(is_all=is_all),
    ):
        world.meet(event)
    outcome = world.course.outcome
    assert outcome is not None
    if world.destroys or world.was_down:
        return  # the destroy itself has listed what it left
    never_existed = outcome is Outcome.FAILED
    was_abandoned = outcome is Outcome.ABANDONED and Question.ABANDON in world.questions
    assert never_existed or was_abandoned


def moved(event: Event, ahead_s: float) -> Event:
    """As the stack would tell it by a clock that is ahead."""
    if not isinstance(event, Applied) or event.deadline_s is None:
        return event
    return replace(event, deadline_s=event.deadline_s + ahead_s)


@given(beginnings, stories, stories, st.integers(-10_000, 10_000))
def test_a_clock_that_is_set_changes_nothing_of_what_follows(
    beginning: Course,
    story: list[tuple[Event, float]],
    later: list[tuple[Event, float]],
    by_s: int,
) -> None:
    as_it_was, was_set = told(beginning, story), told(beginning, story)
    was_set.now += by_s
    was_set.meet(ClockSet(by_s=by_s))
    for event, later_s in later:
        for world, ahead_s in ((as_it_was, 0), (was_set, by_s)):
            world.now += later_s
            world.meet(moved(event, ahead_s))
    assert was_set.course.outcome == as_it_was.course.outcome
    assert was_set.questions == as_it_was.questions
    assert (was_set.stops, was_set.destroys) == (as_it_was.stops, as_it_was.destroys)


@given(beginnings, stories)
def test_a_lost_terminal_always_leads_to_an_end_without_a_word(
    beginning: Course, story: list[tuple[Event, float]]
) -> None:
    world = told(beginning, story)
    world.meet(HungUp())
    asked = len(world.questions)
    for event in (MADE, CLEAN):
        world.meet(event)
    assert world.course.phase is Phase.ENDED
    assert len(world.questions) == asked

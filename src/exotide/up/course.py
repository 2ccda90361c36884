"""
What a run of `exotide up` does next: PURE. Time is an argument; terminal and Terraform are events.

    APPLYING ──applied──► RUNNING ──yes, time to live over──► DESTROYING ──destroyed──► ENDED
        └── told to stop ──applied──► DESTROYING, or ENDED ◄── leave ── RUNNING

Rules that the properties hold it to: each Ctrl-C asks or answers no, so that a number of them does
no harm; Terraform is told to stop once, as a second signal would make it drop what it is doing;
nothing is destroyed without a yes, a time to live, or `exotide down`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias


class Phase(StrEnum):
    """Where the run is. Used verbatim in the journal."""

    APPLYING = "applying"
    RUNNING = "running"
    DESTROYING = "destroying"
    ENDED = "ended"


class Question(StrEnum):
    """What the operator can be asked, one at a time."""

    DESTROY = "destroy"
    ABANDON = "abandon"


class Next(StrEnum):
    """What follows when a Terraform that was told to stop has stopped."""

    DESTROY = "destroy"
    LEAVE = "leave"
    ABANDON = "abandon"


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    LEFT_RUNNING = "left running"
    ABANDONED = "abandoned"
    FAILED = "failed"
    LEFT_OVER = "left over"

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed or something is left, 130 interrupted with the stack left running."""
        return {Outcome.DONE: 0, Outcome.FAILED: 1, Outcome.LEFT_OVER: 1}.get(self, 130)


class Action(StrEnum):
    """What the session has to do now."""

    ASK_DESTROY = "ask whether to destroy"
    ASK_ABANDON = "ask whether to abandon the destroy"
    WITHDRAW = "withdraw the question"
    STOP = "tell terraform to stop"
    DESTROY = "begin to destroy"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """SIGTERM: someone else ends this program."""


@dataclass(frozen=True, slots=True)
class HungUp:
    """SIGHUP: the terminal is gone."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """Somebody set the clock of `now`, by so many seconds; no time has passed by that."""

    by_s: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The operator answered the open question."""

    yes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """`terraform apply` has ended."""

    is_whole: bool
    """It did all that it wanted to."""
    is_something: bool
    """The state holds resources."""
    deadline_s: float | None = None
    """When the stack is to be destroyed, as the stack itself now says."""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The destroy has ended, with all its further attempts."""

    is_all: bool
    """Nothing is left, by the state and by the API."""


Event: TypeAlias = (
    Interrupted | Terminated | HungUp | Passed | ClockSet | Answered | Applied | Destroyed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Everything that decides what comes next."""

    phase: Phase = Phase.APPLYING
    deadline_s: float | None = None
    """When the time to live is over, on the clock of `now`. None: never."""
    can_ask: bool = False
    """There is a terminal with someone at it."""
    stays: bool = False
    """A stack that was applied is left running (`--detach`)."""
    question: Question | None = None
    """The open one."""
    then: Next | None = None
    """Set once Terraform was told to stop."""
    has_failed: bool = False
    """The apply did not get to its end by itself."""
    outcome: Outcome | None = None
    """Set when ENDED."""

    @property
    def is_going(self) -> bool:
        """Whether the stack is being destroyed, or will be as soon as Terraform has stopped."""
        return self.phase is Phase.DESTROYING or self.then is Next.DESTROY


Step: TypeAlias = tuple[Course, tuple[Action, ...]]


def advance(course: Course, event: Event, *, now: float) -> Step:
    """Give the course after an event, and what to do about it, in order."""
    if course.phase is Phase.ENDED:
        return course, ()
    match event:
        case Applied():
            step = _applied(course, event)
        case Destroyed():
            step = _destroyed(course, event)
        case Answered():
            step = _answered(course, yes=event.yes)
        case Interrupted():
            step = _interrupted(course)
        case Terminated():
            step = _without_asking(course)
        case HungUp():
            step = _without_asking(replace(course, can_ask=False))
        case Passed():
            step = _passed(course, now)
        case ClockSet():
            step = _moved(course, by_s=event.by_s), ()
    return step


def _interrupted(course: Course) -> Step:
    if course.question is not None:
        return _answered(course, yes=False)
    if course.then in {Next.LEAVE, Next.ABANDON}:
        return course, ()
    if course.can_ask:
        return _ask(course, Question.ABANDON if course.is_going else Question.DESTROY)
    return _without_asking(course)


def _ask(course: Course, question: Question) -> Step:
    action = Action.ASK_DESTROY if question is Question.DESTROY else Action.ASK_ABANDON
    return replace(course, question=question), (action,)


def _answered(course: Course, *, yes: bool) -> Step:
    question, course = course.question, replace(course, question=None)
    if question is Question.DESTROY and yes:
        return _destroy(course)
    if question is Question.DESTROY and course.deadline_s is None:
        return _leave(course)
    if question is Question.ABANDON and yes:
        return _abandon(course)
    return course, ()


def _without_asking(course: Course) -> Step:
    """Do what the time to live stands for; what has been decided before goes on."""
    course, actions = _withdrawn(course)
    if course.then is not None or course.phase is Phase.DESTROYING:
        return course, actions
    course, more = _leave(course) if course.deadline_s is None else _destroy(course)
    return course, (*actions, *more)


def _passed(course: Course, now: float) -> Step:
    is_over = course.deadline_s is not None and now >= course.deadline_s
    if not is_over or course.then is not None or course.phase is Phase.DESTROYING:
        return course, ()
    return _without_asking(course)


def _moved(course: Course, *, by_s: float) -> Course:
    """Keep the time that is left."""
    deadline_s = course.deadline_s
    return course if deadline_s is None else replace(course, deadline_s=deadline_s + by_s)


def _applied(course: Course, event: Applied) -> Step:
    deadline_s = course.deadline_s if event.deadline_s is None else event.deadline_s
    course = replace(course, phase=Phase.RUNNING, deadline_s=deadline_s)
    if course.then is not None:
        return _stopped(course)
    if not event.is_whole:
        return _failed(replace(course, has_failed=True), event)
    if course.stays and course.question is None:
        return _ended(course, Outcome.DONE)
    return course, ()


def _failed(course: Course, event: Applied) -> Step:
    if not event.is_something:
        return _ended(course, Outcome.FAILED)
    if course.deadline_s is not None:
        return _without_asking(course)
    if course.question is not None:
        return course, ()
    if course.can_ask:
        return _ask(course, Question.DESTROY)
    return _ended(course, Outcome.FAILED)


def _stopped(course: Course) -> Step:
    if course.then is Next.DESTROY:
        return replace(course, phase=Phase.DESTROYING, then=None), (Action.DESTROY,)
    was_abandoned = course.then is Next.ABANDON
    return _ended(course, Outcome.ABANDONED if was_abandoned else Outcome.LEFT_RUNNING)


def _destroyed(course: Course, event: Destroyed) -> Step:
    if event.is_all:
        return _ended(course, Outcome.FAILED if course.has_failed else Outcome.DONE)
    was_stopped = course.then is Next.ABANDON
    return _ended(course, Outcome.ABANDONED if was_stopped else Outcome.LEFT_OVER)


def _destroy(course: Course) -> Step:
    if course.phase is Phase.APPLYING:
        return replace(course, then=Next.DESTROY), (Action.STOP,)
    return replace(course, phase=Phase.DESTROYING), (Action.DESTROY,)


def _leave(course: Course) -> Step:
    if course.phase is Phase.APPLYING:
        return replace(course, then=Next.LEAVE), (Action.STOP,)
    return _ended(course, Outcome.FAILED if course.has_failed else Outcome.LEFT_RUNNING)


def _abandon(course: Course) -> Step:
    was_told = course.then is not None
    return replace(course, then=Next.ABANDON), () if was_told else (Action.STOP,)


def _withdrawn(course: Course) -> Step:
    if course.question is None:
        return course, ()
    return replace(course, question=None), (Action.WITHDRAW,)


def _ended(course: Course, outcome: Outcome) -> Step:
    course, actions = _withdrawn(course)
    return replace(course, phase=Phase.ENDED, outcome=outcome), actions

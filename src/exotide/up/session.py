"""Carries out what the course decides: one loop that never waits long for anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, cast

from exotide.stack.errors import StackError

from . import text
from .course import Action, ClockSet, Course, Event, Outcome, Passed, Phase, advance
from .hands import Hands, Work
from .operator import Operator
from .program import Run
from .screen import Screen

T = TypeVar("T")

TICK_S: Final = 0.2
QUICK_TICK_S: Final = 0.02
KEPT_EVERY_S: Final = 60.0
"""So much of the cost may have to be guessed after a power cut."""


class BrokenOff(Exception):
    """A signal came before anything was begun that needs an end."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One run of one command, from its first action to its outcome."""

    hands: Hands
    operator: Operator
    screen: Screen
    course: Course = field(default_factory=Course)
    _work: Work[Event] | None = None

    def up(self, course: Course) -> Course:
        """Apply, watch, and destroy when that is due; gives the course at its end."""
        self.course, self._work = course, self.hands.applying()
        return self._to_the_end()

    def down(self, course: Course) -> Course:
        """Destroy."""
        self.course = replace(course, phase=Phase.DESTROYING)
        self._work = self.hands.destroying()
        return self._to_the_end()

    def finish(self, found: Run, *, stop: bool) -> None:
        """
        See a Terraform to its end that an earlier run left behind.

        Args:
            stop: What it does is not wanted any more.

        Raises:
            BrokenOff: by a signal; that Terraform goes on.
        """
        self.hands.began_s = self.operator.now()
        following = self.hands.follow(found)
        if stop and not found.process.is_told_to_stop and found.ended() is None:
            next(following, None)
            self.hands.stop()
        self._through(following)
        self.hands.is_stopping = False

    def clear(self) -> bool:
        """
        See that the stack's names are free but for what the state knows, before it is made.

        Raises:
            BrokenOff: by a signal; nothing was begun.
            StackError: The API cannot be asked, or refuses.
        """
        left, journal = self._through(self.hands.clearing()), self.hands.journal
        if left.found:
            shown = text.loud(left.found, name=journal.name, zone=journal.zone)
            self.screen.say(shown, loud=True)
            self.screen.say(left.why)
        return not left.found

    def knows_account(self) -> bool:
        """
        Tell whether this account has anything of what the state knows.

        Raises:
            BrokenOff: by a signal; nothing was begun.
            StackError: The API cannot be asked.
        """
        return self._through(self.hands.knows_account())

    def _through(self, work: Work[T]) -> T:
        """Do work that needs no judgement: any signal breaks it off."""
        while True:
            events = self.operator.events(QUICK_TICK_S)
            if any(not isinstance(each, ClockSet) for each in events):
                raise BrokenOff
            try:
                next(work)
            except StopIteration as ended:
                return cast("T", ended.value)

    def _to_the_end(self) -> Course:
        self.hands.began_s = self.operator.now()
        while self.course.phase is not Phase.ENDED:
            for event in self.operator.events(TICK_S):
                self._advance(event)
            self._advance(Passed())
            self._work_on()
            if self.course.outcome is None:
                self._show()
        self.screen.close()
        self._conclude()
        return self.course

    def _work_on(self) -> None:
        work = self._work
        if work is None:
            return
        try:
            next(work)
        except StopIteration as ended:
            self._work = None
            self._advance(ended.value)

    def _advance(self, event: Event) -> None:
        before, now_s = self.course, self.operator.now()
        if isinstance(event, ClockSet):
            self.hands.shift(event.by_s)
        self.course, actions = advance(before, event, now=now_s)
        for action in actions:
            self._do(action)
        if before.question is not None and self.course.question is None:
            self.screen.release()
        if self.course.phase is Phase.RUNNING is not before.phase and not self.course.has_failed:
            self.screen.say(f"{self._line(now_s)}; Ctrl-C ends it")

    def _do(self, action: Action) -> None:
        match action:
            case Action.ASK_DESTROY:
                self._ask(self._destroy_question())
            case Action.ASK_ABANDON:
                self._ask("destroying is under way; stop, and leave running what is left?")
            case Action.WITHDRAW:
                self.operator.withdraw()
            case Action.STOP:
                self.hands.stop()
                if self.course.phase is Phase.DESTROYING:
                    self.hands.cloud.hurry()
            case Action.DESTROY:
                due_s = self.course.deadline_s
                is_over = due_s is not None and self.operator.now() >= due_s
                self.screen.say("its time to live is over: destroying" if is_over else "destroying")
                self.hands.is_stopping = False
                self._work = self.hands.destroying()

    def _ask(self, question: str) -> None:
        self.screen.hold()
        self.operator.ask(question)

    def _destroy_question(self) -> str:
        if self.course.has_failed:
            return "destroy what was made? No: it stays, and costs."
        if self.course.deadline_s is None:
            return "destroy the stack? No: it is left running."
        rest = text.span(self.course.deadline_s - self.operator.now())
        return f"destroy the stack now? No: it destroys itself in {rest}."

    def _show(self) -> None:
        hands, now_s = self.hands, self.operator.now()
        if hands.meter is not None:
            hands.meter = hands.meter.until(now_s, members=hands.cloud.pool_size())
            if now_s - hands.journal.counted_at >= KEPT_EVERY_S:
                hands.keep()
        self.screen.show(self._line(now_s))

    def _line(self, now_s: float) -> str:
        hands, course = self.hands, self.course
        if course.phase is Phase.RUNNING and hands.meter is not None:
            since_s = hands.journal.since
            return text.running(hands.meter, since_s=since_s, deadline_s=course.deadline_s)
        took = text.span(now_s - hands.began_s)
        oldest = min(hands.under_way, key=hands.under_way.__getitem__, default="")
        more = f", {len(hands.under_way)} under way, first {oldest}" if oldest else ""
        cost = "" if hands.meter is None else f"; {text.spent(hands.meter)} so far"
        return f"{course.phase} for {took}{more}{cost}"

    def _conclude(self) -> None:
        """Keep the journal for as long as anything of the stack may exist, and say how it ended."""
        hands, outcome = self.hands, self.course.outcome
        if outcome is Outcome.ABANDONED:
            hands.keep(phase=Phase.RUNNING)  # the operator wanted no destroy
        elif not hands.is_gone and outcome in {Outcome.FAILED, Outcome.LEFT_RUNNING}:
            hands.is_gone = self._is_nothing_left()
        if hands.is_gone:
            hands.place.forget()
        self.screen.say(self._farewell())

    def _is_nothing_left(self) -> bool:
        """Look what an apply that was broken off has made without knowing it."""
        hands = self.hands
        if not hands.journal.is_torn:
            return False
        try:
            left = hands.fragments()
        except StackError as error:
            self.screen.say(text.unseen(str(error), name=hands.journal.name), loud=True)
            return False
        if left:
            journal = hands.journal
            self.screen.say(text.loud(left, name=journal.name, zone=journal.zone), loud=True)
        return not left and hands.is_empty()

    def _farewell(self) -> str:
        hands, outcome = self.hands, self.course.outcome
        cost = "" if hands.meter is None else f"; it came to {text.spent(hands.meter)}"
        rate = "" if hands.meter is None else f" and costs {text.price(hands.meter.per_hour)}"
        if hands.is_gone:
            failed = "the apply failed; " if outcome is Outcome.FAILED else ""
            return f"{failed}nothing of stack {hands.journal.name} is left{cost}"
        if outcome is Outcome.LEFT_OVER:
            return f"NOT EVERYTHING WAS REMOVED, see above{cost}; then try again: exotide down"
        if outcome is Outcome.FAILED:
            return (
                "the apply failed; go on with it: exotide up; or remove what was made: exotide down"
            )
        rest = "to watch it: exotide up; to destroy it: exotide down"
        due = self.course.deadline_s
        if due is not None:
            rest += f"; nothing runs that destroys it at {text.moment(due)}, the next of these will"
        return f"stack {hands.journal.name} is left running{rate}; {rest}"

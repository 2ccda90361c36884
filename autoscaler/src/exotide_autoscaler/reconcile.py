"""
One pass: read the pool, decide, ask for another size if need be, and write everything down.

The way from an alert to the cloud: `Reconciler.run_pass` -> `inbox.triage` -> `policy.decide` ->
`_change`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exotide_autoscaler.domain import (
    Decision,
    Instant,
    Intent,
    Memory,
    Policy,
    Pool,
    Reason,
    Request,
    Source,
)
from exotide_autoscaler.errors import Busy, CloudError, MemberRefused
from exotide_autoscaler.inbox import Triage, triage
from exotide_autoscaler.journal import Answer, Journal
from exotide_autoscaler.policy import decide, hold_limits, is_stuck
from exotide_autoscaler.ports import Clock, Pools, Scribe
from exotide_autoscaler.victims import Chooser
from exotide_autoscaler.words import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass did."""

    decision: Decision
    pool: Pool | None = None
    """The pool as it was read; None: it could not be read."""
    unsettled_s: float | None = None
    """Seconds since the pool is not settled; None: it is."""
    waiting: frozenset[Intent] = frozenset()
    """Intents of the requests that are still open."""
    closed: tuple[Reason, ...] = ()
    """Why requests left the inbox at the beginning of the pass."""
    error: str = ""
    """What the cloud failed with; empty if nothing failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A change that is to be made."""

    pool: Pool
    decision: Decision
    request: Request | None
    """None: limits ask, and their request is made when the cloud is asked."""
    target: int
    victims: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        return Source.LIMITS if self.request is None else self.request.source


class Reconciler:
    """
    Brings the pool one step closer to what the alerts ask for, pass by pass.

    A request counts as served when the pool has settled at what was asked for, not when the cloud
    said yes: so an unknown outcome, a restart, and an operation that failed later are one case.
    """

    def __init__(self, pools: Pools, scribe: Scribe, clock: Clock, policy: Policy) -> None:
        self._pools = pools
        self._scribe = scribe
        self._clock = clock
        self._policy = policy
        self._chooser = Chooser(pools, policy)
        self.memory = Memory()

    async def recall(self) -> None:
        """Learn what an earlier run of this program did, so that no restart scales twice."""
        now = self._clock.now()
        self.memory = await self._scribe.run(lambda journal: journal.recall(now))

    async def run_pass(self) -> Pass:
        """
        Observe, decide, act, record.

        Raises:
            JournalError: nothing was asked of the cloud that the journal does not know.
        """
        pool, failure = None, None
        try:
            pool = await self._pools.get()
        except CloudError as error:
            failure = error
        now = self._clock.now()
        inbox, up_holds = await self._scribe.run(lambda journal: self._sort(journal, pool, now))
        if pool is None or failure is not None:
            assert failure is not None
            done = await self._postpone(None, inbox.head, failure)
        else:
            done = await self._decide(pool, inbox.head, now, up_holds=up_holds)
        return replace(done, closed=tuple(item.reason for item in inbox.closed))

    def _sort(self, journal: Journal, pool: Pool | None, now: Instant) -> tuple[Triage, bool]:
        """Close what is over and note how far the rest has come, in one transaction."""
        if pool is not None:
            self._watch(journal, pool, now)
        stuck = is_stuck(policy=self._policy, now=now.monotonic_s, memory=self.memory)
        inbox = triage(journal.owed(now), pool=pool, stuck=stuck, policy=self._policy)
        journal.close(inbox.closed, size=None if pool is None else pool.size, now=now)
        journal.keep(inbox.open)
        return inbox, journal.up_holds(now, self._policy)

    def _watch(self, journal: Journal, pool: Pool, now: Instant) -> None:
        """Remember since when the pool is not settled, across restarts as well."""
        memory, now_s = self.memory, now.monotonic_s
        if pool.settled:
            if memory.unsettled_at is not None:
                journal.mark_unsettled(None)
            self.memory = replace(memory, settled_at=now_s, unsettled_at=None)
        elif memory.unsettled_at is None:
            journal.mark_unsettled(now)
            settled_at, changed_at = memory.settled_at, memory.changed_at
            by_us = settled_at is not None and changed_at is not None and changed_at >= settled_at
            self.memory = replace(memory, unsettled_at=changed_at if by_us else now_s)

    async def _decide(
        self, pool: Pool, head: Request | None, now: Instant, *, up_holds: bool
    ) -> Pass:
        now_s, policy, memory = now.monotonic_s, self._policy, self.memory
        decision = decide(pool, head, policy=policy, now=now_s, memory=memory)
        source = Source.WEBHOOK if head is None else head.source
        held = hold_limits(pool, policy=policy, now=now_s, memory=memory, up_holds=up_holds)
        if head is None and held is not None:
            decision, source = held, Source.LIMITS
        if decision.reason.changes:
            assert decision.wanted is not None
            return await self._change(
                _Task(pool=pool, decision=decision, request=head, target=decision.wanted)
            )
        await self._scribe.run(lambda journal: _record(journal, decision, head, now, source=source))
        return await self._finish(decision, pool)

    async def _change(self, task: _Task) -> Pass:
        """Choose who goes, write ahead, ask, write the answer: after a kill the pool tells."""
        if task.target < task.pool.size:
            now_s = self._clock.now().monotonic_s
            stuck = is_stuck(policy=self._policy, now=now_s, memory=self.memory)
            choice = await self._chooser.choose(task.pool, task.request, stuck=stuck, now=now_s)
            if choice.wait is not None:
                return await self._wait(task, choice.wait, choice.detail)
            task = replace(task, victims=choice.victims)
        now = self._clock.now()
        written = await self._scribe.run(lambda journal: _write_ahead(journal, task, now))
        if written is None:  # a webhook ended the request meanwhile
            decision = replace(task.decision, wanted=task.pool.size, reason=Reason.NO_ALERT)
            return await self._finish(replace(decision, intent=Intent.NONE), task.pool)
        return await self._ask(task, *written)

    async def _ask(self, task: _Task, attempt: int, request: Request) -> Pass:
        earlier = self.memory
        self._remember(Answer.UNKNOWN, earlier)
        answer, failure = Answer.ACCEPTED, None
        try:
            if task.victims:
                await self._pools.evict(task.victims)
            else:
                await self._pools.scale(task.target)
        except CloudError as error:
            answer, failure = _answer_in(error), error
        self._remember(answer, earlier)
        now = self._clock.now()
        await self._scribe.run(lambda journal: journal.answer(attempt, request, answer, now=now))
        if isinstance(failure, MemberRefused):
            self.memory = replace(self.memory, attempted_at=earlier.attempted_at)
            if request.target is None or "protect" in failure.said.lower():
                self._chooser.spare(failure.members, now=now.monotonic_s)
            # Else it was asked for before, and may have left without our seeing it: nobody else.
            return await self._wait(task, Reason.MEMBER_REFUSED, str(failure))
        if failure is not None:
            return await self._postpone(task.pool, request, failure)
        return await self._finish(task.decision, task.pool)

    def _remember(self, answer: Answer, earlier: Memory) -> None:
        now_s = self._clock.now().monotonic_s
        if answer.surely_nothing:
            self.memory = replace(earlier, attempted_at=now_s, refusals=earlier.refusals + 1)
        else:
            self.memory = replace(earlier, attempted_at=now_s, changed_at=now_s, refusals=0)

    async def _wait(self, task: _Task, reason: Reason, detail: str) -> Pass:
        """Nobody goes now, and the request is kept."""
        decision = replace(task.decision, wanted=task.pool.size, reason=reason)
        now = self._clock.now()
        await self._scribe.run(
            lambda journal: _record(
                journal, decision, task.request, now, detail, source=task.source
            )
        )
        return await self._finish(decision, task.pool, error=detail)

    async def _postpone(
        self, pool: Pool | None, request: Request | None, error: CloudError
    ) -> Pass:
        """The pool stays as it is and the request is kept; a later pass tries again."""
        size = None if pool is None else pool.size
        decision = Decision(
            size=size,
            wanted=size,
            reason=Reason.CLOUD_ERROR,
            intent=request.intent if request else Intent.NONE,
        )
        text = f"{type(error).__name__}: {error}"
        now = self._clock.now()
        source = request.source if request else Source.WEBHOOK
        await self._scribe.run(
            lambda journal: _record(journal, decision, request, now, text, source=source)
        )
        return await self._finish(decision, pool, error=text)

    async def _finish(self, decision: Decision, pool: Pool | None, *, error: str = "") -> Pass:
        now = self._clock.now()
        owed = await self._scribe.run(lambda journal: journal.owed(now))
        unsettled_at = self.memory.unsettled_at
        return Pass(
            decision=decision,
            pool=pool,
            unsettled_s=None if unsettled_at is None else now.monotonic_s - unsettled_at,
            waiting=frozenset(request.intent for request in owed),
            error=error,
        )


def _answer_in(error: CloudError) -> Answer:
    if error.outcome_unknown:
        return Answer.UNKNOWN
    return Answer.BUSY if isinstance(error, Busy) else Answer.REFUSED


def _record(
    journal: Journal,
    decision: Decision,
    request: Request | None,
    now: Instant,
    detail: str = "",
    *,
    source: Source = Source.WEBHOOK,
) -> None:
    repeats = request.repeats if request else 0
    text = describe(decision, repeats=repeats, detail=detail, source=source)
    journal.record(decision, text, now=now, request_id=request.id if request else None)
    if request is not None and decision.reason is Reason.AT_LIMIT:
        journal.end(request.id, decision.reason)


def _write_ahead(journal: Journal, task: _Task, now: Instant) -> tuple[int, Request] | None:
    """Write down what is about to be asked, for a request that is still open; else None."""
    request, decision = task.request, task.decision
    if request is None:
        request = journal.add(decision.intent, Source.LIMITS, now=now)
    elif not journal.is_open(request.id):
        return None
    detail = f"evicting {', '.join(task.victims)}" if task.victims else ""
    _record(journal, decision, request, now, detail, source=task.source)
    assert decision.size is not None
    attempt = journal.ask(
        request, size=decision.size, target=task.target, victims=task.victims, now=now
    )
    return attempt, request

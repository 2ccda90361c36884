"""
One pass: read the pool, decide, ask for another size if need be, and write everything down.

The way from an alert to the cloud: `Reconciler.run_pass` -> `policy.decide` -> `_change`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from exotide_autoscaler.domain import (
    Decision,
    Instant,
    Intent,
    Member,
    Owed,
    Policy,
    Pool,
    Reason,
)
from exotide_autoscaler.errors import CloudError
from exotide_autoscaler.inbox import triage
from exotide_autoscaler.journal import Answer, Journal
from exotide_autoscaler.policy import choose_victims, decide
from exotide_autoscaler.ports import Clock, Pools, Scribe
from exotide_autoscaler.words import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """When the cloud was last asked for another size, on the monotonic clock of this process."""

    attempted_at: float | None = None
    changed_at: float | None = None
    """The same, without requests that it surely refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass did."""

    decision: Decision
    waiting: frozenset[Intent] = frozenset()
    """Intents that are still owed, or that the pool does not show yet."""
    closed: tuple[Reason, ...] = ()
    """Why intents left the inbox at the beginning of the pass."""
    error: str = ""
    """What the cloud failed with; empty if nothing failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    owed: Owed
    reason: Reason


class Reconciler:
    """
    Brings the pool one step closer to what the alerts ask for, pass by pass.

    An intent counts as served when the pool shows what was asked for, not when the cloud said yes:
    so an unknown outcome, a restart, and an operation that failed later are all the same case.
    """

    def __init__(self, pools: Pools, scribe: Scribe, clock: Clock, policy: Policy) -> None:
        self._pools = pools
        self._scribe = scribe
        self._clock = clock
        self._policy = policy
        self.memory = Memory()

    async def recall(self) -> None:
        """Learn what an earlier run of this program did, so that no restart scales twice."""
        now = self._clock.now()
        ages = await self._scribe.run(lambda journal: journal.ages(now))
        self.memory = Memory(
            attempted_at=None if ages.attempted_s is None else now.monotonic_s - ages.attempted_s,
            changed_at=None if ages.changed_s is None else now.monotonic_s - ages.changed_s,
        )

    async def run_pass(self) -> Pass:
        """
        Observe, decide, act, record.

        Raises:
            JournalError: nothing was asked of the cloud that the journal does not know.
        """
        now = self._clock.now()
        owed = await self._scribe.run(lambda journal: journal.owed(now))
        try:
            pool = await self._pools.get()
        except CloudError as error:
            head, closed = await self._triage(owed, None, now)
            return replace(await self._give_up(head, None, error), closed=closed)
        head, closed = await self._triage(owed, pool.size, now)
        return replace(await self._decide(pool, head, now), closed=closed)

    async def _decide(self, pool: Pool, head: Owed | None, now: Instant) -> Pass:
        decision = decide(
            pool,
            head.intent if head else Intent.NONE,
            policy=self._policy,
            now=now.monotonic_s,
            attempted_at=self.memory.attempted_at,
            changed_at=self.memory.changed_at,
        )
        if head is not None and decision.reason.changes:
            return await self._change(pool, head, decision)
        await self._scribe.run(lambda journal: _record(journal, decision, head, now))
        return await self._finish(decision)

    async def _triage(
        self, owed: tuple[Owed, ...], size: int | None, now: Instant
    ) -> tuple[Owed | None, tuple[Reason, ...]]:
        """Close what is over; returns the intent to serve next, and why others were closed."""
        result = triage(owed, size=size, ttl_s=self._policy.intent_ttl_s)
        closed = [
            *(_Closed(owed=intent, reason=Reason.SERVED) for intent in result.served),
            *(_Closed(owed=intent, reason=Reason.EXPIRED) for intent in result.expired),
            *(_Closed(owed=intent, reason=Reason.SUPERSEDED) for intent in result.superseded),
        ]
        if closed:
            await self._scribe.run(lambda journal: _close(journal, closed, size, now))
        return result.head, tuple(item.reason for item in closed)

    async def _change(self, pool: Pool, head: Owed, decision: Decision) -> Pass:
        """Write ahead, ask, write the answer: after a kill in between the pool itself tells."""
        assert decision.wanted is not None
        target = decision.wanted
        victims: tuple[str, ...] = ()
        if target < pool.size:
            victims = await self._oldest(pool, pool.size - target)

        now = self._clock.now()
        attempt = await self._scribe.run(
            lambda journal: _write_ahead(journal, decision, head, victims, now)
        )
        earlier = self.memory.changed_at
        self._remember(now.monotonic_s, now.monotonic_s)
        answer, failure = Answer.ACCEPTED, None
        try:
            if victims:
                await self._pools.evict(victims)
            else:
                await self._pools.scale(target)
        except CloudError as error:
            answer = Answer.UNKNOWN if error.outcome_unknown else Answer.REFUSED
            failure = error
        now = self._clock.now()
        self._remember(now.monotonic_s, earlier if answer is Answer.REFUSED else now.monotonic_s)
        await self._scribe.run(lambda journal: journal.answer(attempt, answer, now=now))
        if failure is not None:
            return await self._give_up(head, pool.size, failure)
        return await self._finish(decision)

    async def _oldest(self, pool: Pool, count: int) -> tuple[str, ...]:
        """Name `count` members; falls back to the order of the list if ages cannot be read."""
        if len(pool.members or ()) <= count:
            return ()
        try:
            ages = {member.id: member.created_at for member in await self._pools.members()}
        except CloudError:
            ages = {}
        listed = [Member(id=id_, created_at=ages.get(id_)) for id_ in pool.members or ()]
        return choose_victims(listed, count)

    def _remember(self, attempted_at: float, changed_at: float | None) -> None:
        self.memory = replace(self.memory, attempted_at=attempted_at, changed_at=changed_at)

    async def _give_up(self, head: Owed | None, size: int | None, error: CloudError) -> Pass:
        """The pool stays as it is and the intent is kept; the next interval tries again."""
        now = self._clock.now()
        decision = Decision(
            size=size,
            wanted=size,
            reason=Reason.CLOUD_ERROR,
            intent=head.intent if head else Intent.NONE,
        )
        text = f"{type(error).__name__}: {error}"
        await self._scribe.run(lambda journal: _record(journal, decision, head, now, text))
        return await self._finish(decision, error=text)

    async def _finish(self, decision: Decision, *, error: str = "") -> Pass:
        now = self._clock.now()
        owed = await self._scribe.run(lambda journal: journal.owed(now))
        waiting = frozenset(intent.intent for intent in owed)
        return Pass(decision=decision, waiting=waiting, error=error)


def _record(
    journal: Journal, decision: Decision, head: Owed | None, now: Instant, detail: str = ""
) -> None:
    text = describe(decision, repeats=head.repeats if head else 0, detail=detail)
    journal.record(decision, text, now=now, intent_id=head.id if head else None)
    if head is not None and decision.reason is Reason.AT_LIMIT:
        journal.close(head.id, decision.reason)


def _close(journal: Journal, closed: Iterable[_Closed], size: int | None, now: Instant) -> None:
    for item in closed:
        journal.close(item.owed.id, item.reason)
        decision = Decision(size=size, wanted=size, reason=item.reason, intent=item.owed.intent)
        text = describe(decision, repeats=item.owed.repeats)
        journal.record(decision, text, now=now, intent_id=item.owed.id)


def _write_ahead(
    journal: Journal, decision: Decision, head: Owed, victims: tuple[str, ...], now: Instant
) -> int:
    assert decision.size is not None
    assert decision.wanted is not None
    _record(journal, decision, head, now, f"evicting {', '.join(victims)}" if victims else "")
    return journal.ask(head, size=decision.size, target=decision.wanted, victims=victims, now=now)

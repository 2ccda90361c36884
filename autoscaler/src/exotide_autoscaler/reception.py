"""A webhook comes in: what follows from it at once, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from exotide_autoscaler.domain import Instant, Policy, Reason, Source
from exotide_autoscaler.inbox import Closed, Receipt, cancelled_by, receive, withdrawable
from exotide_autoscaler.journal import Journal
from exotide_autoscaler.webhook import Message, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a webhook."""

    outcome: Outcome
    closed: tuple[Reason, ...] = ()
    """Why requests ended by it."""


def store(journal: Journal, message: Message, *, now: Instant, policy: Policy) -> Stored:
    """Remember a webhook; its request is on the disk once the transaction is over."""
    closed = _withdraw(journal, message, now)
    outcome, request_id = message.outcome, None
    if outcome is Outcome.ACCEPTED:
        outcome, request_id, cancelled = _accept(journal, message, now, policy)
        closed += cancelled
    elif outcome is Outcome.RESOLVED and closed:
        outcome = Outcome.WITHDRAWN
    journal.note_webhook(
        path=message.intent, outcome=outcome, alert=message.alert, request_id=request_id, now=now
    )
    return Stored(outcome=outcome, closed=tuple(item.reason for item in closed))


def _accept(
    journal: Journal, message: Message, now: Instant, policy: Policy
) -> tuple[Outcome, int | None, list[Closed]]:
    intent = message.intent
    delivered_s = journal.alerts.delivered_s(intent, message.firing, now=now)
    latest = journal.latest_request(intent, now)
    receipt = receive(message.firing, latest, delivered_s=delivered_s, policy=policy)
    if receipt is Receipt.DUPLICATE:
        return Outcome.DUPLICATE, None, []
    cancelled = [
        Closed(request=request, reason=Reason.OUTRANKED)
        for request in cancelled_by(intent, journal.owed(now))
    ]
    journal.close(cancelled, size=None, now=now)
    if receipt is Receipt.NEW or latest is None:
        request_id = journal.add(intent, Source.WEBHOOK, now=now).id
    else:
        request_id = latest.id
        journal.repeat(request_id, now=now)
    if not message.firing:
        journal.make_lasting(request_id)
    for key in message.firing:
        if delivered_s.get(key, policy.delivery_window_s) < policy.delivery_window_s:
            journal.alerts.tie(intent, key, request_id)
        else:
            journal.alerts.note(intent, key, request_id, now=now)
    outcome = Outcome.ACCEPTED if receipt is Receipt.NEW else Outcome.REPEATED
    return outcome, request_id, cancelled


def _withdraw(journal: Journal, message: Message, now: Instant) -> list[Closed]:
    """Take alerts that are over from their requests, and end those that nobody makes now."""
    touched = {journal.alerts.release(message.intent, key) for key in message.resolved}
    closed = [
        Closed(request=request, reason=Reason.WITHDRAWN)
        for request in journal.owed(now)
        if request.id in touched
        and withdrawable(request, alerts_left=journal.alerts.behind(request.id))
    ]
    journal.close(closed, size=None, now=now)
    return closed

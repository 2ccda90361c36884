"""Decisions as one sentence for people. Pure."""

from __future__ import annotations

from typing import Final

from exotide_autoscaler.domain import Decision, Intent, Reason

_SENTENCES: Final = {
    Reason.ALERT: "{call}: the pool goes from {size} to {wanted_instances}.",
    Reason.OUT_OF_LIMITS: (
        "{call}: {size} is outside the limits, the pool goes to {wanted_instances}."
    ),
    Reason.NO_ALERT: "No alert: the pool stays at {instances}.",
    Reason.AT_LIMIT: "{call} is ignored: {instances} is at the {limit} limit or beyond.",
    Reason.INTERVAL: "{call} waits: the last change is less than an interval ago.",
    Reason.COOLDOWN: "{call} waits: the pool rests after its last change.",
    Reason.UNSETTLED: "{call} waits: the pool is still busy with its last change.",
    Reason.SERVED: "{call} is served: the pool shows {instances}.",
    Reason.SUPERSEDED: "{call} is dropped: /up arrived too, and more wins over less.",
    Reason.EXPIRED: "{call} is given up: it could not be served in time.",
    Reason.CLOUD_ERROR: "The cloud failed, the pool stays as it is{and_waits}.",
}


def describe(decision: Decision, *, repeats: int = 0, detail: str = "") -> str:
    """
    One sentence that says what was decided and why.

    Args:
        repeats: How often the webhook behind the intent came again.
        detail: What the cloud said, or who goes, for a decision that needs it.
    """
    call = f"/{decision.intent}" + (f" ({_count(repeats, 'repeat')})" if repeats else "")
    text = _SENTENCES[decision.reason].format(
        call=call,
        size=decision.size,
        instances=_count(decision.size, "instance"),
        wanted_instances=_count(decision.wanted, "instance"),
        limit="upper" if decision.intent is Intent.UP else "lower",
        and_waits="" if decision.intent is Intent.NONE else f", {call} waits",
    )
    return f"{text[:-1]}: {detail.rstrip('.')}." if detail else text


def _count(number: int | None, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

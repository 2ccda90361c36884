"""Decisions as one sentence for people. Pure."""

from __future__ import annotations

from typing import Final

from exotide_autoscaler.domain import Decision, Intent, Reason, Source

_SENTENCES: Final = {
    Reason.ALERT: "{call}: the pool goes from {size} to {wanted_instances}.",
    Reason.OUT_OF_LIMITS: (
        "{call}: {size} is outside the limits, the pool goes to {wanted_instances}."
    ),
    Reason.NO_ALERT: "No alert: the pool stays at {instances}.",
    Reason.INTERVAL: "{call} waits: the last change is less than an interval ago.",
    Reason.COOLDOWN: "{call} waits: the pool rests after its last change.",
    Reason.BACK_OFF: "{call} waits: the cloud refused the last calls, the next one comes later.",
    Reason.SETTLING: "{call} waits: the pool is still busy with its last change.",
    Reason.CLOUD_ERROR: "The cloud failed, the pool stays as it is{and_waits}.",
    Reason.MEMBER_REFUSED: "{call} waits: the chosen member cannot go, the next one is asked for.",
    Reason.AGES_UNKNOWN: "{call} waits: the members' ages could not be read, they are read again.",
    Reason.AT_LIMIT: "{call} is ignored: {instances} is at the {limit} limit or beyond.",
    Reason.SERVED: "{call} is served: the pool shows {instances}.",
    Reason.UNSETTLED: (
        "{call} is closed: the pool was asked for {instances} and did not settle in time."
    ),
    Reason.WITHDRAWN: "{call} is withdrawn: its alert is over, nothing was done.",
    Reason.OUTRANKED: "{call} is dropped: a word that counts more came.",
    Reason.EXPIRED: "{call} is given up: it could not be served in time.",
}


def describe(
    decision: Decision, *, repeats: int = 0, detail: str = "", source: Source = Source.WEBHOOK
) -> str:
    """
    One sentence that says what was decided and why.

    Args:
        repeats: How often the webhook behind the request came again.
        detail: What the cloud said, or who goes, for a decision that needs it.
        source: Who asked.
    """
    call = f"/{decision.intent}" if source is Source.WEBHOOK else "The limits"
    call += f" ({_count(repeats, 'repeat')})" if repeats else ""
    text = _SENTENCES[decision.reason].format(
        call=call,
        size="a size that was not read" if decision.size is None else decision.size,
        instances=_count(decision.size, "instance"),
        wanted_instances=_count(decision.wanted, "instance"),
        limit="upper" if decision.intent is Intent.UP else "lower",
        and_waits="" if decision.intent is Intent.NONE else f", {call} waits",
    )
    return f"{text[:-1]}: {detail.rstrip('.')}." if detail else text


def _count(number: int | None, noun: str) -> str:
    if number is None:
        return f"an unknown number of {noun}s"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

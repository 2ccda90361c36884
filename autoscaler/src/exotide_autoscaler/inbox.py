"""
What becomes of requests: which webhook is a new one, which leaves, which comes next. Pure.

The rules are told, with a picture, in docs/concepts/requests.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from exotide_autoscaler.domain import Intent, Phase, Policy, Pool, Reason, Request, Source

# --- a webhook comes in -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertKey:
    """One alert from its beginning to its end; both empty: its sender names neither."""

    fingerprint: str = ""
    starts_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The latest request of an intent that a webhook made, open or closed."""

    id: int
    phase: Phase
    closed: Reason | None
    asked_s: float | None
    """Seconds since the cloud was last asked for it; None: never, or in another boot."""


class Receipt(Enum):
    """What a firing webhook is."""

    NEW = "new"
    REPEAT = "repeat"
    DUPLICATE = "duplicate"


def receive(
    firing: Collection[AlertKey],
    latest: Latest | None,
    *,
    delivered_s: Mapping[AlertKey, float],
    policy: Policy,
) -> Receipt:
    """
    Tell a new wish from a repeat of the latest one, and both from another copy of one delivery.

    Args:
        firing: The alerts that ask; empty if the webhook names none.
        delivered_s: Seconds since the first delivery of each alert that came before.
    """
    named = [key for key in firing if key.fingerprint]
    if (
        named
        and len(named) == len(firing)
        and all(
            delivered_s.get(key, policy.delivery_window_s) < policy.delivery_window_s
            for key in named
        )
    ):
        return Receipt.DUPLICATE
    if latest is None:
        return Receipt.NEW
    if latest.closed is None and latest.phase is not Phase.ACCEPTED:
        return Receipt.REPEAT
    kept = latest.closed in {None, Reason.SERVED, Reason.UNSETTLED}
    just_asked = latest.asked_s is not None and latest.asked_s < policy.repeat_window_s
    return Receipt.REPEAT if kept and just_asked else Receipt.NEW


def cancelled_by(intent: Intent, requests: Iterable[Request]) -> tuple[Request, ...]:
    """The requests that a word of this intent ends at once: `up` ends each `down` before it."""
    if intent is not Intent.UP:
        return ()
    return tuple(each for each in requests if each.intent is Intent.DOWN and _is_pending(each))


def withdrawable(request: Request, *, alerts_left: int) -> bool:
    """Whether the end of its last alert ends a request: nobody else asks, and nothing is done."""
    from_alerts = request.source is Source.WEBHOOK and not request.lasting
    return from_alerts and _is_pending(request) and not alerts_left


def _is_pending(request: Request) -> bool:
    """Whether the cloud has nothing under way for it."""
    return request.phase in {Phase.WAITING, Phase.FALLEN}


# --- a pass begins ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A request that is over, and why."""

    request: Request
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """The inbox, sorted."""

    closed: tuple[Closed, ...] = ()
    open: tuple[Request, ...] = ()
    """What remains, in the phase that it has now; the next to be served in front."""

    @property
    def head(self) -> Request | None:
        """The request to serve next; None: nobody asks for anything."""
        return self.open[0] if self.open else None


_ORDER: Final = {Phase.ACCEPTED: 0, Phase.ASKED: 0, Phase.FALLEN: 1, Phase.WAITING: 2}


def triage(
    requests: Sequence[Request], *, pool: Pool | None, stuck: bool, policy: Policy
) -> Triage:
    """
    Sort the inbox, given the pool as just read.

    Args:
        pool: None when it could not be read: then only requests on whose behalf nothing was asked
            can expire, since the others may be served without our knowing.
        stuck: Whether the pool had the time to settle and did not.
    """
    closed: list[Closed] = []
    rest: list[Request] = []
    for request in requests:
        shown = pool is not None and request.shown_by(pool)
        now = _as_it_is(request, pool, shown=shown, stuck=stuck)
        reason = _why_over(now, pool, shown=shown, stuck=stuck, policy=policy)
        if reason is None:
            rest.append(now)
        else:
            closed.append(Closed(request=now, reason=reason))
    outranked = _outranked(rest, policy)
    closed += [Closed(request=each, reason=Reason.OUTRANKED) for each in outranked]
    rest = [each for each in rest if each not in outranked]
    rest.sort(key=lambda each: (_ORDER[each.phase], each.intent is not Intent.UP, each.id))
    return Triage(closed=tuple(closed), open=tuple(rest))


def _why_over(
    request: Request, pool: Pool | None, *, shown: bool, stuck: bool, policy: Policy
) -> Reason | None:
    """Why a request is over, given the pool; None: it is not."""
    late = Reason.EXPIRED if request.age_s > policy.request_ttl_s else None
    if pool is None:
        return late if request.target is None else None
    if not _still_due(request, pool, policy):
        return Reason.SERVED if shown else Reason.OUTRANKED
    if request.target is None:
        return late
    if shown:
        over = Reason.UNSETTLED if stuck else None
        return Reason.SERVED if pool.settled else over
    if not pool.settled and not stuck:
        return None
    overtaken = request.phase is Phase.FALLEN and request.overtaken_in(pool)
    return late or (Reason.OUTRANKED if overtaken else None)


def _as_it_is(request: Request, pool: Pool | None, *, shown: bool, stuck: bool) -> Request:
    """The request in the phase that the pool tells."""
    if pool is None or request.target is None:
        return request
    if shown:
        return replace(request, phase=Phase.ACCEPTED)
    if not pool.settled and not stuck:
        return request
    if request.once_accepted or request.phase in {Phase.ACCEPTED, Phase.FALLEN}:
        return replace(request, phase=Phase.FALLEN)
    waiting = replace(request, phase=Phase.WAITING)
    if request.overtaken_in(pool):  # the call had no effect, and others moved the pool since
        return replace(waiting, asked_from=None, target=None, victims=())
    return waiting


def _still_due(request: Request, pool: Pool, policy: Policy) -> bool:
    """Whether the limits that made a request ask for it now: a restart may bring others."""
    if request.source is not Source.LIMITS or not _is_pending(request):
        return True
    if request.intent is Intent.UP:
        return policy.holds_min and pool.size < policy.min_size
    return policy.holds_max and pool.size > policy.max_size


def _outranked(requests: Sequence[Request], policy: Policy) -> tuple[Request, ...]:
    """
    Who loses to a word of the other direction.

    A waiting `up` wins while it holds. Otherwise, if the cloud refused it, if it fell back, or if
    its alert is silent for long, the later word wins.
    """
    pending = [each for each in requests if _is_pending(each)]
    ups = [each for each in pending if each.intent is Intent.UP]
    downs = [each for each in pending if each.intent is Intent.DOWN]
    if not ups or not downs:
        return ()
    if any(
        each.phase is Phase.WAITING and not each.refused and holds(each, policy) for each in ups
    ):
        return tuple(downs)
    latest_up = min(each.age_s for each in ups)
    latest_down = min(each.age_s for each in downs)
    return tuple(ups) if latest_down < latest_up else tuple(downs)


def holds(request: Request, policy: Policy) -> bool:
    """Whether the word of an `up` still counts against a later `down`."""
    if request.lasting:
        return request.age_s <= policy.request_ttl_s
    return request.age_s <= policy.alert_holds_s

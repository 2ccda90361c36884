"""The assignment's own policy: one step per interval, in the direction of the alert."""

from __future__ import annotations

from typing import Final

from exotide_autoscaler.domain import Decision, Intent, Memory, Policy, Pool, Reason, Request

STEP: Final = {Intent.UP: 1, Intent.DOWN: -1, Intent.NONE: 0}
_LONGEST_BACK_OFF: Final = 5.0


def decide(
    pool: Pool, request: Request | None, *, policy: Policy, now: float, memory: Memory
) -> Decision:
    """
    Choose the size that the pool should have.

    What was asked for once is asked for again, and nothing else. A pool outside the limits goes to
    the lower one at once, and down to the upper one step by step: no decision removes more than
    one step. No request ever moves a pool the other way: an `up` for a pool above its limit must
    not take servers away while load is high.

    Args:
        now: Seconds on the clock of `memory`.
    """
    if request is None:
        return Decision(size=pool.size, wanted=pool.size, reason=Reason.NO_ALERT)
    intent = request.intent
    reason = reason_to_hold(pool, policy=policy, now=now, memory=memory)
    if reason is not None:
        return Decision(size=pool.size, wanted=pool.size, reason=reason, intent=intent)
    wanted = _wish(pool, request, policy)
    if (wanted - pool.size) * STEP[intent] <= 0:
        wanted, reason = pool.size, Reason.AT_LIMIT
    elif not policy.min_size <= pool.size <= policy.max_size:
        reason = Reason.OUT_OF_LIMITS
    else:
        reason = Reason.ALERT
    return Decision(size=pool.size, wanted=wanted, reason=reason, intent=intent)


def _wish(pool: Pool, request: Request, policy: Policy) -> int:
    """The size that a request asks for; its own direction's limit bounds it."""
    if request.intent is Intent.DOWN:
        wish = pool.size - 1 if request.target is None else request.target
        return max(wish, policy.min_size)
    wish = max(pool.size + 1, policy.min_size) if request.target is None else request.target
    return min(wish, policy.max_size)


def hold_limits(
    pool: Pool, *, policy: Policy, now: float, memory: Memory, up_holds: bool
) -> Decision | None:
    """
    What limits that somebody has set ask for without any request; None: nothing.

    Args:
        up_holds: Whether an `up` still counts; while it does, nothing shrinks.
    """
    if policy.holds_min and pool.size < policy.min_size:
        intent, wanted = Intent.UP, policy.min_size
    elif policy.holds_max and pool.size > policy.max_size and not up_holds:
        intent, wanted = Intent.DOWN, pool.size - 1
    else:
        return None
    reason = reason_to_hold(pool, policy=policy, now=now, memory=memory)
    if reason is Reason.COOLDOWN and intent is Intent.UP:
        reason = None
    if reason is not None:
        return Decision(size=pool.size, wanted=pool.size, reason=reason, intent=intent)
    return Decision(size=pool.size, wanted=wanted, reason=Reason.OUT_OF_LIMITS, intent=intent)


def settle_age_s(*, now: float, memory: Memory) -> float | None:
    """Seconds for which an unsettled pool has had the time to settle; None: it is settled."""
    if memory.unsettled_at is None:
        return None
    return now - max(memory.unsettled_at, memory.changed_at or memory.unsettled_at)


def is_stuck(*, policy: Policy, now: float, memory: Memory) -> bool:
    """Whether the pool had the time to settle and did not: it is judged by the size asked for."""
    age_s = settle_age_s(now=now, memory=memory)
    return age_s is not None and age_s > policy.settle_s


def reason_to_hold(pool: Pool, *, policy: Policy, now: float, memory: Memory) -> Reason | None:
    """Why nothing may be asked of the cloud now; None: it may."""
    stuck = is_stuck(policy=policy, now=now, memory=memory)
    if not pool.settled and not stuck:
        return Reason.SETTLING
    attempted_s = None if memory.attempted_at is None else now - memory.attempted_at
    if attempted_s is not None and attempted_s < policy.interval_s:
        return Reason.INTERVAL
    if stuck and attempted_s is not None and attempted_s < back_off_s(policy, memory):
        return Reason.BACK_OFF
    if memory.changed_at is not None and now - memory.changed_at < policy.cooldown_s:
        return Reason.COOLDOWN
    return None


def back_off_s(policy: Policy, memory: Memory) -> float:
    """Time between calls to a stuck pool that refuses them: doubled, up to five intervals."""
    return policy.interval_s * min(_LONGEST_BACK_OFF, 2.0 ** min(memory.refusals, 10) / 2)

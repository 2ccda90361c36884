"""The assignment's own policy: one step per interval, in the direction of the alert."""

from __future__ import annotations

from typing import Final

from exotide_autoscaler.domain import Decision, Intent, Policy, Pool, Reason

STEP: Final = {Intent.UP: 1, Intent.DOWN: -1, Intent.NONE: 0}


def decide(
    pool: Pool,
    intent: Intent,
    *,
    policy: Policy,
    now: float,
    attempted_at: float | None,
    changed_at: float | None,
) -> Decision:
    """
    Choose the size that the pool should have.

    A pool outside the limits (somebody resized it by hand) is left alone until an intent points
    back to them; then it goes to the nearest limit. No intent ever moves a pool the other way: an
    `up` for a pool above its limit must not take servers away while load is high.

    Args:
        now: Seconds on any clock that never goes back.
        attempted_at: When the cloud was last asked for another size, on the same clock.
            None: never.
        changed_at: The same, without requests that the cloud surely refused.
    """
    reason = _reason_to_hold(
        pool,
        intent,
        policy=policy,
        attempted_ago=None if attempted_at is None else now - attempted_at,
        changed_ago=None if changed_at is None else now - changed_at,
    )
    if reason is not None:
        return Decision(size=pool.size, wanted=pool.size, reason=reason, intent=intent)
    wanted = policy.clamp(pool.size + STEP[intent])
    if (wanted - pool.size) * STEP[intent] <= 0:
        wanted, reason = pool.size, Reason.AT_LIMIT
    elif policy.clamp(pool.size) != pool.size:
        reason = Reason.OUT_OF_LIMITS
    else:
        reason = Reason.ALERT
    return Decision(size=pool.size, wanted=wanted, reason=reason, intent=intent)


def _reason_to_hold(
    pool: Pool,
    intent: Intent,
    *,
    policy: Policy,
    attempted_ago: float | None,
    changed_ago: float | None,
) -> Reason | None:
    if intent is Intent.NONE:
        return Reason.NO_ALERT
    if not pool.settled:
        return Reason.UNSETTLED
    if attempted_ago is not None and attempted_ago < policy.interval_s:
        return Reason.INTERVAL
    if changed_ago is not None and changed_ago < policy.cooldown_s:
        return Reason.COOLDOWN
    return None

"""When passes happen: at once after a quiet interval, else when the interval is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from exotide_autoscaler.domain import Intent, Memory, Policy, Reason
from exotide_autoscaler.errors import JournalError
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.ports import Clock
from exotide_autoscaler.reconcile import Pass, Reconciler

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """How long to rest after a pass; seconds from now."""

    longest_s: float
    """After this time there is a pass in any case."""
    shortest_s: float
    """Before this time no webhook causes one."""


def rest_after(
    done: Pass | None, *, now: float, policy: Policy, memory: Memory, failed_reads: int = 0
) -> Rest:
    """
    Choose the time of the next pass. Pure.

    Args:
        done: The pass that just ended; None: it failed without a decision.
        now: Seconds on the monotonic clock, as in `memory`.
        failed_reads: How often in a row, this pass included, the pool could not be read.
    """
    if done is None:
        return Rest(longest_s=policy.interval_s, shortest_s=policy.interval_s)
    if done.decision.reason is Reason.CLOUD_ERROR:
        pause_s = _pause_s(done, policy, failed_reads)
        return Rest(longest_s=pause_s, shortest_s=pause_s)
    free_s = 0.0
    if memory.attempted_at is not None:
        free_s = min(policy.interval_s, max(0.0, memory.attempted_at + policy.interval_s - now))
    breath_s = min(0.25, policy.interval_s / 10)
    longest_s = policy.interval_s
    if done.waiting:
        longest_s = policy.settle_poll_s
        if done.decision.reason is Reason.INTERVAL:
            longest_s = free_s
        elif done.decision.reason is Reason.COOLDOWN and memory.changed_at is not None:
            longest_s = max(0.0, memory.changed_at + policy.cooldown_s - now)
    if free_s:
        longest_s = min(longest_s, free_s)
    longest_s = max(longest_s, min(0.05, breath_s))
    return Rest(
        longest_s=min(longest_s, policy.interval_s),
        shortest_s=min(longest_s, max(free_s, breath_s)),
    )


def _pause_s(done: Pass, policy: Policy, failed_reads: int) -> float:
    """A read costs nothing and is repeated soon, with growing pauses; a change is not."""
    if done.pool is not None:
        return policy.interval_s
    return policy.interval_s / 60 * min(60.0, 2.0 ** min(max(failed_reads - 1, 0), 10))


class Loop:
    """Runs passes until cancelled; webhooks may wake it."""

    def __init__(
        self, reconciler: Reconciler, clock: Clock, policy: Policy, metrics: Metrics
    ) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._failed_reads = 0
        self._intent_arrived = asyncio.Event()
        self.latest: Pass | None = None
        """The latest pass that came to a decision."""

    def wake(self) -> None:
        """An intent was stored: look at it as soon as the interval allows."""
        self._intent_arrived.set()

    async def run(self) -> None:
        """Run passes for ever; no failure ends it."""
        while True:
            self._intent_arrived.clear()
            done = await self._pass()
            await self._rest(done)

    async def _pass(self) -> Pass | None:
        try:
            done = await self._reconciler.run_pass()
        except JournalError as error:
            _log.error("pass_failed", error=str(error))
            return None
        except Exception:  # noqa: BLE001 - a bug may cost a pass and never the loop
            _log.exception("pass_crashed")
            return None
        self.latest = done
        self._failed_reads = 0 if done.pool is not None else self._failed_reads + 1
        self._metrics.show_pass(done, wall_s=self._clock.now().wall_s)
        _log_pass(done)
        return done

    async def _rest(self, done: Pass | None) -> None:
        rest = rest_after(
            done,
            now=self._clock.now().monotonic_s,
            policy=self._policy,
            memory=self._reconciler.memory,
            failed_reads=self._failed_reads,
        )
        await asyncio.sleep(rest.shortest_s)
        try:
            async with asyncio.timeout(rest.longest_s - rest.shortest_s):
                await self._intent_arrived.wait()
        except TimeoutError:
            return


def _log_pass(done: Pass) -> None:
    decision = done.decision
    facts = {
        "size": decision.size,
        "wanted": decision.wanted,
        "reason": decision.reason,
        "intent": decision.intent,
        "closed": done.closed,
    }
    if done.error:
        _log.warning("pass_finished", **facts, error=done.error)
    elif decision.intent is Intent.NONE and not done.closed:
        _log.debug("pass_finished", **facts)
    else:
        _log.info("pass_finished", **facts)

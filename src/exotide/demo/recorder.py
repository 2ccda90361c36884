"""Puts what the watches saw together, second by second, into the samples of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from exotide.demo.plan import Stage
from exotide.demo.watches import to_mark
from exotide.loadtest.results import Second
from exotide.loadtest.sample import DecisionMark, Sample
from exotide.stack.watch import Watch

T = TypeVar("T")

TROUBLE_AFTER_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watches:
    """Everything that is looked at."""

    size: Watch[int]
    healthy: Watch[int]
    cpu: Watch[float | None]
    decisions: Watch[tuple[dict[str, Any], ...]]

    def all(self) -> tuple[Watch[Any], ...]:
        """Each of them."""
        return (self.size, self.healthy, self.cpu, self.decisions)


class Recorder:
    """Grows by one sample per second. Times are seconds since started_at, a Unix time."""

    def __init__(self, watches: Watches, *, started_at: float) -> None:
        self._watches, self._started_at = watches, started_at
        self.samples: list[Sample] = []

    def record(self, stage: Stage, news: Sequence[Second], *, now_s: float) -> None:
        """Add what is known now; news are the generator's reports since the last record."""
        last = news[-1] if news else None
        self.samples.append(
            Sample(
                t_s=round(now_s, 2),
                phase=stage.phase,
                wanted=self._watches.size.latest(),
                serving=self._watches.healthy.latest(),
                cpu_ratio=self._watches.cpu.latest(),
                offered_rps=last.rate_rps if last else None,
                arrivals=_total(news, lambda s: s.arrivals),
                completed=_total(news, lambda s: s.completed),
                failed=_total(news, lambda s: s.failed),
                in_flight=last.in_flight if last else None,
                p50_s=_worst(news, lambda s: s.p50_s),
                p95_s=_worst(news, lambda s: s.p95_s),
            )
        )

    def decisions(self) -> list[DecisionMark]:
        """Those of this run, oldest first; what was once seen is never forgotten."""
        known = self._watches.decisions.latest(max_age_s=float("inf")) or ()
        marks = (to_mark(item, started_at=self._started_at) for item in known)
        return [mark for mark in marks if mark.t_s >= 0]

    def troubles(self) -> list[str]:
        """Which watch has seen nothing for a while, and why."""
        found = (watch.trouble(after_s=TROUBLE_AFTER_S) for watch in self._watches.all())
        return [trouble for trouble in found if trouble is not None]


def _total(news: Sequence[Second], count: Callable[[Second], int]) -> int | None:
    return sum(map(count, news)) if news else None


def _worst(news: Sequence[Second], value: Callable[[Second], float | None]) -> float | None:
    return max((v for v in map(value, news) if v is not None), default=None)

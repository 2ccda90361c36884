"""Prometheus metrics in a registry of their own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from exotide_autoscaler.domain import Intent, Reason
from exotide_autoscaler.errors import CloudError
from exotide_autoscaler.reconcile import Pass
from exotide_autoscaler.webhook import Outcome

_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one running program; sizes are NaN until the pool was read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.webhooks = Counter(
            "exotide_autoscaler_webhooks",
            "Webhooks received, by what they asked for and what became of them.",
            ["intent", "outcome"],
            registry=self.registry,
        )
        self._decisions = Counter(
            "exotide_autoscaler_decisions",
            "Decisions, by reason; passes that repeat the latest decision count too.",
            ["reason"],
            registry=self.registry,
        )
        self._size = self._gauge("pool_size", "Instances that the pool is asked to have.")
        self._wanted = self._gauge("wanted_size", "Instances that the latest decision wants.")
        self._members = self._gauge("members", "Instances that the pool lists.")
        self._unsettled = self._gauge(
            "unsettled_since_timestamp_seconds",
            "Since when the pool is not running with as many members as asked for; 0: it is.",
        )
        self._waiting = Gauge(
            "exotide_autoscaler_intent_waiting",
            "1 while an acknowledged request of this intent is open.",
            ["intent"],
            registry=self.registry,
        )
        self._success = self._gauge(
            "last_success_timestamp_seconds", "When the pool was last read with success."
        )
        self._seconds = Histogram(
            "exotide_autoscaler_api_call_seconds",
            "Time that calls to the cloud took, failed ones included.",
            ["call"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._errors = Counter(
            "exotide_autoscaler_api_errors",
            "Calls to the cloud that failed, by kind of error.",
            ["call", "error"],
            registry=self.registry,
        )
        self.show_waiting(frozenset())
        # Series that are there from the start: an increase over time misses a first value.
        for reason in Reason:
            self._decisions.labels(reason)
        for intent, outcome in product((Intent.UP, Intent.DOWN), Outcome):
            self.webhooks.labels(intent, outcome)

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(f"exotide_autoscaler_{name}", text, registry=self.registry)
        gauge.set(float("nan"))
        return gauge

    def show_pass(self, done: Pass, *, wall_s: float) -> None:
        """Count what a pass decided, and show its sizes and what waits."""
        self.count_closed((*done.closed, done.decision.reason))
        self.show_waiting(done.waiting)
        if done.pool is None:
            return
        self._size.set(done.pool.size)
        if done.decision.wanted is not None:
            self._wanted.set(done.decision.wanted)
        members = done.pool.members
        self._members.set(float("nan") if members is None else len(members))
        self._unsettled.set(0.0 if done.unsettled_s is None else wall_s - done.unsettled_s)
        self._success.set(wall_s)

    def count_closed(self, reasons: Iterable[Reason]) -> None:
        """Count why requests were closed, or why a size was chosen."""
        for reason in reasons:
            self._decisions.labels(reason).inc()

    def show_waiting(self, intents: frozenset[Intent]) -> None:
        """Show which intents wait."""
        for intent in (Intent.UP, Intent.DOWN):
            self._waiting.labels(intent).set(intent in intents)

    @contextlib.contextmanager
    def api_call(self, name: str) -> Iterator[None]:
        """Measure a call to the cloud."""
        began = time.perf_counter()
        try:
            yield
        except CloudError as error:
            self._errors.labels(name, type(error).__name__).inc()
            raise
        finally:
            self._seconds.labels(name).observe(time.perf_counter() - began)

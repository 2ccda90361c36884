"""Looking at the run from outside, once per second: what does not answer is a gap, not a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import httpx2

from exotide.loadtest.sample import DecisionMark
from exotide.stack.api import Api
from exotide.stack.errors import StackError
from exotide.stack.model import Stack

T = TypeVar("T")

PERIOD_S: Final = 1.0
TIMEOUT_S: Final = 2.0
STALE_S: Final = 4.0
CPU_QUERY: Final = "exotide:pool_cpu:avg_ratio"
HEALTHY: Final = "success"

# What an observation may end with: no answer, another answer than expected, a refusal.
FAULTS: Final = (httpx2.HTTPError, StackError, ValueError, LookupError, TypeError, OSError)


class Watch(Generic[T]):
    """Looks again and again on a thread of its own, so that a slow answer delays nobody."""

    def __init__(self, name: str, look: Callable[[], T], *, period_s: float = PERIOD_S) -> None:
        self.name = name
        self._look, self._period_s = look, period_s
        self._seen: tuple[float, T] | None = None
        self._started_s = time.monotonic()
        self._fault = "no answer yet"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def latest(self, *, max_age_s: float = STALE_S) -> T | None:
        """The last thing seen, or None if that is too long ago."""
        seen = self._seen
        return seen[1] if seen is not None and time.monotonic() - seen[0] <= max_age_s else None

    def trouble(self, *, after_s: float) -> str | None:
        """What went wrong, if nothing was seen for so long."""
        seen_s = self._started_s if self._seen is None else self._seen[0]
        silent_s = time.monotonic() - seen_s
        return f"{self.name}: {self._fault}, for {silent_s:.0f} s" if silent_s > after_s else None

    def stop(self) -> None:
        """Look no more; returns when the last look is over."""
        self._stop.set()
        self._thread.join(timeout=2 * TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._seen = (time.monotonic(), self._look())
            except FAULTS as error:
                self._fault = f"{type(error).__name__}: {error}"
            self._stop.wait(self._period_s)


def pool_size(api: Api, stack: Stack) -> Callable[[], int]:
    """How many members the pool is asked to have."""
    return lambda: int(api.call("get_instance_pool", id=stack.pool_id)["size"])


def healthy_backends(api: Api, stack: Stack) -> Callable[[], int]:
    """How many members the load balancer sends traffic to."""

    def look() -> int:
        services = api.call("get_load_balancer", id=stack.nlb_id)["services"]
        states = [state for item in services for state in item.get("healthcheck-status", [])]
        return sum(state.get("status") == HEALTHY for state in states)

    return look


def average_cpu(client: httpx2.Client, stack: Stack) -> Callable[[], float | None]:
    """The alerts' own series; None while Prometheus has no member with data."""

    def look() -> float | None:
        answer = _json(client, f"{stack.prometheus_url}/api/v1/query", query=CPU_QUERY)
        result = answer["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    return look


class Decisions:
    """Everything that the autoscaler decided, as far as it was asked; a call asks for news."""

    def __init__(self, client: httpx2.Client, stack: Stack) -> None:
        self._client, self._url = client, f"{stack.autoscaler_url}/decisions"
        self._after = 0
        self._known: tuple[dict[str, Any], ...] = ()

    def __call__(self) -> tuple[dict[str, Any], ...]:
        """All decisions so far, oldest first."""
        answer = _json(self._client, self._url, after=self._after, limit=100)
        news = answer["decisions"]
        if news:
            self._after = max(int(item["id"]) for item in news)
            self._known += tuple(news)
        return self._known


def to_mark(item: dict[str, Any], *, started_at: float) -> DecisionMark:
    """One decision of the read API, on the run's clock."""
    return DecisionMark(
        t_s=round(float(item["at"]) - started_at, 2),
        size=item["size"],
        wanted=item["wanted"],
        reason=str(item["reason"]),
        intent=str(item["intent"]),
        text=str(item["text"]),
    )


def _json(client: httpx2.Client, url: str, **query: str | int) -> Any:
    response = client.get(url, params=query, timeout=TIMEOUT_S)
    response.raise_for_status()
    return response.json()

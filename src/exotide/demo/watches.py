"""Looking at the run from outside, once per second: what does not answer is a gap, not a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httpx2

from exotide.loadtest.sample import DecisionMark
from exotide.stack.api import Api
from exotide.stack.model import Stack
from exotide.stack.watch import TIMEOUT_S

CPU_QUERY: Final = "exotide:pool_cpu:avg_ratio"
HEALTHY: Final = "success"


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

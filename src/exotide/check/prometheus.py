"""Prometheus' answers as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import WebFault
from .ports import Web


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A server's HTTP API. Every method raises WebFault."""

    web: Web
    url: str

    def by_instance(self, expression: str) -> dict[str, float]:
        """Evaluate; gives the value by the label `instance`, the lowest where several share it."""
        values: dict[str, float] = {}
        for instance, value in self._vector(expression):
            values[instance] = min(value, values.get(instance, value))
        return values

    def values(self, expression: str) -> list[float]:
        """Evaluate; gives the value of each line."""
        return [value for _, value in self._vector(expression)]

    def alertmanagers(self) -> int:
        """How many Alertmanagers it sends its alerts to."""
        with understood(self.url):
            return len(self._data("alertmanagers", {})["activeAlertmanagers"])

    def _vector(self, expression: str) -> list[tuple[str, float]]:
        with understood(self.url):
            lines = self._data("query", {"query": expression})["result"]
            return [(line["metric"].get("instance", ""), float(line["value"][1])) for line in lines]

    def _data(self, path: str, query: dict[str, str]) -> Any:
        page = self.web.get(f"{self.url}/api/v1/{path}", query=query)
        if page.status != 200:
            raise WebFault(f"Prometheus on {self.url} answers {page.status} to {path}")
        return page.json()["data"]


@contextmanager
def understood(url: str) -> Iterator[None]:
    """Turn an answer of another shape than expected into WebFault."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WebFault(f"{url} answers, but not as expected: {error!r}") from error

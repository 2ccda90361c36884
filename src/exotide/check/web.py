"""Adapters of the ports Web and Load: real requests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx2

from .errors import WebFault
from .ports import Page

REQUEST_S: Final = 120.0
"""How long a request of the load may take: with ten loops on one member, 100 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWeb:
    """Asks without a proxy, as a user of the service would."""

    client: httpx2.Client

    def get(
        self,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> Page:
        try:
            answer = self.client.get(url, params=query, auth=login, timeout=timeout_s)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise WebFault(
                f"{url} does not answer: {str(error) or type(error).__name__}"
            ) from error
        return Page(url=url, status=answer.status_code, text=answer.text)


def open_client() -> httpx2.Client:
    """Make a client that opens a connection for each request, so that a balancer spreads them."""
    return httpx2.Client(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))


class HttpLoad:
    """Starts loops."""

    def start(self, url: str, *, loops: int) -> HttpLoops:
        return HttpLoops(url, loops=loops)


@dataclass(slots=True)
class HttpLoops:
    """Closed loops of GET, each on a thread of its own."""

    url: str
    loops: int = field(kw_only=True)
    _stop: threading.Event = field(default_factory=threading.Event)
    _counts: list[Counter[str]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for _ in range(self.loops):
            count: Counter[str] = Counter()
            thread = threading.Thread(target=self._run, args=(count,), name="load", daemon=True)
            self._counts.append(count)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> Mapping[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join(REQUEST_S + 5)
        return sum(self._counts, Counter())

    def abandon(self) -> None:
        self._stop.set()

    def _run(self, count: Counter[str]) -> None:
        with open_client() as client:
            while not self._stop.is_set():
                try:
                    answer = str(client.get(self.url, timeout=REQUEST_S).status_code)
                except httpx2.HTTPError as error:
                    answer = type(error).__name__
                    self._stop.wait(0.5)  # what refuses at once shall not be hammered
                count[answer] += 1

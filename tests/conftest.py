"""
Every answer that any test gets from our cloud is judged by the official OpenAPI document.

Clouds in this process tell of each answer, whoever asked; of clouds in other processes we see what
the SDK is told in this one. A fault fails the test during which it happened. Tests that make the
API misbehave carry the marker `misbehaving`: then only what comes before the fault is judged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import hypothesis
import pytest
import requests

from exotide.cloud.testing import WATCHERS
from exotide.cloud.watching import Exchange

from .conformance.answers import faults
from .contract.site import MOST_SERVERS, euro_per_hour

CREDENTIALS: Final = ("EXOSCALE_API_KEY", "EXOSCALE_API_SECRET")
USUAL: Final[dict[signal.Signals, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
SCRIPTED: Final = {"autoscaler", "servicediscovery", "stack"}
"""Folders whose tests tell the SDK wrong answers on purpose; their clouds are in this process."""


# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("exotide", deadline=None)
hypothesis.settings.load_profile("exotide")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=12,
        help="requests that schemathesis makes for each operation with a body",
    )
    parser.addoption(
        "--exoscale",
        action="store_true",
        help="ask the real Exoscale, too (tests/contract); costs money, needs a key",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts the tests in a background lets them ignore Ctrl-C and the end of a terminal,
    # and the programs that they start would inherit that.
    for number, usual in USUAL.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    missing = [name for name in CREDENTIALS if not os.environ.get(name)]
    if config.getoption("--exoscale") and missing:
        raise pytest.UsageError(
            f"--exoscale needs a key of the real Exoscale; set {' and '.join(missing)}"
        )


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not config.getoption("--exoscale"):
        return []
    servers = f"exoscale: at most {MOST_SERVERS} micro servers and a load balancer at a time, "
    return [f"{servers}{euro_per_hour():.3f} EUR per hour without VAT; all is removed at the end"]


class Ledger:
    """The faults that were found and not yet reported; threads of clouds write into it."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def judge(self, exchange: Exchange) -> None:
        self._found += faults(exchange)

    def take(self) -> list[str]:
        found, self._found = self._found, []
        return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    WATCHERS.append(ledger.judge)
    yield ledger
    WATCHERS.remove(ledger.judge)


@pytest.fixture(autouse=True)
def _every_answer_conforms(
    ledger: Ledger, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    scripted = request.path.parent.name in SCRIPTED
    if not scripted and request.node.get_closest_marker("misbehaving") is None:
        _watch_the_sdk(ledger, monkeypatch)
    yield
    if found := ledger.take():
        pytest.fail("answers against the official document:\n" + "\n".join(found), pytrace=False)


def _watch_the_sdk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    send = requests.Session.send

    def watch(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        answer = send(session, request, **options)
        if str(request.headers.get("Authorization", "")).startswith("EXO2-HMAC-SHA256"):
            ledger.judge(_exchange(request, answer))
        return answer

    monkeypatch.setattr(requests.Session, "send", watch)


def _exchange(request: requests.PreparedRequest, answer: requests.Response) -> Exchange:
    return Exchange(
        method=str(request.method),
        path=unquote(urlsplit(str(request.url)).path),
        status=answer.status_code,
        content_type=answer.headers.get("content-type", ""),
        body=answer.content,
    )

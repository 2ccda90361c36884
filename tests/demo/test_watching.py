from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from exotide.demo.plan import Stage
from exotide.demo.recorder import Recorder, Watches
from exotide.demo.watches import Decisions, average_cpu
from exotide.loadtest.results import Second
from exotide.loadtest.sample import Phase
from exotide.stack.model import Stack
from exotide.stack.watch import Watch

STACK = Stack(
    name="exotide",
    zone="at-vie-1",
    members_group_id="g1",
    monitoring_group_id="g2",
    pool_id="p",
    pool_name="exotide",
    nlb_id="n",
    nlb_ip="192.0.2.1",
    service_id="s",
    monitoring_id="m",
    monitoring_ip="192.0.2.2",
)


def client(answer: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(answer))


def settled(watch: Watch[Any], condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 5
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.005)


@pytest.fixture
def watches() -> Iterator[Watches]:
    def fails() -> int:
        raise ValueError("nonsense")

    made = Watches(
        size=Watch("size", lambda: 3, period_s=0.01),
        healthy=Watch("healthy", fails, period_s=0.01),
        cpu=Watch("cpu", lambda: 0.5, period_s=0.01),
        decisions=Watch(
            "decisions", lambda: (decision(1, 90.0), decision(2, 105.0)), period_s=0.01
        ),
    )
    settled(made.size, lambda: made.decisions.latest() is not None)
    yield made
    for watch in made.all():
        watch.stop()


def decision(number: int, at: float) -> dict[str, Any]:
    return {
        "id": number,
        "at": at,
        "size": 1,
        "wanted": 2,
        "reason": "alert",
        "intent": "up",
        "text": "one more",
    }


def test_what_does_not_answer_is_a_gap_and_the_others_are_seen(watches: Watches) -> None:
    recorder = Recorder(watches, started_at=100.0)
    recorder.record(Stage(), [], now_s=1.0)
    sample = recorder.samples[0]
    assert (sample.wanted, sample.serving, sample.cpu_ratio) == (3, None, 0.5)
    assert (sample.offered_rps, sample.completed, sample.p95_s) == (None, None, None)


def test_the_fault_of_a_silent_watch_is_told_after_a_while(watches: Watches) -> None:
    settled(watches.healthy, lambda: "nonsense" in str(watches.healthy.trouble(after_s=0.0)))
    assert "healthy: ValueError: nonsense" in str(watches.healthy.trouble(after_s=0.0))
    assert watches.size.trouble(after_s=1.0) is None


def test_decisions_from_before_the_run_are_left_out(watches: Watches) -> None:
    marks = Recorder(watches, started_at=100.0).decisions()
    assert [(mark.t_s, mark.step) for mark in marks] == [(5.0, 1)]


def test_two_reports_of_the_generator_in_one_second_are_added_up(watches: Watches) -> None:
    recorder = Recorder(watches, started_at=100.0)
    news = [
        Second(
            at=1, rate_rps=2, arrivals=3, completed=2, failed=1, in_flight=5, p50_s=0.1, p95_s=0.9
        ),
        Second(
            at=2, rate_rps=3, arrivals=4, completed=0, failed=0, in_flight=9, p50_s=None, p95_s=None
        ),
    ]
    recorder.record(Stage(phase=Phase.PEAK), news, now_s=2.0)
    sample = recorder.samples[0]
    assert (sample.arrivals, sample.completed, sample.failed, sample.in_flight) == (7, 2, 1, 9)
    assert (sample.offered_rps, sample.p95_s) == (3, 0.9)


def test_a_look_that_hangs_does_not_hold_up_whoever_asks() -> None:
    watch = Watch("slow", lambda: threading.Event().wait(0.5), period_s=0.0)
    started_s = time.monotonic()
    assert watch.latest() is None
    assert time.monotonic() - started_s < 0.3
    watch.stop()


def test_no_series_means_no_value_and_not_zero() -> None:
    empty = {"status": "success", "data": {"resultType": "vector", "result": []}}
    with client(lambda _: httpx2.Response(200, json=empty)) as http:
        assert average_cpu(http, STACK)() is None


def test_the_average_is_read_from_the_alerts_own_series() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        result = [{"metric": {}, "value": [1, "0.42"]}]
        return httpx2.Response(200, json={"data": {"result": result}})

    with client(answer) as http:
        assert average_cpu(http, STACK)() == 0.42
    assert asked == ["http://192.0.2.2:9090/api/v1/query?query=exotide%3Apool_cpu%3Aavg_ratio"]


def test_only_decisions_that_are_new_are_asked_for() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        after = int(request.url.params["after"])
        asked.append(str(after))
        return httpx2.Response(200, json={"decisions": [decision(after + 1, 1.0)]})

    with client(answer) as http:
        look = Decisions(http, STACK)
        look()
        known = look()
    assert asked == ["0", "1"]
    assert [item["id"] for item in known] == [1, 2]

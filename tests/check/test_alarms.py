"""Grafana's alerting in the contract's terms: limits, pending times, receivers, repeats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exotide.check.alarms import Alarm, graphs, read_alarms, wrong_calls, wrong_rules

UP = Alarm(
    title="high",
    above=True,
    limit_percent=80,
    pending_s=60,
    url="http://127.0.0.1:8090/up",
    tells_end=False,
    repeat_s=300,
)
DOWN = replace(UP, title="low", above=False, limit_percent=20, url="http://127.0.0.1:8090/down")


def rule(kind: str, limit: float, **labels: str) -> dict[str, Any]:
    condition = {"evaluator": {"type": kind, "params": [limit]}}
    query = {"model": {"expr": "cpu"}}
    return {
        "title": kind,
        "for": "1m",
        "labels": labels,
        "data": [query, {"model": {"type": "threshold", "conditions": [condition]}}],
    }


def point(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "settings": {"url": url}, "disableResolveMessage": True}


def test_a_rule_follows_its_labels_to_what_it_calls_and_inherits_what_routes_leave_open() -> None:
    policies = {
        "receiver": "nobody",
        "group_interval": "1m",
        "routes": [
            {"receiver": "wrong", "object_matchers": [["autoscale", "=~", "up"]]},
            {
                "receiver": "up",
                "object_matchers": [["autoscale", "=", "up"]],
                "repeat_interval": "4m50s",
            },
        ],
    }
    points = [point("up", "http://a/up"), point("wrong", "http://a/wrong")]
    high, low = read_alarms([rule("gt", 0.8, autoscale="up"), rule("lt", 20)], policies, points)
    assert (high.limit_percent, high.url, high.repeat_s) == (80, "http://a/up", 300)
    assert (low.above, low.limit_percent, low.url, low.tells_end) == (False, 20, "", True)
    assert low.repeat_s == 4 * 3600 + 60


def test_the_contract_s_two_rules_are_right() -> None:
    assert wrong_rules([UP, DOWN], speed=1) == []
    assert wrong_calls([UP, DOWN], speed=1) == []


def test_a_rule_never_waits_less_than_the_window_that_it_looks_at() -> None:
    fast = [replace(each, pending_s=5, repeat_s=15) for each in (UP, DOWN)]
    assert wrong_rules(fast, speed=20) == []
    assert wrong_rules([replace(each, pending_s=3) for each in fast], speed=20) == [
        "high waits 3 s, not 5 s",
        "low waits 3 s, not 5 s",
    ]


def test_faster_rules_are_right_at_their_speed_and_at_no_other() -> None:
    fast = [replace(each, pending_s=10, repeat_s=50) for each in (UP, DOWN)]
    assert wrong_rules(fast, speed=6) == []
    assert wrong_calls(fast, speed=6) == []
    assert wrong_rules(fast, speed=1)[0] == "high waits 10 s, not 60 s"
    assert wrong_calls(fast, speed=1)[0] == "high is repeated after 50 s, not 300 s"


@pytest.mark.parametrize(
    ("alarms", "wrong"),
    [
        pytest.param([], ["0 rules fire above 80 %", "0 rules fire below 20 %"], id="none"),
        pytest.param([UP, UP, DOWN], ["2 rules fire above 80 %"], id="twice"),
        pytest.param(
            [replace(UP, limit_percent=90), DOWN], ["0 rules fire above 80 %"], id="limit"
        ),
    ],
)
def test_rules_that_are_not_the_contract_s_are_told(alarms: list[Alarm], wrong: list[str]) -> None:
    assert wrong_rules(alarms, speed=1) == wrong


@pytest.mark.parametrize(
    ("alarm", "wrong"),
    [
        pytest.param(replace(UP, url=DOWN.url), f"high calls {DOWN.url}, not /up", id="other"),
        pytest.param(replace(DOWN, url=""), "low calls nobody, not /down", id="nobody"),
        pytest.param(replace(UP, tells_end=True), "high also calls when it resolves", id="end"),
        pytest.param(
            replace(UP, repeat_s=600), "high is repeated after 600 s, not 300 s", id="repeat"
        ),
    ],
)
def test_calls_that_are_not_the_contract_s_are_told(alarm: Alarm, wrong: str) -> None:
    assert wrong_calls([alarm], speed=1) == [wrong]


def test_graphs_are_found_inside_rows_and_other_panels_are_passed_over() -> None:
    graph = {"type": "timeseries", "title": "CPU", "targets": [{"expr": "cpu"}]}
    board = {
        "panels": [
            graph,
            {"type": "row", "panels": [{**graph, "type": "graph", "title": "old"}]},
            {"type": "stat", "title": "no", "targets": [{"expr": "cpu"}]},
            {"type": "timeseries", "title": "empty"},
        ]
    }
    assert list(graphs(board)) == [("CPU", "cpu"), ("old", "cpu")]

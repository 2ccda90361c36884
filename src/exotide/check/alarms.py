"""
What Grafana's HTTP API says about its alerting, in the contract's terms. Pure.

A rule compares with a limit, waits, and is routed by its labels to a receiver, which calls a URL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exotide.stack.alerting import WINDOW_FLOOR_S
from exotide.stack.durations import parse_s

UP_PERCENT: Final = 80.0
DOWN_PERCENT: Final = 20.0
PENDING_S: Final = 60.0
REPEAT_S: Final = 300.0
_DEFAULT_INTERVAL: Final = "5m"
_DEFAULT_REPEAT: Final = "4h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alert rule with all that follows when it fires."""

    title: str
    above: bool
    """Whether it fires above its limit, else below."""
    limit_percent: float
    pending_s: float
    url: str
    """What it calls; empty: nothing by HTTP."""
    tells_end: bool
    """Whether it also calls when it resolves."""
    repeat_s: float
    """Time between two calls while it fires."""

    def __str__(self) -> str:
        side = "above" if self.above else "below"
        return f"{self.title}: {side} {self.limit_percent:g} % for {self.pending_s:g} s"


def read_alarms(rules: Sequence[Any], policies: Any, points: Sequence[Any]) -> list[Alarm]:
    """
    Bring the three answers together; rules without a threshold are left out.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: they are not what they should be.
    """
    receivers = {point["name"]: point for point in points}
    found = []
    for rule in rules:
        for kind, limit in _thresholds(rule):
            route = _route(policies, rule.get("labels") or {})
            point = receivers.get(route["receiver"], {})
            found.append(
                Alarm(
                    title=rule["title"],
                    above=kind == "gt",
                    # A rule may speak of a share instead of percent.
                    limit_percent=limit if limit > 1 else 100 * limit,
                    pending_s=parse_s(str(rule.get("for") or "0s")),
                    url=str(point.get("settings", {}).get("url", "")),
                    tells_end=not point.get("disableResolveMessage", False),
                    repeat_s=_repeat_s(route),
                )
            )
    return found


def wrong_rules(alarms: Sequence[Alarm], *, speed: float) -> list[str]:
    """Tell what is not as the contract has it: the limits and the time until they fire."""
    wrong, pending_s = [], max(PENDING_S / speed, WINDOW_FLOOR_S)
    for above, limit in ((True, UP_PERCENT), (False, DOWN_PERCENT)):
        side = f"{'above' if above else 'below'} {limit:g} %"
        fitting = [each for each in alarms if (each.above, each.limit_percent) == (above, limit)]
        if len(fitting) != 1:
            wrong.append(f"{len(fitting)} rules fire {side}")
        wrong += [
            f"{each.title} waits {each.pending_s:g} s, not {pending_s:g} s"
            for each in fitting
            if not math.isclose(each.pending_s, pending_s, abs_tol=1)
        ]
    return wrong


def wrong_calls(alarms: Sequence[Alarm], *, speed: float) -> list[str]:
    """Tell what is not as the contract has it: whom they call, and when again."""
    wrong = []
    for alarm in alarms:
        path = "/up" if alarm.above else "/down"
        if not alarm.url.rstrip("/").endswith(path):
            wrong.append(f"{alarm.title} calls {alarm.url or 'nobody'}, not {path}")
        if alarm.tells_end:
            wrong.append(f"{alarm.title} also calls when it resolves")
        if not math.isclose(alarm.repeat_s, REPEAT_S / speed, rel_tol=0.05):
            wrong.append(
                f"{alarm.title} is repeated after {alarm.repeat_s:g} s, not {REPEAT_S / speed:g} s"
            )
    return wrong


def graphs(dashboard: Any) -> Iterator[tuple[str, str]]:
    """Give title and first query of each graph of a dashboard, also inside its rows."""
    for panel in dashboard.get("panels", ()):
        yield from graphs(panel)
        if panel.get("type") in {"timeseries", "graph"} and panel.get("targets"):
            yield str(panel.get("title", "")), str(panel["targets"][0].get("expr", ""))


def _thresholds(rule: Any) -> Iterator[tuple[str, float]]:
    for part in rule["data"]:
        for condition in part["model"].get("conditions", ()):
            evaluator = condition["evaluator"]
            if evaluator["type"] in {"gt", "lt"}:
                yield evaluator["type"], float(evaluator["params"][0])


def _route(policy: Any, labels: Mapping[str, str]) -> Any:
    """Follow the labels down; what a route leaves open is its parent's."""
    for child in policy.get("routes") or ():
        if _matches(child, labels):
            return _route({**policy, "routes": (), **child}, labels)
    return policy


def _matches(route: Any, labels: Mapping[str, str]) -> bool:
    matchers = route.get("object_matchers") or ()
    return all(kind == "=" and labels.get(name) == value for name, kind, value in matchers)


def _repeat_s(route: Any) -> float:
    """Grafana looks at ticks of group_interval, and wants more than repeat_interval to be over."""
    tick_s = parse_s(route.get("group_interval") or _DEFAULT_INTERVAL)
    return (parse_s(route.get("repeat_interval") or _DEFAULT_REPEAT) // tick_s + 1) * tick_s

"""What silent members count for: promtool with the committed rules against a model of the rule."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RULES: Final = Path(__file__).parents[2] / "monitoring/prometheus/rules/pool-cpu.yml"
STEP_S: Final = 5
STEPS: Final = 60
WINDOW: Final = 60 // STEP_S
PATIENCE: Final = 30 // STEP_S
PENDING: Final = 60 // STEP_S
Average = Callable[[int], float | None]


@dataclass(frozen=True)
class Member:
    """What Prometheus sees of a member at each scrape, and how busy it is all the while."""

    name: str
    states: tuple[str, ...]
    """"away", "silent" or "answering"."""
    busy_ratio: float

    def state(self, step: int) -> str:
        return self.states[step] if 0 <= step < len(self.states) else "away"

    def known(self, step: int) -> bool:
        """Whether it answers, and has answered before within the window: a rate needs two."""
        before = range(step - WINDOW, step)
        return self.state(step) == "answering" and any(
            self.state(each) == "answering" for each in before
        )

    def counts_for_growing(self, step: int) -> float | None:
        return self.busy_ratio if self.known(step) else None

    def counts_for_shrinking(self, step: int) -> float | None:
        if self.state(step) == "away":
            return None
        if any(self.known(each) for each in range(step - PATIENCE, step + 1)):
            return self.busy_ratio
        return 1.0 if self.state(step - PATIENCE) != "away" else None

    def series(self) -> list[dict[str, str]]:
        labels = f'job="members",instance="{self.name}:9100",instance_id="{self.name}"'
        up: list[str] = [
            {"away": "", "silent": "0", "answering": "1"}[each] for each in self.states
        ]
        return [
            {"series": f"up{{{labels}}}", "values": written(up)},
            *(
                {
                    "series": f'node_cpu_seconds_total{{{labels},mode="{mode}"}}',
                    "values": written(
                        f"{share * STEP_S * step}" if each == "answering" else ""
                        for step, each in enumerate(self.states)
                    ),
                }
                for mode, share in (("user", self.busy_ratio), ("idle", 1 - self.busy_ratio))
            ),
        ]


def written(samples: Any) -> str:
    """Write a series as promtool reads it; where samples end, Prometheus says so once."""
    words, last = [], ""
    for sample in samples:
        words.append(sample or ("stale" if last else "_"))
        last = sample
    return " ".join(words)


def average(shares: Sequence[float | None]) -> float | None:
    counted = [share for share in shares if share is not None]
    return math.floor(fmean(counted) * 1e6 + 0.5) / 1e6 if counted else None


def firing(name: str, value: float | None, held: int) -> list[dict[str, Any]]:
    if value is None or held <= PENDING:
        return []
    intent, side = {"CPU high": ("up", "above 80"), "CPU low": ("down", "below 20")}[name]
    text = f"The pool's average CPU is {100 * value:.4g}%, {side} %"
    return [{"exp_labels": {"autoscale": intent}, "exp_annotations": {"summary": text}}]


def expected(members: Sequence[Member]) -> dict[str, Any]:
    """Give what promtool shall find at every step."""
    rules: dict[str, tuple[str, Average, Callable[[float], bool]]] = {
        "CPU high": (
            "exotide:pool_cpu:avg_ratio",
            lambda step: average([each.counts_for_growing(step) for each in members]),
            lambda value: value > 0.8,
        ),
        "CPU low": (
            "exotide:pool_cpu:avg_silent_busy_ratio",
            lambda step: average([each.counts_for_shrinking(step) for each in members]),
            lambda value: value < 0.2,
        ),
    }
    queries, alerts = [], []
    for alert, (series, judged, met) in rules.items():
        values = [judged(step) for step in range(STEPS)]
        meets = [value is not None and met(value) for value in values]
        held = accumulate(meets, lambda count, now: (count + 1) * now, initial=0)
        next(held)
        for step, (value, steps) in enumerate(zip(values, held, strict=True)):
            at = f"{step * STEP_S}s"
            samples = [] if value is None else [{"labels": series, "value": value}]
            queries.append({"expr": series, "eval_time": at, "exp_samples": samples})
            found = firing(alert, value, steps)
            alerts.append({"alertname": alert, "eval_time": at, "exp_alerts": found})
    return {"promql_expr_test": queries, "alert_rule_test": alerts}


def judged_by_promtool(members: Sequence[Member], folder: Path) -> str:
    """Give what promtool has to object."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": [each for member in members for each in member.series()],
                **expected(members),
            }
        ],
    }
    path = folder / "generated.test.yml"
    path.write_text(json.dumps(document))  # JSON is YAML
    command = ("promtool", "test", "rules", str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


phases = st.lists(
    st.tuples(
        st.sampled_from(("away", "silent", "answering", "answering")),
        st.sampled_from((1, 2, 3, 5, 6, 7, 8, 13, 20)),
    ),
    min_size=1,
    max_size=8,
).map(lambda found: [state for state, steps in found for state in repeat(state, steps)])


@st.composite
def pools(draw: st.DrawFn) -> list[Member]:
    """Draw up to four members that come, go, fall silent and answer again."""
    return [
        Member(
            name=f"m{number}",
            states=tuple((draw(phases) + ["answering"] * STEPS)[:STEPS]),
            busy_ratio=draw(st.sampled_from((0, 1, 2, 3, 4, 10, 16, 17, 20))) / 20,
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(members=pools())
def test_a_silent_member_keeps_its_last_value_for_half_a_minute_and_is_busy_after_that(
    members: list[Member], tmp_path: Path
) -> None:
    assert judged_by_promtool(members, tmp_path) == ""


def test_the_model_is_judged_at_all(tmp_path: Path) -> None:
    idle = Member(name="a", states=("answering",) * STEPS, busy_ratio=0.1)

    class Wrong(Member):
        def counts_for_shrinking(self, step: int) -> float | None:
            return self.counts_for_growing(step)

    gone = ("answering",) * 20 + ("silent",) * 40
    assert judged_by_promtool([idle, Member(name="b", states=gone, busy_ratio=0.1)], tmp_path) == ""
    objection = judged_by_promtool([idle, Wrong(name="b", states=gone, busy_ratio=0.1)], tmp_path)
    assert "exotide:pool_cpu:avg_silent_busy_ratio" in objection

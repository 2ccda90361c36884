from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.loadtest.sample import Phase, Sample
from exotide.loadtest.verdict import Goals, judge, load_goals_met

GOALS = Goals(hold_s=5.0)


def seconds(start: int, count: int, phase: Phase, **seen: Any) -> list[Sample]:
    values: dict[str, Any] = {"wanted": 1, "serving": 1, "cpu_ratio": 0.1, "p95_s": 0.2} | seen
    return [Sample(t_s=float(start + i), phase=phase, **values) for i in range(count)]


def story(**peak: Any) -> list[Sample]:
    good: dict[str, Any] = {"wanted": 3, "serving": 3, "cpu_ratio": 0.7, "p95_s": 0.5} | peak
    return [
        *seconds(0, 5, Phase.CALM),
        *seconds(5, 10, Phase.RAMP, cpu_ratio=1.0, p95_s=5.0),
        *seconds(15, 10, Phase.PEAK, **good),
        *seconds(25, 5, Phase.QUIET),
    ]


def test_a_run_that_grew_recovered_and_came_back_passes() -> None:
    verdict = judge(story(), GOALS)
    assert verdict.passed
    assert [check.met_at_s for check in verdict.checks] == [15.0, 20.0, 20.0, 25.0]


@pytest.mark.parametrize(
    ("peak", "unmet"),
    [
        pytest.param({"serving": 2}, [0, 1, 2], id="only-two-members"),
        pytest.param({"wanted": 3, "serving": 1}, [0, 1, 2], id="wanted-but-never-serving"),
        pytest.param({"cpu_ratio": 0.8}, [1], id="cpu-at-the-threshold"),
        pytest.param({"cpu_ratio": None}, [1], id="cpu-not-seen"),
        pytest.param({"p95_s": 2.1}, [2], id="still-slow"),
        pytest.param({"p95_s": None}, [2], id="no-answers"),
    ],
)
def test_what_is_missing_is_named(peak: dict[str, Any], unmet: list[int]) -> None:
    checks = judge(story(**peak), GOALS).checks
    assert [index for index, check in enumerate(checks) if not check.met] == unmet


def test_a_recovery_after_the_load_has_gone_does_not_count() -> None:
    late = [
        *seconds(0, 5, Phase.CALM),
        *seconds(5, 10, Phase.PEAK, wanted=3, serving=3, cpu_ratio=1.0, p95_s=9.0),
        *seconds(15, 10, Phase.QUIET, wanted=3, serving=3),
        *seconds(25, 5, Phase.QUIET),
    ]
    assert [check.met for check in judge(late, GOALS).checks] == [True, False, False, True]


def test_a_low_cpu_before_the_pool_has_grown_does_not_count() -> None:
    early = seconds(0, 20, Phase.PEAK, cpu_ratio=0.1)
    assert not any(check.met for check in judge(early, GOALS).checks)


def test_one_lucky_second_proves_nothing() -> None:
    samples = story(cpu_ratio=1.0)
    samples[20] = Sample(t_s=20.0, phase=Phase.PEAK, wanted=3, serving=3, cpu_ratio=0.0, p95_s=0.1)
    assert not judge(samples, GOALS).checks[1].met


def test_one_hot_second_starts_the_waiting_anew() -> None:
    samples = story()
    hot = Sample(t_s=17.0, phase=Phase.PEAK, wanted=3, serving=3, cpu_ratio=0.9, p95_s=0.5)
    samples[17] = hot
    assert judge(samples, GOALS).checks[1].met_at_s == 23.0


def test_a_pool_that_stays_at_two_has_not_come_back() -> None:
    samples = [s for s in story() if s.phase is not Phase.QUIET]
    samples += seconds(25, 5, Phase.QUIET, wanted=2, serving=2)
    assert not judge(samples, GOALS).checks[3].met


def test_nothing_seen_is_nothing_proved() -> None:
    assert not judge([], GOALS).passed
    assert not load_goals_met([], GOALS)


optional = st.none() | st.floats(0, 20)
samples_of_a_run: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        phase=st.sampled_from(Phase),
        wanted=st.none() | st.integers(1, 5),
        serving=st.none() | st.integers(0, 5),
        cpu_ratio=optional,
        p95_s=optional,
    ),
    max_size=60,
)


@given(samples_of_a_run, st.floats(0.1, 30))
def test_a_condition_once_met_stays_met_however_the_run_goes_on(
    seen: list[dict[str, Any]], hold_s: float
) -> None:
    goals = Goals(hold_s=hold_s)
    samples = [Sample(t_s=float(i), **values) for i, values in enumerate(seen)]
    before = judge(samples[: len(samples) // 2], goals)
    after = judge(samples, goals)
    for early, late in zip(before.checks, after.checks, strict=True):
        assert early.met_at_s is None or early.met_at_s == late.met_at_s

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.demo.plan import Plan, Stage, advance, outlook, plan_for, rate_rps
from exotide.loadtest.sample import Phase, Sample

PLAN = Plan()


def seen(start: int, end: int, phase: Phase, *, size: int, cpu: float, p95: float) -> list[Sample]:
    return [
        Sample(t_s=float(t), phase=phase, wanted=size, serving=size, cpu_ratio=cpu, p95_s=p95)
        for t in range(start, end)
    ]


def test_the_load_rises_after_the_calm_and_stays_after_the_ramp() -> None:
    stage = advance(Stage(), [], PLAN, now_s=PLAN.calm_s)
    assert stage == Stage(phase=Phase.RAMP, since_s=PLAN.calm_s)
    stage = advance(stage, [], PLAN, now_s=PLAN.calm_s + PLAN.ramp_s)
    assert stage.phase is Phase.PEAK


def test_the_peak_lasts_until_the_pool_has_helped() -> None:
    peak = Stage(phase=Phase.PEAK, since_s=60.0)
    slow = seen(60, 80, Phase.PEAK, size=2, cpu=1.0, p95=9.0)
    assert advance(peak, slow, PLAN, now_s=80.0) == peak
    helped = slow + seen(80, 100, Phase.PEAK, size=3, cpu=0.7, p95=0.5)
    assert advance(peak, helped, PLAN, now_s=100.0).phase is Phase.QUIET


def test_no_phase_outlives_its_limit() -> None:
    peak = Stage(phase=Phase.PEAK, since_s=60.0)
    quiet = advance(peak, [], PLAN, now_s=60.0 + PLAN.peak_limit_s)
    assert quiet.phase is Phase.QUIET
    assert not advance(quiet, [], PLAN, now_s=quiet.since_s + 1).ended
    assert advance(quiet, [], PLAN, now_s=quiet.since_s + PLAN.quiet_limit_s).ended


def test_the_run_ends_soon_after_the_pool_is_back_at_one() -> None:
    quiet = Stage(phase=Phase.QUIET, since_s=100.0)
    samples = seen(100, 150, Phase.QUIET, size=2, cpu=0.1, p95=0.1)
    samples += seen(150, 160, Phase.QUIET, size=1, cpu=0.1, p95=0.1)
    assert not advance(quiet, samples, PLAN, now_s=151.0).ended
    assert advance(quiet, samples, PLAN, now_s=150.0 + PLAN.settle_s).ended


def test_the_peak_needs_three_members_and_no_more() -> None:
    assert 2 * 0.8 < PLAN.peak_load < 3 * 0.8


def test_life_size_has_the_assignments_own_interval() -> None:
    assert plan_for(1.0).interval_s == 60.0
    assert plan_for(6.0) == PLAN
    assert plan_for(1.0).ramp_s == PLAN.ramp_s * 6


@given(st.sampled_from(Phase), st.floats(0, 1000), st.floats(1, 12))
def test_the_rate_is_always_between_calm_and_peak(phase: Phase, now_s: float, speed: float) -> None:
    plan = plan_for(speed)
    rate = rate_rps(Stage(phase=phase), plan, now_s=now_s)
    low, high = plan.calm_load * plan.member_rps, plan.peak_load * plan.member_rps
    assert low - 1e-9 <= rate <= high + 1e-9


@given(st.floats(0, 2000))
def test_a_run_that_sees_nothing_ends_within_its_limits(step_s: float) -> None:
    stage, now_s = Stage(), 0.0
    for _ in range(10):
        now_s += step_s + 131.0
        stage = advance(stage, [], PLAN, now_s=now_s)
    assert stage.ended


@pytest.mark.parametrize("phase", Phase)
def test_there_is_always_something_to_say_about_what_comes_next(phase: Phase) -> None:
    assert outlook(Stage(phase=phase), [], replace(PLAN), now_s=3.0)

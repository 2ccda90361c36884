"""The rule by which a server without a control group is stopped and goes on; pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.servers.loopback import bucket
from exotide.cloud.servers.loopback.bucket import PERIOD_S

cores = st.floats(0.02, 4.0)
steps = st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0.0, 1.0)), min_size=1, max_size=60)
"""Seconds until the next look, and how much of what the host could give is wanted meanwhile."""

HOST_CORES = 4


@given(cores=cores, steps=steps)
def test_no_more_is_used_than_the_share_one_period_and_what_one_look_came_too_late(
    cores: float, steps: list[tuple[float, float]]
) -> None:
    level, now_s, used_s = bucket.begin(now_s=0.0, cores=cores), 0.0, 0.0
    most_late_s = 0.0
    for pause_s, part in steps:
        now_s += pause_s
        step_s = part * HOST_CORES * pause_s if level.may_run else 0.0
        used_s += step_s
        most_late_s = max(most_late_s, step_s)
        level = bucket.spend(level, used_s=step_s, now_s=now_s, cores=cores)
    assert used_s <= cores * (now_s + PERIOD_S) + bucket.STEP_S + most_late_s + 1e-9


@given(cores=cores, steps=steps)
def test_who_wants_all_gets_the_share_whenever_looks_are_in_time(
    cores: float, steps: list[tuple[float, float]]
) -> None:
    level, now_s, used_s = bucket.begin(now_s=0.0, cores=cores), 0.0, 0.0
    end_s = sum(pause_s for pause_s, _ in steps) + 1.0
    while now_s < end_s:
        pause_s = bucket.look_after_s(level, now_s=now_s, cores=cores, host_cores=HOST_CORES)
        step_s = HOST_CORES * pause_s if level.may_run else 0.0
        now_s, used_s = now_s + pause_s, used_s + step_s
        level = bucket.spend(level, used_s=step_s, now_s=now_s + 1e-6, cores=cores)
    # A look every 10 ms at the most: what is used until then may fill several small shares.
    slack_s = cores * PERIOD_S + HOST_CORES * bucket.SHORTEST_LOOK_S
    assert used_s == pytest.approx(cores * now_s, abs=2 * slack_s + bucket.STEP_S)


@given(cores=cores, idle_s=st.floats(0.0, 1e6))
def test_an_idle_server_saves_up_no_more_than_one_step_of_process_times(
    cores: float, idle_s: float
) -> None:
    level = bucket.begin(now_s=0.0, cores=cores)
    level = bucket.spend(level, used_s=0.0, now_s=idle_s, cores=cores)
    assert level.level_s <= cores * PERIOD_S + bucket.STEP_S
    assert level.may_run


@given(cores=cores, debt_s=st.floats(0.0, 10.0))
def test_a_debt_is_looked_at_when_it_is_paid_and_not_before(cores: float, debt_s: float) -> None:
    level = bucket.begin(now_s=5.0, cores=cores)
    level = bucket.spend(level, used_s=cores * PERIOD_S + debt_s, now_s=5.0, cores=cores)
    assert not level.may_run
    pause_s = bucket.look_after_s(level, now_s=5.0, cores=cores, host_cores=HOST_CORES)
    early_s = 5.0 + pause_s - PERIOD_S / 2
    assert bucket.spend(level, used_s=0.0, now_s=early_s, cores=cores).level_s < 1e-9  # rounding
    in_time_s = 5.0 + pause_s + 1e-6
    assert bucket.spend(level, used_s=0.0, now_s=in_time_s, cores=cores).level_s > -1e-9


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    level = bucket.begin(now_s=5.0, cores=0.2)
    assert bucket.spend(level, used_s=0.0, now_s=1.0, cores=0.2) == level

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exotide.loadtest.arrivals import Arrivals

rates = st.floats(min_value=0, max_value=200, allow_nan=False)


@given(st.integers(), st.lists(rates, max_size=40))
def test_arrivals_lie_in_their_interval_and_in_order(seed: int, steps: list[Any]) -> None:
    arrivals = Arrivals(Random(seed))
    for tick, rate in enumerate(steps):
        times = arrivals.between(float(tick), tick + 1.0, rate_rps=rate)
        assert all(tick <= at < tick + 1 for at in times)
        assert times == sorted(times)


def test_nobody_comes_at_rate_0() -> None:
    assert Arrivals(Random(1)).between(0.0, 1e6, rate_rps=0.0) == []


def test_small_steps_give_the_same_arrivals_as_one_large_step() -> None:
    whole = Arrivals(Random(3)).between(0.0, 100.0, rate_rps=5.0)
    stepwise = Arrivals(Random(3))
    parts = [
        at
        for tick in range(1000)
        for at in stepwise.between(tick / 10, (tick + 1) / 10, rate_rps=5.0)
    ]
    assert len(parts) == len(whole)
    assert all(abs(a - b) < 1e-6 for a, b in zip(parts, whole, strict=True))


def test_the_number_and_the_spread_are_those_of_a_poisson_process() -> None:
    counts = [0] * 4000
    for at in Arrivals(Random(5)).between(0.0, 4000.0, rate_rps=10.0):
        counts[int(at)] += 1
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert 9.8 < mean < 10.2
    assert 9.2 < variance < 10.8

"""Durations as the monitoring files write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.stack.durations import format_s, parse_s, quicken

milliseconds = st.integers(min_value=0, max_value=10**9)


@given(milliseconds)
def test_what_is_written_is_read_back(duration_ms: int) -> None:
    assert parse_s(format_s(duration_ms / 1000)) == pytest.approx(duration_ms / 1000)


@given(milliseconds, st.floats(min_value=1, max_value=1000), st.floats(min_value=0, max_value=60))
def test_a_higher_speed_never_makes_a_duration_longer(
    duration_ms: int, speed: float, floor_s: float
) -> None:
    before_s = duration_ms / 1000
    after_s = parse_s(quicken(format_s(before_s), speed=speed, floor_s=floor_s))
    assert min(floor_s, before_s) - 0.001 <= after_s <= before_s + 0.001


@pytest.mark.parametrize(
    ("text", "duration_s"), [("4m50s", 290), ("1h", 3600), ("0s", 0), ("48s333ms", 48.333)]
)
def test_durations_are_read_as_prometheus_reads_them(text: str, duration_s: float) -> None:
    assert parse_s(text) == pytest.approx(duration_s)


@pytest.mark.parametrize("text", ["", "5", "1.5s", "s", "-1s", "1m 5s"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_s(text)

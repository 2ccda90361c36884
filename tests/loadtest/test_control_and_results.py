from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.loadtest.control import Control, read_control, write_control
from exotide.loadtest.errors import ControlFileInvalid
from exotide.loadtest.results import Tail, Tally, quantile, to_line


def test_a_control_is_read_as_it_was_written_and_leaves_no_other_file(tmp_path: Path) -> None:
    control = Control(rate_rps=3.5, path="/work?cpu_s=0.1")
    write_control(tmp_path / "control.json", control)
    assert read_control(tmp_path / "control.json") == control
    assert [file.name for file in tmp_path.iterdir()] == ["control.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rate_rps": -1, "path": "/"}', '{"rate_rps": "x"}']
)
def test_another_content_is_refused_with_what_was_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "control.json").write_text(text)
    with pytest.raises(ControlFileInvalid, match=r"control\.json"):
        read_control(tmp_path / "control.json")


def test_a_tally_counts_what_is_in_flight_across_seconds() -> None:
    tally = Tally()
    tally.started()
    tally.started()
    tally.finished(latency_s=0.2, good=True)
    first = tally.cut(at=1.0, rate_rps=2.0)
    assert (first.arrivals, first.completed, first.failed, first.in_flight) == (2, 1, 0, 1)
    tally.finished(latency_s=9.0, good=False)
    second = tally.cut(at=2.0, rate_rps=2.0)
    assert (second.arrivals, second.completed, second.failed, second.in_flight) == (0, 0, 1, 0)
    assert second.p95_s is None


def test_a_line_that_is_only_half_written_waits_for_its_end(tmp_path: Path) -> None:
    file, tail = tmp_path / "results.jsonl", Tail(tmp_path / "results.jsonl")
    assert tail.read() == []
    line = to_line(Tally().cut(at=1.0, rate_rps=0.5))
    file.write_text(line + line[:10])
    assert [second.at for second in tail.read()] == [1.0]
    assert tail.read() == []
    file.write_text(line + line)
    assert [second.rate_rps for second in tail.read()] == [0.5]


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_of_the_sample(values: list[float], q: float) -> None:
    found = quantile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9

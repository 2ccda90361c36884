"""The synthesised /proc: never backwards, never a jump, exact in sum."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.servers import procfs
from exotide.cloud.servers.procfs import MOST_OWED_S, Counters, ProcfsFolder

CORES = st.sampled_from([0.02, 0.125, 0.25, 0.75, 2.0])
GAPS = st.floats(min_value=0.0, max_value=30.0, allow_nan=False)
RATIOS = st.floats(min_value=0.0, max_value=1.5, allow_nan=False)


@dataclass(frozen=True)
class Step:
    passed_s: float
    busy_ratio: float
    cores: float
    """The limit in force during this step."""
    anew: bool
    """The control group's counter began at zero again."""


STEPS = st.lists(st.builds(Step, GAPS, RATIOS, CORES, st.booleans()), max_size=40)


def follow(steps: list[Step]) -> list[Counters]:
    now_s, usage_s = 100.0, 7.0
    seen = [procfs.begin(usage_s=usage_s, now_s=now_s)]
    for step in steps:
        used_s = step.passed_s * step.busy_ratio * step.cores
        now_s += step.passed_s
        usage_s = used_s if step.anew else usage_s + used_s
        seen.append(procfs.advance(seen[-1], usage_s=usage_s, now_s=now_s, cores=step.cores))
    return seen


@given(STEPS)
def test_no_counter_ever_goes_back(steps: list[Step]) -> None:
    for before, after in itertools.pairwise(follow(steps)):
        assert after.busy_s >= before.busy_s
        assert after.idle_s >= before.idle_s


@given(STEPS)
def test_busy_and_idle_add_up_to_the_time_that_passed(steps: list[Step]) -> None:
    for before, after in itertools.pairwise(follow(steps)):
        passed = after.at_s - before.at_s
        shown = (after.busy_s - before.busy_s) + (after.idle_s - before.idle_s)
        assert shown == pytest.approx(passed, abs=1e-9)


@given(STEPS, st.integers(min_value=1, max_value=8))
def test_no_published_number_ever_goes_back(steps: list[Step], vcpus: int) -> None:
    published = [
        [int(word) for line in text.splitlines()[: vcpus + 1] for word in line.split()[1:]]
        for text in (
            procfs.render_stat(counters, vcpus=vcpus, boot_time_s=0, processes=3)
            for counters in follow(steps)
        )
    ]
    for before, after in itertools.pairwise(published):
        assert all(new >= old for old, new in zip(before, after, strict=True))


@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0.05, max_value=5.0),
            st.floats(min_value=0.0, max_value=1.0),
            CORES,
        ),
        min_size=1,
        max_size=40,
    )
)
def test_the_busy_ratio_is_exact_whatever_the_limit_was(
    steps: list[tuple[float, float, float]],
) -> None:
    plain = [Step(passed, ratio, cores, anew=False) for passed, ratio, cores in steps]
    busy_s = sum(step.passed_s * step.busy_ratio for step in plain)
    assert follow(plain)[-1].busy_s == pytest.approx(busy_s, abs=1e-6)


def test_a_burst_of_the_limiter_is_shown_later_and_not_lost() -> None:
    start = procfs.begin(usage_s=0.0, now_s=0.0)
    burst = procfs.advance(start, usage_s=0.075, now_s=0.2, cores=0.25)
    assert (burst.busy_s, burst.idle_s) == pytest.approx((0.2, 0.0))
    after = procfs.advance(burst, usage_s=0.1, now_s=0.4, cores=0.25)
    assert (after.busy_s, after.idle_s) == pytest.approx((0.4, 0.0))


def test_a_limiter_that_gives_a_little_too_much_leaves_no_tail_after_the_load() -> None:
    counters = procfs.begin(usage_s=0.0, now_s=0.0)
    for second in range(1, 1001):
        counters = procfs.advance(counters, usage_s=second * 0.254, now_s=second, cores=0.25)
    calm = procfs.advance(counters, usage_s=counters.usage_s, now_s=1010, cores=0.25)
    assert calm.busy_s - counters.busy_s <= MOST_OWED_S


def test_a_clock_that_stands_still_shows_no_time() -> None:
    start = procfs.begin(usage_s=0.0, now_s=50.0)
    same = procfs.advance(start, usage_s=1.0, now_s=49.0, cores=1.0)
    assert (same.busy_s, same.idle_s, same.at_s) == (0.0, 0.0, 50.0)


def test_stat_has_a_line_per_vcpu_and_the_boot_time() -> None:
    counters = Counters(busy_s=1.5, idle_s=8.5, owed_s=0, usage_s=0, at_s=10)
    lines = procfs.render_stat(counters, vcpus=2, boot_time_s=99.9, processes=3).splitlines()
    assert lines[:3] == [
        "cpu  300 0 0 1700 0 0 0 0 0 0",
        "cpu0 150 0 0 850 0 0 0 0 0 0",
        "cpu1 150 0 0 850 0 0 0 0 0 0",
    ]
    assert "btime 99" in lines


def test_memory_in_use_is_never_more_than_there_is() -> None:
    text = procfs.render_meminfo(total_bytes=1 << 20, used_bytes=2 << 20)
    assert "MemTotal:           1024 kB" in text
    assert "MemAvailable:          0 kB" in text


def test_files_are_replaced_and_never_rewritten(tmp_path: Path) -> None:
    folder = ProcfsFolder(path=tmp_path / "procfs")
    folder.prepare()
    folder.prepare()
    folder.publish({"stat": "old\n"})
    with (folder.path / "stat").open() as reader:
        folder.publish({"stat": "new\n"})
        assert reader.read() == "old\n"
    assert (folder.path / "stat").read_text() == "new\n"
    assert (folder.path / "net").is_symlink()
    assert not list(folder.path.glob(".*"))

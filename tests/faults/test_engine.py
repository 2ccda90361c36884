"""Who is struck: rules that hold for every fault and every order of requests."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.faults.engine import Armed, Faults
from exotide.cloud.faults.model import (
    Drop,
    Duration,
    Effect,
    Facts,
    Fault,
    Latency,
    Quota,
    RateLimit,
    Selector,
    ServerError,
    Stage,
    Timing,
)

OPERATIONS = ("get-instance-pool", "scale-instance-pool", "list-zones", "")
ZONES = ("at-vie-1", "ch-gva-2")

selectors = st.builds(
    Selector,
    operation=st.sampled_from([None, "*", "*-instance-pool", "scale-*", "list-zones"]),
    zone=st.sampled_from([None, *ZONES]),
    pool=st.sampled_from([None, "web", "other"]),
)
timings = st.builds(
    Timing,
    seed=st.integers(0, 1_000),
    probability=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
    after=st.integers(0, 5),
    count=st.none() | st.integers(1, 5),
    from_s=st.sampled_from([0.0, 3.0]),
    for_s=st.sampled_from([None, 1.0, 10.0]),
)
faults = st.builds(Fault, effect=st.just(RateLimit()), selector=selectors, timing=timings)
requests = st.builds(
    Facts,
    stage=st.just(Stage.REQUEST),
    operation=st.sampled_from(OPERATIONS),
    zone=st.sampled_from(ZONES),
    pools=st.sampled_from([frozenset(), frozenset({"web", "id-1"}), frozenset({"other"})]),
)
histories = st.lists(st.tuples(requests, st.sampled_from([0.0, 0.1, 2.0])), max_size=40)


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def play(fault: Fault, history: list[tuple[Facts, float]]) -> tuple[list[bool], Armed]:
    """Let a fault meet a history; tell what was struck, and what it says of itself then."""
    clock = Clock()
    engine = Faults(clock=clock)
    engine.add(fault)
    struck = []
    for facts, pause_s in history:
        struck.append(engine.first(facts, RateLimit) is not None)
        clock.now_s += pause_s
    return struck, engine.all()[0]


@given(faults, histories)
def test_the_same_seed_and_the_same_requests_give_the_same_faults(
    fault: Fault, history: list[tuple[Facts, float]]
) -> None:
    assert play(fault, history) == play(fault, history)


@given(faults, histories)
def test_only_what_is_meant_and_only_in_its_time_is_struck_and_never_too_often(
    fault: Fault, history: list[tuple[Facts, float]]
) -> None:
    struck, armed = play(fault, history)
    age_s, meant = 0.0, 0
    for (facts, pause_s), hit in zip(history, struck, strict=True):
        if hit:
            assert fault.selector.takes(facts)
            assert fault.timing.is_open(age_s)
            assert meant >= fault.timing.after
        meant += fault.selector.takes(facts) and fault.timing.is_open(age_s)
        age_s += pause_s
    assert sum(struck) == armed.tally.struck <= (fault.timing.count or len(history))
    assert armed.tally.struck <= armed.tally.seen <= meant


@given(faults, histories, faults)
def test_a_second_fault_of_another_kind_does_not_change_whom_the_first_one_strikes(
    fault: Fault, history: list[tuple[Facts, float]], other: Fault
) -> None:
    alone, _ = play(fault, history)
    clock = Clock()
    engine = Faults(clock=clock)
    engine.add(Fault(effect=Drop(), selector=other.selector, timing=other.timing))
    engine.add(fault)
    together = []
    for facts, pause_s in history:
        list(engine.strikes(facts, Drop))
        together.append(engine.first(facts, RateLimit) is not None)
        clock.now_s += pause_s
    assert together == alone


@given(st.integers(0, 1_000), st.integers(0, 10), st.integers(1, 10))
def test_after_m_the_first_n_are_struck_and_no_other(seed: int, after: int, count: int) -> None:
    fault = Fault(effect=RateLimit(), timing=Timing(seed=seed, after=after, count=count))
    history = [(Facts(stage=Stage.REQUEST, operation="list-zones"), 0.0)] * 25
    struck, _ = play(fault, history)
    assert struck == [after <= number < after + count for number in range(25)]


def test_probability_means_what_it_says() -> None:
    fault = Fault(effect=RateLimit(), timing=Timing(seed=7, probability=0.3))
    struck, _ = play(fault, [(Facts(stage=Stage.REQUEST), 0.0)] * 2_000)
    assert 0.27 < sum(struck) / len(struck) < 0.33


def test_the_oldest_fault_that_strikes_wins_and_later_ones_have_not_met_the_request() -> None:
    engine = Faults()
    first = Fault(effect=ServerError(), timing=Timing(seed=1, count=1))
    engine.add(first)
    engine.add(Fault(effect=RateLimit(), timing=Timing(seed=1, count=1)))
    met: list[Effect] = []
    for _ in range(3):
        strike = engine.first(Facts(stage=Stage.REQUEST), ServerError, RateLimit)
        met += [strike.effect] if strike is not None else []
    assert met == [ServerError(), RateLimit()]


def test_a_removed_fault_strikes_no_more() -> None:
    engine = Faults()
    armed = engine.add(Fault(effect=RateLimit(), timing=Timing(seed=1)))
    assert not engine.idle
    assert engine.remove(armed.id)
    assert not engine.remove(armed.id)
    assert engine.idle
    assert engine.first(Facts(stage=Stage.REQUEST), RateLimit) is None


def test_the_youngest_quota_counts_while_its_time_lasts() -> None:
    clock = Clock()
    engine = Faults(clock=clock)
    engine.add(Fault(effect=Quota(limit=5), timing=Timing(seed=1)))
    engine.add(Fault(effect=Quota(limit=3), timing=Timing(seed=1, for_s=10.0)))
    assert engine.limit("instance", 200) == 3
    assert engine.limit("network-load-balancer", 5) == 5
    clock.now_s += 10.0
    assert engine.limit("instance", 200) == 5


@given(st.floats(0, 100), st.floats(0, 100), st.integers())
def test_drawn_seconds_keep_to_their_shape(first: float, more: float, seed: int) -> None:
    chance = random.Random(seed)
    assert Duration(first=first).draw(chance) == first
    spread = Duration(shape="uniform", first=first, second=first + more)
    assert first <= spread.draw(chance) <= first + more
    assert 0 <= Duration(shape="lognormal", first=first, second=1.0).draw(chance) <= 86_400


def test_half_of_lognormal_seconds_are_below_the_median() -> None:
    chance, duration = random.Random(3), Duration(shape="lognormal", first=2.0, second=0.5)
    below = sum(duration.draw(chance) < 2.0 for _ in range(2_000))
    assert below == pytest.approx(1_000, abs=80)


def test_a_latency_differs_from_request_to_request_but_not_from_run_to_run() -> None:
    def delays() -> list[float]:
        engine = Faults()
        duration = Duration(shape="uniform", first=0.0, second=1.0)
        engine.add(Fault(effect=Latency(delay_s=duration), timing=Timing(seed=4)))
        facts = Facts(stage=Stage.REQUEST)
        strikes = [strike for _ in range(5) for strike in engine.strikes(facts, Latency)]
        return [strike.effect.delay_s.draw(strike.chance) for strike in strikes]

    assert delays() == delays()
    assert len(set(delays())) == 5

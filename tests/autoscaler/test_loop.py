from __future__ import annotations

import pytest
from exotide_autoscaler.domain import Decision, Intent, Memory, Policy, Pool, Reason
from exotide_autoscaler.loop import Rest, rest_after
from exotide_autoscaler.reconcile import Pass
from hypothesis import given
from hypothesis import strategies as st

POLICY = Policy(interval_s=60, cooldown_s=300)
WAITING = frozenset({Intent.UP})


POOL = Pool(name="web", size=2, state="running")


def a_pass(reason: Reason, *, waits: bool = False, pool: Pool | None = POOL) -> Pass:
    decision = Decision(size=2, wanted=2, reason=reason)
    return Pass(decision=decision, pool=pool, waiting=WAITING if waits else frozenset())


@pytest.mark.parametrize(
    ("done", "attempted_at", "expected"),
    [
        pytest.param(a_pass(Reason.NO_ALERT), None, (60, 0.25), id="calm"),
        pytest.param(a_pass(Reason.NO_ALERT), 980.0, (40, 40), id="calm-after-a-change"),
        pytest.param(a_pass(Reason.ALERT, waits=True), 1000.0, (10, 10), id="looks-if-it-happened"),
        pytest.param(a_pass(Reason.SETTLING, waits=True), None, (10, 0.25), id="busy"),
        pytest.param(a_pass(Reason.SETTLING, waits=True), 945.0, (5, 5), id="busy-nearly-free"),
        pytest.param(a_pass(Reason.INTERVAL, waits=True), 980.0, (40, 40), id="interval"),
        pytest.param(a_pass(Reason.COOLDOWN, waits=True), 720.0, (20, 0.25), id="cooldown"),
        pytest.param(a_pass(Reason.CLOUD_ERROR, waits=True), None, (60, 60), id="error"),
        pytest.param(None, None, (60, 60), id="no-decision"),
    ],
)
def test_rest_after(
    done: Pass | None, attempted_at: float | None, expected: tuple[float, float]
) -> None:
    memory = Memory(attempted_at=attempted_at, changed_at=attempted_at)
    longest_s, shortest_s = expected
    assert rest_after(done, now=1000, policy=POLICY, memory=memory) == Rest(
        longest_s=longest_s, shortest_s=shortest_s
    )


@given(
    st.sampled_from(Reason),
    st.booleans(),
    st.floats(0, 1000),
    st.none() | st.floats(0, 1000),
    st.floats(0.1, 100),
)
def test_the_loop_never_spins_and_never_sleeps_longer_than_an_interval(
    reason: Reason, waits: bool, now: float, attempted_at: float | None, interval_s: float
) -> None:
    rest = rest_after(
        a_pass(reason, waits=waits),
        now=now,
        policy=Policy(interval_s=interval_s, cooldown_s=5),
        memory=Memory(attempted_at=attempted_at, changed_at=attempted_at),
    )
    assert 0 < rest.shortest_s <= rest.longest_s
    assert rest.longest_s >= 0.01
    in_the_future = attempted_at is not None and attempted_at > now
    assert rest.longest_s <= interval_s or in_the_future


@given(st.integers(1, 5000), st.floats(0.1, 600))
def test_reads_that_fail_are_tried_again_soon_and_then_more_seldom(
    failed_reads: int, interval_s: float
) -> None:
    policy = Policy(interval_s=interval_s)
    pauses = [
        rest_after(
            a_pass(Reason.CLOUD_ERROR, pool=None),
            now=1000,
            policy=policy,
            memory=Memory(attempted_at=999.0),
            failed_reads=count,
        ).longest_s
        for count in (1, failed_reads, failed_reads + 1)
    ]
    assert pauses[0] == pytest.approx(interval_s / 60)
    assert pauses[0] <= pauses[1] <= pauses[2] <= interval_s * 1.0001

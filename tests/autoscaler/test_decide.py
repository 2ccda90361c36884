from __future__ import annotations

import pytest
from exotide_autoscaler.domain import Decision, Intent, Member, Owed, Policy, Pool, Reason
from exotide_autoscaler.inbox import triage
from exotide_autoscaler.policy import choose_victims, decide
from exotide_autoscaler.words import describe
from hypothesis import given
from hypothesis import strategies as st

POLICY = Policy(min_size=1, max_size=4, interval_s=60, cooldown_s=120)
UP, DOWN, NONE = Intent.UP, Intent.DOWN, Intent.NONE

pools = st.builds(
    Pool,
    name=st.just("web"),
    size=st.integers(0, 8),
    state=st.sampled_from(["running", "scaling-up", "scaling-down", "updating", "new-in-2030"]),
    members=st.none() | st.lists(st.uuids().map(str), max_size=8).map(tuple),
)
instants = st.floats(0, 10_000)
owed_intents = st.lists(
    st.builds(
        Owed,
        id=st.integers(1, 99),
        intent=st.sampled_from([UP, DOWN]),
        age_s=st.floats(0, 2000),
        asked_from=st.none() | st.integers(1, 5),
        target=st.none() | st.integers(1, 5),
    ),
    max_size=5,
    unique_by=lambda owed: owed.id,
).map(tuple)


def pool_of(size: int, state: str = "running", members: int | None = None) -> Pool:
    count = size if members is None else members
    return Pool(
        name="web", size=size, state=state, members=tuple(f"m{number}" for number in range(count))
    )


@pytest.mark.parametrize(
    ("pool", "intent", "attempted_at", "changed_at", "wanted", "reason"),
    [
        pytest.param(pool_of(2), UP, None, None, 3, Reason.ALERT, id="up"),
        pytest.param(pool_of(2), DOWN, None, None, 1, Reason.ALERT, id="down"),
        pytest.param(pool_of(2), NONE, None, None, 2, Reason.NO_ALERT, id="calm"),
        pytest.param(pool_of(1), DOWN, None, None, 1, Reason.AT_LIMIT, id="down-at-min"),
        pytest.param(pool_of(4), UP, None, None, 4, Reason.AT_LIMIT, id="up-at-max"),
        pytest.param(pool_of(3), UP, None, None, 4, Reason.ALERT, id="up-to-max-itself"),
        pytest.param(pool_of(2), UP, 940.1, None, 2, Reason.INTERVAL, id="59s-after-an-attempt"),
        pytest.param(pool_of(2), UP, 940.0, None, 3, Reason.ALERT, id="60s-after-an-attempt"),
        pytest.param(pool_of(2), DOWN, 880.1, 880.1, 2, Reason.COOLDOWN, id="119s-after-a-change"),
        pytest.param(pool_of(2), DOWN, 880.0, 880.0, 1, Reason.ALERT, id="120s-after-a-change"),
        pytest.param(pool_of(2, "scaling-up"), UP, None, None, 2, Reason.UNSETTLED, id="busy"),
        pytest.param(pool_of(2, members=1), UP, None, None, 2, Reason.UNSETTLED, id="healing"),
        pytest.param(
            Pool(name="web", size=2, state="running"),
            UP,
            None,
            None,
            3,
            Reason.ALERT,
            id="unlisted",
        ),
        pytest.param(pool_of(7), NONE, None, None, 7, Reason.NO_ALERT, id="resized-by-hand"),
        pytest.param(pool_of(7), DOWN, None, None, 4, Reason.OUT_OF_LIMITS, id="too-many-down"),
        pytest.param(pool_of(7), UP, None, None, 7, Reason.AT_LIMIT, id="too-many-up"),
        pytest.param(pool_of(0), UP, None, None, 1, Reason.OUT_OF_LIMITS, id="too-few-up"),
        pytest.param(pool_of(0), DOWN, None, None, 0, Reason.AT_LIMIT, id="too-few-down"),
    ],
)
def test_decide(  # noqa: PLR0917 - pytest passes by name
    pool: Pool,
    intent: Intent,
    attempted_at: float | None,
    changed_at: float | None,
    wanted: int,
    reason: Reason,
) -> None:
    decision = decide(
        pool, intent, policy=POLICY, now=1000, attempted_at=attempted_at, changed_at=changed_at
    )
    assert decision == Decision(size=pool.size, wanted=wanted, reason=reason, intent=intent)


@given(pools, st.sampled_from(Intent), instants, st.none() | instants, st.none() | instants)
def test_a_size_is_asked_for_only_within_the_limits_and_only_with_an_intent(
    pool: Pool, intent: Intent, now: float, attempted_at: float | None, changed_at: float | None
) -> None:
    decision = decide(
        pool, intent, policy=POLICY, now=now, attempted_at=attempted_at, changed_at=changed_at
    )
    changed = decision.wanted != pool.size
    assert changed == decision.reason.changes
    if changed:
        assert decision.wanted is not None
        assert POLICY.min_size <= decision.wanted <= POLICY.max_size
        assert intent is (UP if decision.wanted > pool.size else DOWN)
        assert pool.settled
        assert attempted_at is None or now - attempted_at >= POLICY.interval_s
        assert changed_at is None or now - changed_at >= POLICY.cooldown_s


def owed(
    number: int, intent: Intent, age_s: float = 0, asked: tuple[int, int] | None = None
) -> Owed:
    asked_from, target = asked or (None, None)
    return Owed(id=number, intent=intent, age_s=age_s, asked_from=asked_from, target=target)


@pytest.mark.parametrize(
    ("inbox", "size", "served", "expired", "superseded", "head"),
    [
        pytest.param([], 2, [], [], [], None, id="empty"),
        pytest.param([owed(1, DOWN)], 2, [], [], [], 1, id="one"),
        pytest.param([owed(1, DOWN), owed(2, UP)], 2, [], [], [1], 2, id="up-wins"),
        pytest.param(
            [owed(1, UP), owed(2, DOWN)], 2, [], [], [2], 1, id="up-wins-over-a-later-down"
        ),
        pytest.param([owed(1, UP, 900)], 2, [], [], [], 1, id="just-young-enough"),
        pytest.param([owed(1, UP, 901)], 2, [], [1], [], None, id="too-old"),
        pytest.param([owed(1, UP, 901), owed(2, DOWN)], 2, [], [1], [], 2, id="too-old-to-win"),
        pytest.param([owed(1, UP, 0, (2, 3))], 3, [1], [], [], None, id="shown-by-the-pool"),
        pytest.param([owed(1, UP, 999, (2, 3))], 3, [1], [], [], None, id="served-is-not-expired"),
        pytest.param([owed(1, UP, 0, (2, 3))], 4, [1], [], [], None, id="grown-further-by-hand"),
        pytest.param([owed(1, UP, 0, (2, 3))], 2, [], [], [], 1, id="not-shown-yet"),
        pytest.param([owed(1, DOWN, 0, (3, 2))], 2, [1], [], [], None, id="eviction-shown"),
        pytest.param([owed(1, DOWN, 0, (3, 2))], 3, [], [], [], 1, id="eviction-not-shown"),
        pytest.param(
            [owed(1, UP, 0, (2, 3)), owed(2, DOWN)], 2, [], [], [], 1, id="down-after-an-asked-up"
        ),
        pytest.param(
            [owed(1, UP, 0, (2, 3)), owed(2, DOWN)], 3, [1], [], [], 2, id="down-after-a-served-up"
        ),
        pytest.param(
            [owed(1, UP, 0, (2, 3)), owed(2, UP)], 2, [], [], [], 1, id="the-asked-up-goes-first"
        ),
        pytest.param([owed(1, UP, 999, (2, 3))], None, [], [], [], 1, id="unread-pool-keeps-asked"),
        pytest.param([owed(1, UP, 999)], None, [], [1], [], None, id="unread-pool-expires-unasked"),
        pytest.param([owed(1, DOWN, 0, (7, 4))], 4, [1], [], [], None, id="clamped-down"),
    ],
)
def test_triage(  # noqa: PLR0917 - pytest passes by name
    inbox: list[Owed],
    size: int | None,
    served: list[int],
    expired: list[int],
    superseded: list[int],
    head: int | None,
) -> None:
    result = triage(inbox, size=size, ttl_s=900)
    assert [item.id for item in result.served] == served
    assert [item.id for item in result.expired] == expired
    assert [item.id for item in result.superseded] == superseded
    assert (result.head.id if result.head else None) == head


@given(owed_intents, st.none() | st.integers(0, 6))
def test_an_intent_leaves_the_inbox_only_for_a_reason(
    inbox: tuple[Owed, ...], size: int | None
) -> None:
    result = triage(inbox, size=size, ttl_s=900)
    closed = {*result.served, *result.expired, *result.superseded}
    kept = set(inbox) - closed
    assert (result.head is None) == (not kept)
    assert all(item.age_s > 900 for item in result.expired)
    assert all(item.intent is DOWN for item in result.superseded)
    if any(item.intent is UP for item in kept):
        assert result.head is not None
        assert result.head.intent is UP


def test_victims_are_the_oldest_and_the_order_of_the_list_decides_without_ages() -> None:
    young = Member(id="a", created_at="2026-11-24T10:00:00Z")
    old = Member(id="b", created_at="2026-11-23T10:00:00Z")
    unknown = Member(id="c")
    assert choose_victims([young, old], 1) == ("b",)
    assert choose_victims([young, old, unknown], 1) == ("a",)
    assert choose_victims([young, old], 2) == ("b", "a")


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("size", [None, 1, 2])
def test_every_decision_can_be_said_in_one_sentence(reason: Reason, size: int | None) -> None:
    text = describe(Decision(size=size, wanted=2, reason=reason, intent=UP), detail="because")
    assert text.endswith("because.")
    assert "\n" not in text
    assert "{" not in text

from __future__ import annotations

from dataclasses import replace

import pytest
from exotide_autoscaler.domain import (
    Decision,
    Intent,
    Member,
    Memory,
    Phase,
    Policy,
    Pool,
    Reason,
    Request,
    Source,
)
from exotide_autoscaler.inbox import triage
from exotide_autoscaler.policy import back_off_s, decide, hold_limits, rank_victims
from exotide_autoscaler.words import describe
from hypothesis import given
from hypothesis import strategies as st

POLICY = Policy(min_size=1, max_size=4, interval_s=60, cooldown_s=120)
UP, DOWN, NONE = Intent.UP, Intent.DOWN, Intent.NONE
WAITING, ASKED, ACCEPTED, FALLEN = Phase.WAITING, Phase.ASKED, Phase.ACCEPTED, Phase.FALLEN

pools = st.builds(
    Pool,
    name=st.just("web"),
    size=st.integers(0, 8),
    state=st.sampled_from(["running", "scaling-up", "scaling-down", "updating", "new-in-2030"]),
    members=st.none() | st.lists(st.uuids().map(str), max_size=8).map(tuple),
)
instants = st.floats(0, 10_000)
memories = st.builds(
    Memory,
    attempted_at=st.none() | instants,
    changed_at=st.none() | instants,
    unsettled_at=st.none() | instants,
    refusals=st.integers(0, 20),
)


@st.composite
def requests_drawn(draw: st.DrawFn) -> Request:
    intent = draw(st.sampled_from([UP, DOWN]))
    phase = draw(st.sampled_from(Phase))
    asked_from = draw(st.integers(1, 5)) if phase is not WAITING or draw(st.booleans()) else None
    target = None
    if asked_from is not None:
        target = asked_from + (1 if intent is UP else -1)
    return Request(
        id=draw(st.integers(1, 99)),
        intent=intent,
        age_s=draw(st.floats(0, 2000)),
        source=draw(st.sampled_from(Source)),
        phase=phase,
        lasting=draw(st.booleans()),
        refused=draw(st.booleans()),
        once_accepted=phase in {ACCEPTED, FALLEN},
        asked_from=asked_from,
        target=target,
    )


inboxes = st.lists(requests_drawn(), max_size=5, unique_by=lambda each: each.id).map(tuple)


def pool_of(size: int, state: str = "running", members: int | None = None) -> Pool:
    count = size if members is None else members
    return Pool(
        name="web", size=size, state=state, members=tuple(f"m{number}" for number in range(count))
    )


def wish(intent: Intent) -> Request | None:
    return None if intent is NONE else Request(id=1, intent=intent, age_s=0)


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
        pytest.param(pool_of(2, "scaling-up"), UP, None, None, 2, Reason.SETTLING, id="busy"),
        pytest.param(pool_of(2, members=1), UP, None, None, 2, Reason.SETTLING, id="healing"),
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
        pytest.param(pool_of(7), DOWN, None, None, 6, Reason.OUT_OF_LIMITS, id="too-many-down"),
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
    memory = Memory(attempted_at=attempted_at, changed_at=changed_at)
    decision = decide(pool, wish(intent), policy=POLICY, now=1000, memory=memory)
    assert decision == Decision(size=pool.size, wanted=wanted, reason=reason, intent=intent)


@given(pools, st.none() | requests_drawn(), instants, memories)
def test_a_size_is_asked_for_only_within_the_limits_and_only_for_a_request(
    pool: Pool, request: Request | None, now: float, memory: Memory
) -> None:
    decision = decide(pool, request, policy=POLICY, now=now, memory=memory)
    changed = decision.wanted != pool.size
    assert changed == decision.reason.changes
    if changed:
        assert request is not None
        assert decision.wanted is not None
        if decision.wanted > pool.size:
            assert (request.intent, decision.wanted <= POLICY.max_size) == (UP, True)
        else:
            assert (request.intent, decision.wanted >= POLICY.min_size) == (DOWN, True)
        waited_s = None if memory.unsettled_at is None else now - memory.unsettled_at
        assert pool.settled or (waited_s is not None and waited_s > POLICY.settle_s)
        assert memory.attempted_at is None or now - memory.attempted_at >= POLICY.interval_s
        assert memory.changed_at is None or now - memory.changed_at >= POLICY.cooldown_s


@given(
    pools,
    st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
    instants,
    memories,
)
def test_limits_move_a_pool_towards_themselves_and_take_one_step_down_at_most(
    pool: Pool, holds: tuple[bool, bool], up_holds: bool, now: float, memory: Memory
) -> None:
    holds_min, holds_max = holds
    policy = replace(POLICY, holds_min=holds_min, holds_max=holds_max)
    held = hold_limits(pool, policy=policy, now=now, memory=memory, up_holds=up_holds)
    too_few = holds_min and pool.size < policy.min_size
    too_many = holds_max and pool.size > policy.max_size and not up_holds
    assert (held is not None) == (too_few or too_many)
    if held is not None and held.reason.changes:
        assert held.wanted == (policy.min_size if too_few else pool.size - 1)


@given(st.integers(0, 1000))
def test_the_pause_between_refused_calls_grows_and_has_an_end(refusals: int) -> None:
    pause_s = back_off_s(POLICY, Memory(refusals=refusals))
    assert pause_s <= back_off_s(POLICY, Memory(refusals=refusals + 1)) <= 5 * POLICY.interval_s


def request(
    number: int,
    intent: Intent,
    age_s: float = 0,
    asked: tuple[int, int] | None = None,
    phase: Phase = WAITING,
    **facts: bool,
) -> Request:
    asked_from, target = asked or (None, None)
    return Request(
        id=number,
        intent=intent,
        age_s=age_s,
        phase=phase,
        asked_from=asked_from,
        target=target,
        once_accepted=phase in {ACCEPTED, FALLEN},
        lasting=facts.get("lasting", True),
        refused=facts.get("refused", False),
    )


OVER = {
    "s": Reason.SERVED,
    "x": Reason.EXPIRED,
    "o": Reason.OUTRANKED,
    "u": Reason.UNSETTLED,
}


@pytest.mark.parametrize(
    ("inbox", "size", "over", "head"),
    [
        pytest.param([], 2, "", None, id="empty"),
        pytest.param([request(1, DOWN)], 2, "", 1, id="one"),
        pytest.param([request(1, DOWN, 5), request(2, UP)], 2, "1o", 2, id="up-wins"),
        pytest.param(
            [request(1, UP, 5), request(2, DOWN)], 2, "2o", 1, id="up-wins-while-it-holds"
        ),
        pytest.param(
            [request(1, UP, 331, lasting=False), request(2, DOWN)],
            2,
            "1o",
            2,
            id="up-holds-no-more",
        ),
        pytest.param(
            [request(1, UP, 331, lasting=False), request(2, DOWN, 400)],
            2,
            "2o",
            1,
            id="the-later-word-was-up",
        ),
        pytest.param(
            [request(1, UP, 5, refused=True), request(2, DOWN)], 2, "1o", 2, id="refused-up-loses"
        ),
        pytest.param(
            [request(1, DOWN, 9), request(2, UP, 5, refused=True)],
            2,
            "1o",
            2,
            id="refused-up-outranks-what-was-before",
        ),
        pytest.param(
            [request(1, UP, 5, (2, 3), FALLEN), request(2, DOWN)], 2, "1o", 2, id="fallen-up-loses"
        ),
        pytest.param([request(1, UP, 900)], 2, "", 1, id="just-young-enough"),
        pytest.param([request(1, UP, 901)], 2, "1x", None, id="too-old"),
        pytest.param([request(1, UP, 901), request(2, DOWN)], 2, "1x", 2, id="too-old-to-win"),
        pytest.param([request(1, UP, 0, (2, 3), ASKED)], 3, "1s", None, id="shown-by-the-pool"),
        pytest.param(
            [request(1, UP, 999, (2, 3), ACCEPTED)], 3, "1s", None, id="served-not-expired"
        ),
        pytest.param([request(1, UP, 0, (2, 3), ACCEPTED)], 4, "1s", None, id="grown-by-hand"),
        pytest.param([request(1, UP, 0, (2, 3), ASKED)], 2, "", 1, id="not-shown"),
        pytest.param([request(1, UP, 0, (2, 3), ACCEPTED)], 1, "1o", None, id="shrunk-by-hand"),
        pytest.param([request(1, DOWN, 0, (3, 2), ACCEPTED)], 2, "1s", None, id="eviction-shown"),
        pytest.param([request(1, DOWN, 0, (3, 2), ASKED)], 3, "", 1, id="eviction-not-shown"),
        pytest.param(
            [request(1, UP, 5, (2, 3), ACCEPTED), request(2, DOWN)],
            3,
            "1s",
            2,
            id="down-after-a-served-up",
        ),
        pytest.param([request(1, UP, 999, (2, 3), ASKED)], None, "", 1, id="unread-keeps-asked"),
        pytest.param([request(1, UP, 999)], None, "1x", None, id="unread-expires-unasked"),
    ],
)
def test_triage(inbox: list[Request], size: int | None, over: str, head: int | None) -> None:
    pool = None if size is None else pool_of(size)
    result = triage(inbox, pool=pool, stuck=False, policy=POLICY)
    expected = [(int(over[0]), OVER[over[1]])] if over else []
    assert [(item.request.id, item.reason) for item in result.closed] == expected
    assert (result.head.id if result.head else None) == head


@given(inboxes, st.none() | pools, st.booleans())
def test_a_request_leaves_the_inbox_only_for_a_reason(
    inbox: tuple[Request, ...], pool: Pool | None, stuck: bool
) -> None:
    result = triage(inbox, pool=pool, stuck=stuck, policy=POLICY)
    closed = {item.request.id: item.reason for item in result.closed}
    kept = {item.id for item in result.open}
    assert sorted([*closed, *kept]) == sorted(item.id for item in inbox)
    for item in result.closed:
        before = next(each for each in inbox if each.id == item.request.id)
        shown = pool is not None and before.shown_by(pool)
        match item.reason:
            case Reason.SERVED:
                assert shown
            case Reason.UNSETTLED:
                assert stuck
                assert shown
            case Reason.EXPIRED:
                assert item.request.age_s > POLICY.request_ttl_s
                assert not shown
            case _:
                assert item.reason is Reason.OUTRANKED
    if pool is not None and (pool.settled or stuck):
        assert all(item.phase in {WAITING, FALLEN} for item in result.open)
        assert len({item.intent for item in result.open}) <= 1, "one word counts"


MEMBERS = [
    Member(id="a", created_at="2026-11-24T10:00:00Z", state="running", ip="192.0.2.1"),
    Member(id="b", created_at="2026-11-23T10:00:00Z", state="running", ip="192.0.2.2"),
    Member(id="c", created_at="2026-11-25T10:00:00Z", state="error", ip="192.0.2.3"),
]


def ranked(listed: str, *members: Member, failing: str = "", spared: str = "") -> str | None:
    found = rank_victims(
        list(listed), members or MEMBERS, failing=[f"192.0.2.{n}" for n in failing], spared=spared
    )
    return None if found is None else "".join(found)


def test_victims_are_those_in_error_then_those_who_fail_then_the_oldest() -> None:
    assert ranked("abc") == "cba"
    assert ranked("abc", failing="1") == "cab"
    assert ranked("abc", spared="c") == "ba"
    assert ranked("ab", failing="12") == "ba"


def test_without_the_ages_that_are_needed_there_is_no_order() -> None:
    ageless = replace(MEMBERS[0], created_at=None)
    assert ranked("ab", ageless, MEMBERS[1]) is None
    assert ranked("abx") is None
    assert ranked("acx", ageless, MEMBERS[2]) == "c"


ill_members = st.lists(
    st.builds(
        Member,
        id=st.sampled_from("abcdef"),
        created_at=st.none() | st.sampled_from(["1", "2", "3"]),
        state=st.sampled_from(["running", "error", "starting"]),
        ip=st.none() | st.sampled_from(["ip1", "ip2"]),
    ),
    unique_by=lambda member: member.id,
)


@given(ill_members, st.lists(st.sampled_from("abcdef"), unique=True), st.sets(st.just("ip1")))
def test_no_member_that_serves_goes_before_one_that_does_not(
    members: list[Member], listed: list[str], failing: set[str]
) -> None:
    order = rank_victims(listed, members, failing=failing, spared=())
    if order is None:
        return
    told = {member.id: member for member in members}
    serving = [told[each].state != "error" and told[each].ip not in failing for each in order]
    assert serving == sorted(serving)
    assert set(order) <= set(listed)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("source", Source)
def test_every_decision_can_be_said_in_one_sentence(
    reason: Reason, size: int | None, source: Source
) -> None:
    decision = Decision(size=size, wanted=2, reason=reason, intent=UP)
    text = describe(decision, detail="because", source=source)
    assert text.endswith("because.")
    assert "\n" not in text
    assert "None" not in text
    assert "{" not in text

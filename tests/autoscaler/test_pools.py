"""What the API's answers mean for the pool, over real HTTP and for any document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from exotide_autoscaler.client import Client
from exotide_autoscaler.domain import Member, Pool
from exotide_autoscaler.errors import (
    Busy,
    CloudError,
    CloudUnavailable,
    MemberRefused,
    NonsenseAnswer,
    PoolNotFound,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.pools import (
    ExoscalePools,
    MeasuredPools,
    check_operation,
    read_failing,
    read_members,
    read_pool,
)
from exotide_autoscaler.ports import Pools
from hypothesis import given
from hypothesis import strategies as st

from .fake_api import POOL_ID, FakeApi, serving
from .wire import answer, saying, wired

FAULTS = {
    "401": Unauthorized,
    "403": Unauthorized,
    "404": PoolNotFound,
    "409": Busy,
    "412": Refused,
    "429": CloudUnavailable,
    "500": CloudUnavailable,
    "503": CloudUnavailable,
    "quota": QuotaExceeded,
    "302": NonsenseAnswer,
    "html": NonsenseAnswer,
    "nonsense": NonsenseAnswer,
    "empty": NonsenseAnswer,
    "hang": CloudUnavailable,
    "half-open": CloudUnavailable,
    "trickle": CloudUnavailable,
    "reset": CloudUnavailable,
}
CALLS: dict[str, Callable[[Pools], Awaitable[object]]] = {
    "get": lambda pools: pools.get(),
    "scale": lambda pools: pools.scale(4),
    "evict": lambda pools: pools.evict(("m",)),
    "list": lambda pools: pools.members(),
    "health": lambda pools: pools.failing(),
}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi(size=3)) as served:
        yield served


def with_pools(endpoint: str, work: Callable[[ExoscalePools], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        client = Client("EXOkey", "very-secret", endpoint=endpoint, timeout_s=0.5, environ={})
        pools = ExoscalePools(client, pool_id=POOL_ID)
        try:
            return await work(pools)
        finally:
            await pools.close()

    return asyncio.run(whole())


def test_the_pool_is_read_with_size_state_and_members(api: FakeApi) -> None:
    pool = with_pools(api.endpoint, lambda pools: pools.get())
    assert (pool.name, pool.size, pool.settled) == ("web", 3, True)
    assert pool.members == tuple(api.members)


def test_growing_asks_for_an_absolute_size_and_shrinking_names_its_victims(api: FakeApi) -> None:
    async def change(pools: ExoscalePools) -> None:
        await pools.scale(4)
        await pools.evict((api.members[2],))

    with_pools(api.endpoint, change)
    assert [(how, size) for _, how, size in api.changes] == [("scale", 4), ("evict", 3)]
    assert len(api.evicted) == 1
    assert len(set(api.members) - set(api.evicted)) == 3


def test_members_are_listed_with_age_state_and_address(api: FakeApi) -> None:
    found = with_pools(api.endpoint, lambda pools: pools.members())
    assert [member.id for member in found] == api.members
    assert found[0] == Member(
        id=api.members[0],
        created_at="2026-11-23T20:02:00.000000+00:00",
        state="running",
        ip="198.51.100.1",
    )


def test_members_that_a_health_check_calls_failed_are_named_by_address(api: FakeApi) -> None:
    assert with_pools(api.endpoint, lambda pools: pools.failing()) == frozenset()
    api.failing = ["198.51.100.2"]
    assert with_pools(api.endpoint, lambda pools: pools.failing()) == {"198.51.100.2"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_misbehaviour_is_a_typed_error_in_good_time(
    api: FakeApi, fault: str, call: str
) -> None:
    api.mode = fault
    metrics = Metrics()
    began = time.monotonic()
    with pytest.raises(FAULTS[fault]) as raised:
        with_pools(api.endpoint, lambda pools: CALLS[call](MeasuredPools(pools, metrics)))
    assert time.monotonic() - began < 5
    assert "very-secret" not in str(raised.value)
    labels = {"call": call, "error": type(raised.value).__name__}
    name = "exotide_autoscaler_api_errors_total"
    assert metrics.registry.get_sample_value(name, labels) == 1


VICTIMS = ("0f7e0e9c-0000-4000-8000-000000000001", "0f7e0e9c-0000-4000-8000-000000000002")
FIRST = frozenset(VICTIMS[:1])


@pytest.mark.parametrize(
    ("status", "message", "members"),
    [
        ("400 No", f"instances: {VICTIMS[0]} is not a member", FIRST),
        ("403 No", f"operation on {VICTIMS[0].upper()} is forbidden", FIRST),
        ("403 No", "delete protection is enabled", frozenset(VICTIMS)),
        ("404 No", f"instance {VICTIMS[0]} not found", FIRST),
        ("409 No", "instance web-1 is protected; remove its protection first", frozenset(VICTIMS)),
        ("412 No", f"{VICTIMS[0]}: {'x' * 300} {VICTIMS[1]}", frozenset(VICTIMS)),
    ],
)
def test_a_refusal_about_members_names_them_whatever_its_code(
    status: str, message: str, members: frozenset[str]
) -> None:
    with (
        wired(saying(answer({"message": message}, status=status))) as wire,
        pytest.raises(MemberRefused) as raised,
    ):
        with_pools(wire.endpoint, lambda pools: pools.evict(VICTIMS))
    assert raised.value.members == members
    assert not raised.value.outcome_unknown
    assert "check EXOSCALE_KEY" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("401 No", "who are you", Unauthorized),
        ("403 No", "forbidden by role policy", Unauthorized),
        ("404 No", "Not Found", PoolNotFound),
        ("409 No", f"instance pool {POOL_ID} is busy", Busy),
        ("412 No", "min-available", Refused),
        ("409 No", f"quota exceeded for {VICTIMS[0]}", QuotaExceeded),
        ("500 No", f"{VICTIMS[0]} is protected", CloudUnavailable),
    ],
)
def test_another_refusal_of_an_evict_is_not_about_members(
    status: str, message: str, kind: type[CloudError]
) -> None:
    with (
        wired(saying(answer({"message": message}, status=status))) as wire,
        pytest.raises(CloudError) as raised,
    ):
        with_pools(wire.endpoint, lambda pools: pools.evict(VICTIMS))
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"state": "failure"}, Refused),
        ({"state": "failure", "reason": "fault", "message": "no host"}, Refused),
        ({"state": "failure", "reason": "busy"}, Busy),
        ({"state": "failure", "message": "Quota exceeded"}, QuotaExceeded),
        ({"state": "failure", "reason": "partial"}, CloudUnavailable),
        ({"state": "timeout"}, CloudUnavailable),
        ({"state": "failure", "reason": ["busy"], "message": {"a": 1}}, Refused),
        ({"state": "running"}, NonsenseAnswer),
        ({"state": ["success"]}, NonsenseAnswer),
        ({"id": "x"}, NonsenseAnswer),
        ([], NonsenseAnswer),
        (None, NonsenseAnswer),
    ],
)
def test_an_operation_that_failed_or_is_none_is_an_error(
    document: object, kind: type[CloudError]
) -> None:
    with pytest.raises(CloudError) as raised:
        check_operation("scale-instance-pool", document)
    assert type(raised.value) is kind
    assert str(raised.value).startswith("scale-instance-pool: ")


def test_a_failed_eviction_that_names_a_protection_is_about_the_members() -> None:
    failed = {"state": "failure", "reason": "forbidden", "message": "instance is protected"}
    with wired(saying(answer(failed))) as wire, pytest.raises(MemberRefused) as raised:
        with_pools(wire.endpoint, lambda pools: pools.evict(VICTIMS))
    assert raised.value.members == frozenset(VICTIMS)


GOOD = {"id": POOL_ID, "name": "web", "size": 2, "state": "running"}


@pytest.mark.parametrize(
    "changes",
    [
        {"size": None},
        {"size": "2"},
        {"size": 2.0},
        {"size": True},
        {"size": -1},
        {"size": 10**300},
        {"state": None},
        {"state": ["running"]},
        {"id": "another"},
        {"id": 7},
        {"instances": {}},
        {"instances": ["a"]},
        {"instances": [{}]},
        {"instances": [{"id": "a"}, {"id": "a"}]},
        {"instances": [{"id": "\ud800"}]},
        {"instances": [{"id": "a" * 100}]},
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(NonsenseAnswer, match="get-instance-pool: expected "):
        read_pool({**GOOD, **changes}, POOL_ID)


def test_a_pool_that_does_not_tell_its_members_is_no_empty_pool() -> None:
    assert read_pool(GOOD, POOL_ID).members is None
    assert read_pool({**GOOD, "instances": []}, POOL_ID).members == ()


def test_names_from_outside_can_be_stored_and_shown() -> None:
    pool = read_pool({**GOOD, "name": "a\n\ud800\x1b[31m", "state": "run\nning"}, POOL_ID)
    assert (pool.name, pool.state) == ("a ??[31m", "run ning")


@pytest.mark.parametrize(
    ("created", "known"),
    [
        ("2026-11-23T20:02:00Z", "2026-11-23T20:02:00.000000+00:00"),
        ("2026-11-23T22:02:00.5+02:00", "2026-11-23T20:02:00.500000+00:00"),
        ("2026-11-23", None),
        ("yesterday", None),
        ("9999-12-31T23:59:59-12:00", None),
        (1764000000, None),
        (None, None),
    ],
)
def test_ages_are_compared_in_one_form_or_not_known(created: object, known: str | None) -> None:
    (member,) = read_members({"instances": [{"id": "a", "created-at": created}]}, POOL_ID)
    assert member.created_at == known


def test_instances_of_somebody_else_are_no_members() -> None:
    ours, theirs = {"manager": {"id": POOL_ID}}, {"manager": {"id": "x"}}
    listed = [{"id": "a", **ours}, {"id": "b", **theirs}, {"id": "c"}, {"id": "d", "manager": None}]
    assert [each.id for each in read_members({"instances": listed}, POOL_ID)] == ["a", "c"]


def balancers(*checks: object, pool: str = POOL_ID) -> dict[str, object]:
    service = {"instance-pool": {"id": pool}, "healthcheck-status": list(checks)}
    return {"load-balancers": [{"services": [service]}]}


@pytest.mark.parametrize(
    ("document", "failing"),
    [
        ({"load-balancers": []}, set()),
        ({"load-balancers": [{}, {"services": None}, {"services": [7, {}]}]}, set()),
        (balancers({"public-ip": "198.51.100.1", "status": "success"}), set()),
        (balancers({"public-ip": "198.51.100.1", "status": "failure"}), {"198.51.100.1"}),
        (balancers({"public-ip": "198.51.100.1", "status": "failure"}, pool="x"), set()),
        (balancers({"public-ip": "x", "status": "failure"}, {"status": "failure"}, 7), set()),
        (balancers({"public-ip": "2001:DB8::1", "status": "failure"}), {"2001:db8::1"}),
    ],
)
def test_only_our_services_and_only_failures_count(document: object, failing: set[str]) -> None:
    assert read_failing(document, POOL_ID) == failing


keys = st.sampled_from(
    [
        *("id", "name", "size", "state", "instances", "public-ip", "manager", "load-balancers"),
        *("services", "instance-pool", "healthcheck-status", "status", "reason", "message"),
    ]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(POOL_ID),
    lambda inner: st.lists(inner) | st.dictionaries(keys | st.text(), inner),
)
READERS: list[Callable[[object], Pool | tuple[Member, ...] | frozenset[str] | None]] = [
    lambda document: read_pool(document, POOL_ID),
    lambda document: read_members(document, POOL_ID),
    lambda document: read_failing(document, POOL_ID),
    lambda document: check_operation("scale-instance-pool", document),
]


@given(documents, st.sampled_from(READERS))
def test_any_document_is_read_or_refused(
    document: object, read: Callable[[object], object]
) -> None:
    try:
        read(document)
    except CloudError as error:
        assert str(error).isprintable()  # noqa: PT017 - most documents raise, some do not
        assert len(str(error)) < 300  # noqa: PT017 - as above

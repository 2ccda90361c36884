"""The adapter over the official SDK against a cloud that misbehaves over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from exotide_autoscaler.errors import (
    CloudUnavailable,
    NonsenseAnswer,
    PoolNotFound,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.pools import ExoscalePools, MeasuredPools
from exotide_autoscaler.threads import Caller

from .agent import free_port
from .fake_api import POOL_ID, FakeApi, serving

FAULTS = {
    "401": Unauthorized,
    "403": Unauthorized,
    "404": PoolNotFound,
    "409": Refused,
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


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi(size=3)) as served:
        yield served


def pools_of(api: FakeApi, timeout_s: float = 0.5) -> ExoscalePools:
    return ExoscalePools(
        "EXOkey", "very-secret", endpoint=api.endpoint, pool_id=POOL_ID, timeout_s=timeout_s
    )


def test_the_pool_is_read_with_size_state_and_members(api: FakeApi) -> None:
    pool = asyncio.run(pools_of(api).get())
    assert (pool.name, pool.size, pool.settled) == ("web", 3, True)
    assert pool.members == tuple(api.members)


def test_growing_asks_for_an_absolute_size_and_shrinking_names_the_oldest(api: FakeApi) -> None:
    async def change() -> None:
        pools = pools_of(api)
        await pools.scale(4)
        pool = await pools.get()
        await pools.evict(await pools.oldest(pool, 1))

    asyncio.run(change())
    assert [(how, size) for _, how, size in api.changes] == [("scale", 4), ("evict", 3)]
    assert len(api.evicted) == 1
    assert len(set(api.members) - set(api.evicted)) == 3


def test_without_ages_the_first_member_listed_goes(api: FakeApi) -> None:
    async def oldest() -> tuple[str, ...]:
        pools = pools_of(api)
        pool = await pools.get()
        api.mode = "500"
        return await pools.oldest(pool, 1)

    assert asyncio.run(oldest()) == (api.members[0],)


@pytest.mark.parametrize("call", ["get", "scale"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_misbehaviour_is_a_typed_error_in_good_time(
    api: FakeApi, fault: str, call: str
) -> None:
    api.mode = fault
    metrics = Metrics()
    pools = MeasuredPools(pools_of(api), metrics)
    began = time.monotonic()
    with pytest.raises(FAULTS[fault]) as raised:
        asyncio.run(pools.get() if call == "get" else pools.scale(4))
    assert time.monotonic() - began < 5
    assert "very-secret" not in str(raised.value)
    labels = {"call": call, "error": type(raised.value).__name__}
    name = "exotide_autoscaler_api_errors_total"
    assert metrics.registry.get_sample_value(name, labels) == 1


def test_a_read_whose_connection_was_cut_is_made_once_more_and_a_change_is_not(
    api: FakeApi,
) -> None:
    pools = pools_of(api)
    api.mode, api.once = "reset", True
    assert asyncio.run(pools.get()).size == 3
    assert api.reads == 2
    api.mode = "reset"
    with pytest.raises(CloudUnavailable, match="no connection"):
        asyncio.run(pools.scale(4))
    assert api.attempts == 1
    api.mode, api.once = "reset", False
    with pytest.raises(CloudUnavailable, match="no connection"):
        asyncio.run(pools.get())
    assert api.reads == 4


def test_a_refused_connection_is_a_typed_error() -> None:
    with pytest.raises(CloudUnavailable):
        asyncio.run(pools_of(FakeApi(port=free_port())).get())


def test_hanging_calls_do_not_pile_up() -> None:
    released = threading.Event()

    async def call_often() -> list[str]:
        caller, messages = Caller(), []
        for _ in range(6):
            try:
                await caller.run(lambda: released.wait(10), deadline_s=0.02)
            except CloudUnavailable as error:
                messages.append(str(error))
        released.set()
        await asyncio.sleep(0.2)  # the threads end
        assert await caller.run(lambda: 7, deadline_s=5) == 7
        return messages

    messages = asyncio.run(call_often())
    assert [("still hang" in message) for message in messages] == [False] * 4 + [True] * 2

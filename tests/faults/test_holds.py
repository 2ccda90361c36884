"""What faults hold, and when it goes on."""

from __future__ import annotations

import asyncio

import pytest

from exotide.cloud.faults.holds import Hold, Holds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.fixture
def holds() -> Holds:
    return Holds(lambda fault_id: fault_id != "removed")


async def test_a_hold_is_over_once_and_tells_everybody(holds: Holds) -> None:
    heard: list[str] = []
    hold = holds.begin("f1", "member")
    hold.then(lambda: heard.append("first"))
    hold.then(lambda: heard.append("second"))
    assert (holds.count("f1"), holds.about("member")) == (1, hold)
    assert holds.release("f1") == 1
    assert holds.release("f1") == 0
    hold.let_go()
    hold.then(lambda: heard.append("late"))
    assert heard == ["first", "second", "late"]
    assert (hold.ran_out, holds.about("member")) == (False, None)


async def test_a_hold_runs_out_by_itself(holds: Holds) -> None:
    hold = holds.begin("f1", at_most_s=0.01)
    await hold.wait()
    assert hold.ran_out
    assert holds.count("f1") == 0


async def test_a_fault_that_was_removed_holds_nothing(holds: Holds) -> None:
    hold = holds.begin("removed", "member", at_most_s=60.0)
    assert (hold.is_over, hold.ran_out) == (True, False)
    assert (holds.about("member"), holds.count("removed")) == (None, 0)
    await hold.wait()


async def test_whoever_is_cancelled_while_it_waits_holds_nothing_any_more(holds: Holds) -> None:
    hold = holds.begin("f1")
    waiting = asyncio.ensure_future(hold.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert holds.count("f1") == 0


async def test_what_is_abandoned_does_not_go_on_even_when_its_time_is_up(holds: Holds) -> None:
    heard: list[str] = []
    hold = holds.begin("f1", at_most_s=0.01)
    hold.then(lambda: heard.append("gone on"))
    holds.abandon()
    await asyncio.sleep(0.03)
    assert heard == []
    assert (hold.is_over, hold.ran_out, holds.count("f1")) == (True, False, 0)


async def test_a_hold_may_end_others_of_its_fault(holds: Holds) -> None:
    first, second = holds.begin("f1"), holds.begin("f1")
    first.then(second.let_go)
    assert holds.release("f1") == 2
    assert isinstance(second, Hold)
    assert second.is_over

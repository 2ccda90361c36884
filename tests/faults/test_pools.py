"""Pools on bad days: members that never come, go late, come back; states that never end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.faults.model import (
    BootFailure,
    Death,
    Duration,
    EarlySuccess,
    Effect,
    FailingOperation,
    FallBack,
    Protection,
    Selector,
    Shortfall,
    Staggered,
    StuckOperation,
    StuckState,
    Timing,
)
from exotide.cloud.reset import reset

from .conftest import Site

SOON = Duration(first=0.05)
LATER = Duration(first=0.3)


@pytest.fixture
def pool(site: Site) -> str:
    return site.pool(2)


def shown(site: Site, pool: str) -> Any:
    return site.ask("GET", f"/instance-pool/{pool}")


def members(site: Site, pool: str) -> list[str]:
    return [each["id"] for each in shown(site, pool)["instances"]]


def is_so(site: Site, pool: str, *, size: int, listed: int, state: str = "running") -> bool:
    seen = shown(site, pool)
    found = seen["size"], len(seen["instances"]), seen["state"]
    return bool(found == (size, listed, state))


def scale(site: Site, pool: str, size: int) -> Any:
    return site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": size})


def evict(site: Site, pool: str, *victims: str) -> Any:
    return site.ask("PUT", f"/instance-pool/{pool}:evict", {"instances": list(victims)})


def ends_well(site: Site, pool: str, size: int) -> None:
    """Without faults the pool comes to its size, and nothing else is left."""
    site.clear()
    site.wait(lambda: is_so(site, pool, size=size, listed=size))
    site.cloud.settle()
    assert set(site.servers.running) == set(members(site, pool))
    states = {each["state"] for each in site.ask("GET", "/instance")["instances"]}
    assert states <= {"running"}
    assert len(site.servers.reserved) == size


def test_a_member_never_comes_and_the_pool_says_that_it_runs(site: Site, pool: str) -> None:
    site.add(Shortfall())
    started = scale(site, pool, 3)
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"
    assert is_so(site, pool, size=3, listed=2)
    scale(site, pool, 3)
    site.cloud.settle()
    assert is_so(site, pool, size=3, listed=2)
    ends_well(site, pool, 3)


def test_capacity_stops_half_way_and_the_size_stays_the_one_asked_for(
    site: Site, pool: str
) -> None:
    site.add(Shortfall(comes=1, message="the zone is out of capacity"))
    started = scale(site, pool, 5)
    site.cloud.settle()
    ended = site.operation(started)
    assert (ended["state"], ended["reason"]) == ("failure", "partial")
    assert ended["message"] == "the zone is out of capacity"
    assert is_so(site, pool, size=5, listed=3)
    ends_well(site, pool, 5)


def test_capacity_stops_half_way_and_the_size_falls_to_what_came(site: Site, pool: str) -> None:
    site.add(Shortfall(comes=1, gives_up=True))
    site.servers.holds_boots = True
    scale(site, pool, 5)
    assert is_so(site, pool, size=5, listed=3, state="scaling-up")
    site.servers.holds_boots = False
    site.cloud.settle()
    assert is_so(site, pool, size=3, listed=3)
    ends_well(site, pool, 3)


def test_a_lower_size_drops_the_missing_one_and_nobody_else(site: Site, pool: str) -> None:
    site.add(Shortfall())
    scale(site, pool, 3)
    site.cloud.settle()
    before = members(site, pool)
    scale(site, pool, 2)
    site.cloud.settle()
    assert members(site, pool) == before
    ends_well(site, pool, 2)
    assert members(site, pool) == before


def test_a_pool_can_be_made_short_of_a_member(site: Site) -> None:
    site.add(Shortfall(comes=1))
    pool = site.pool(2, name="short")
    assert is_so(site, pool, size=2, listed=1)
    ends_well(site, pool, 2)


def test_an_evicted_member_of_a_short_pool_leaves_and_the_missing_one_stays_missing(
    site: Site, pool: str
) -> None:
    site.add(Shortfall())
    scale(site, pool, 3)
    site.cloud.settle()
    evict(site, pool, members(site, pool)[0])
    site.cloud.settle()
    assert is_so(site, pool, size=2, listed=1)
    ends_well(site, pool, 2)


def test_members_appear_one_by_one(site: Site, pool: str) -> None:
    site.add(Staggered(delay_s=SOON))
    scale(site, pool, 5)
    for listed in (2, 3, 4):
        site.wait(partial(is_so, site, pool, size=5, listed=listed, state="scaling-up"))
    site.wait(lambda: is_so(site, pool, size=5, listed=5))
    ends_well(site, pool, 5)


def test_members_leave_one_by_one_and_the_size_follows_them(site: Site, pool: str) -> None:
    scale(site, pool, 5)
    site.cloud.settle()
    before = members(site, pool)
    site.add(Staggered(delay_s=SOON, late_size=True))
    scale(site, pool, 2)
    for size in (5, 4, 3):
        site.wait(partial(is_so, site, pool, size=size, listed=size, state="scaling-down"))
    site.wait(lambda: is_so(site, pool, size=2, listed=2))
    assert members(site, pool) == before[3:]
    ends_well(site, pool, 2)


def test_a_removed_fault_waits_for_nobody_any_more(site: Site, pool: str) -> None:
    site.add(Staggered(delay_s=Duration(first=60.0)))
    scale(site, pool, 4)
    site.wait(lambda: is_so(site, pool, size=4, listed=2, state="scaling-up"))
    ends_well(site, pool, 4)


def test_a_member_that_does_not_boot_stays_in_error_and_is_replaced_later(
    site: Site, pool: str
) -> None:
    armed = site.add(BootFailure(stays=True), timing=Timing(seed=1, count=1))
    started = scale(site, pool, 4)
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"
    assert is_so(site, pool, size=4, listed=4)
    states = [each["state"] for each in site.ask("GET", "/instance")["instances"]]
    assert sorted(states) == ["error", "running", "running", "running"]
    assert site.on_loop(lambda: site.cloud.cloud.world.faults.holds.count(armed.id)) == 1
    ends_well(site, pool, 4)


def test_a_member_in_error_may_be_evicted_by_its_id(site: Site, pool: str) -> None:
    site.add(BootFailure(stays=True), timing=Timing(seed=1, count=1))
    scale(site, pool, 3)
    site.cloud.settle()
    (broken,) = (
        each["id"] for each in site.ask("GET", "/instance")["instances"] if each["state"] == "error"
    )
    evict(site, pool, broken)
    site.cloud.settle()
    assert broken not in members(site, pool)
    ends_well(site, pool, 2)


def test_a_member_in_error_is_replaced_by_itself_after_a_time(site: Site, pool: str) -> None:
    effect = BootFailure(stays=True, release_after_s=0.2)
    site.add(effect, timing=Timing(seed=1, count=1))
    scale(site, pool, 3)
    site.wait(lambda: len(site.servers.running) == 3)
    ends_well(site, pool, 3)


def test_a_member_that_died_may_stay_in_error_too(site: Site) -> None:
    site.add(Death(delay_s=SOON, stays=True), timing=Timing(seed=1, count=1))
    pool = site.pool(2)
    site.wait(
        lambda: "error" in {each["state"] for each in site.ask("GET", "/instance")["instances"]}
    )
    site.cloud.settle()
    assert is_so(site, pool, size=2, listed=2)
    ends_well(site, pool, 2)


def test_a_growth_falls_back_after_its_success(site: Site, pool: str) -> None:
    before = members(site, pool)
    site.add(FallBack(delay_s=LATER))
    started = scale(site, pool, 4)
    site.wait(lambda: is_so(site, pool, size=4, listed=4))
    site.wait(lambda: site.operation(started)["state"] == "success")
    site.wait(lambda: is_so(site, pool, size=2, listed=2))
    assert members(site, pool) == before
    ends_well(site, pool, 2)


def test_an_evicted_member_comes_back_in_its_place_and_its_server_never_stopped(
    site: Site, pool: str
) -> None:
    before = members(site, pool)
    site.add(FallBack(delay_s=LATER))
    site.add(FailingOperation())
    started = evict(site, pool, before[0])
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    site.wait(lambda: site.operation(started)["state"] == "failure")
    assert site.ask("GET", f"/instance/{before[0]}")["state"] == "destroying"
    site.wait(lambda: is_so(site, pool, size=2, listed=2))
    assert members(site, pool) == before
    assert site.servers.stopped == []
    ends_well(site, pool, 2)


def test_a_member_that_comes_back_serves_again(site: Site, pool: str) -> None:
    nlb = site.ask("POST", "/load-balancer", {"name": "lb"})["reference"]["id"]
    site.cloud.settle()
    check = {"mode": "tcp", "port": 80, "interval": 10, "timeout": 5}
    service = {"name": "http", "instance-pool": {"id": pool}, "protocol": "tcp"}
    ports = {"strategy": "round-robin", "port": 80, "target-port": 80, "healthcheck": check}
    site.ask("POST", f"/load-balancer/{nlb}/service", service | ports)
    site.cloud.settle()

    def serving() -> int:
        assert isinstance(site.cloud.balancers, FakeBalancers)
        (ips,) = site.cloud.balancers.members.values()
        return len(ips)

    site.add(FallBack(delay_s=LATER))
    evict(site, pool, members(site, pool)[0])
    site.wait(lambda: serving() == 1)
    site.wait(lambda: serving() == 2)
    assert is_so(site, pool, size=2, listed=2)


def test_two_changes_that_fall_back_end_at_no_size_that_nobody_asked_for(
    site: Site, pool: str
) -> None:
    site.add(FallBack(delay_s=LATER), timing=Timing(seed=1, count=2))
    scale(site, pool, 4)
    site.wait(lambda: is_so(site, pool, size=4, listed=4))
    scale(site, pool, 1)
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    sizes = {1}
    ends_at = time.monotonic() + 5
    while 4 not in sizes and time.monotonic() < ends_at:
        sizes.add(shown(site, pool)["size"])
    site.cloud.settle()
    assert sizes <= {1, 4}
    ends_well(site, pool, 4)


def test_a_new_member_comes_in_the_place_of_an_evicted_one(site: Site, pool: str) -> None:
    old, other = members(site, pool)
    site.add(FallBack(delay_s=LATER, fresh=True))
    evict(site, pool, old)
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    site.wait(lambda: is_so(site, pool, size=2, listed=2))
    ends_well(site, pool, 2)
    assert old not in members(site, pool)
    assert other in members(site, pool)


def test_an_eviction_whose_fault_is_removed_before_it_falls_back_is_carried_out(
    site: Site, pool: str
) -> None:
    old, other = members(site, pool)
    site.add(FallBack(delay_s=Duration(first=60.0)))
    evict(site, pool, old)
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    assert old in site.servers.running
    ends_well(site, pool, 1)
    assert members(site, pool) == [other]


def test_a_member_that_died_before_it_came_back_is_replaced(site: Site, pool: str) -> None:
    old, *_ = members(site, pool)
    site.add(FallBack(delay_s=LATER))
    evict(site, pool, old)
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    site.servers.kill(old)
    site.wait(lambda: is_so(site, pool, size=2, listed=2))
    assert old not in members(site, pool)
    ends_well(site, pool, 2)


def test_a_pool_that_is_deleted_takes_those_with_it_that_would_have_come_back(
    site: Site, pool: str
) -> None:
    site.add(FallBack(delay_s=Duration(first=60.0)))
    evict(site, pool, members(site, pool)[0])
    site.wait(lambda: is_so(site, pool, size=1, listed=1))
    site.ask("DELETE", f"/instance-pool/{pool}")
    site.cloud.settle()
    assert site.ask("GET", "/instance")["instances"] == []
    assert (site.servers.running, site.servers.reserved) == ({}, frozenset())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda site, pool: scale(site, pool, 3), "scaling-up"),
        (lambda site, pool: scale(site, pool, 1), "scaling-down"),
        (lambda site, pool: site.ask("PUT", f"/instance-pool/{pool}", {}), "updating"),
    ],
)
def test_the_state_of_a_change_never_ends_and_the_pool_is_busy(
    site: Site, pool: str, change: Callable[[Site, str], Any], word: str
) -> None:
    armed = site.add(StuckState())
    started = change(site, pool)
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"
    assert shown(site, pool)["state"] == word
    status, _, body = site.send("PUT", f"/instance-pool/{pool}:scale", {"size": 4})
    assert (status, f"its state is {word}" in json.loads(body)["message"]) == (409, True)
    site.on_loop(lambda: site.cloud.cloud.world.faults.holds.release(armed.id))
    site.wait(lambda: shown(site, pool)["state"] == "running")
    ends_well(site, pool, shown(site, pool)["size"])


def test_a_pool_in_a_state_that_nobody_knows_may_be_changed(site: Site, pool: str) -> None:
    site.add(StuckState(state="degraded", accepts=True), timing=Timing(seed=1, count=1))
    scale(site, pool, 3)
    site.cloud.settle()
    assert is_so(site, pool, size=3, listed=3, state="degraded")
    scale(site, pool, 2)
    site.cloud.settle()
    assert is_so(site, pool, size=2, listed=2, state="degraded")
    ends_well(site, pool, 2)


def test_a_pool_that_never_ends_scaling_up_may_lack_a_member_too(site: Site, pool: str) -> None:
    site.add(Shortfall())
    site.add(StuckState(release_after_s=0.3))
    scale(site, pool, 3)
    site.cloud.settle()
    assert is_so(site, pool, size=3, listed=2, state="scaling-up")
    site.wait(lambda: is_so(site, pool, size=3, listed=2))
    ends_well(site, pool, 3)


def test_an_operation_says_success_before_its_work_is_done(site: Site, pool: str) -> None:
    site.servers.holds_boots = True
    site.add(EarlySuccess())
    started = scale(site, pool, 3)
    site.wait(lambda: site.operation(started)["state"] == "success")
    assert is_so(site, pool, size=3, listed=3, state="scaling-up")
    site.servers.holds_boots = False
    site.cloud.settle()
    ends_well(site, pool, 3)


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_one_member_cannot_go_while_others_can(site: Site, pool: str, status: int) -> None:
    old, other = members(site, pool)
    site.add(Protection(status=status), selector=Selector(instance=old))
    said = "is forbidden - reason: manual instance protection"
    for path, body, operation in [
        (
            f"/instance-pool/{pool}:evict",
            {"instances": [other, old]},
            "evict-instance-pool-members",
        ),
        (f"/instance-pool/{pool}:scale", {"size": 1}, "scale-instance-pool"),
    ]:
        refused, _, content = site.send("PUT", path, body)
        assert refused == status
        assert json.loads(content)["message"] == f"Operation {operation} on resource {old} {said}"
    assert site.send("DELETE", f"/instance/{old}")[0] == status
    evict(site, pool, other)
    site.cloud.settle()
    assert members(site, pool) == [old]
    ends_well(site, pool, 1)


def test_the_words_of_a_protection_can_be_chosen_braces_and_all(site: Site, pool: str) -> None:
    old, *_ = members(site, pool)
    site.add(Protection(message="{name}: {0} no {operation}"))
    _, _, content = site.send("PUT", f"/instance-pool/{pool}:evict", {"instances": [old]})
    name = site.ask("GET", f"/instance/{old}")["name"]
    assert json.loads(content)["message"] == f"{name}: {{0}} no evict-instance-pool-members"


@pytest.mark.parametrize(
    "effect",
    [
        Shortfall(),
        Staggered(delay_s=Duration(first=60.0)),
        FallBack(delay_s=Duration(first=60.0)),
        StuckState(state="suspended"),
        StuckState(accepts=True, state="degraded"),
        BootFailure(stays=True),
        StuckOperation(),
    ],
    ids=lambda effect: str(effect.kind),
)
def test_a_reset_ends_whatever_a_fault_holds(site: Site, pool: str, effect: Effect) -> None:
    site.add(effect)
    scale(site, pool, 4)
    site.wait(lambda: shown(site, pool)["size"] == 4)
    site.on_loop_async(reset(site.cloud.cloud.world))
    assert site.ask("GET", "/instance-pool")["instance-pools"] == []
    assert (site.servers.running, site.servers.reserved) == ({}, frozenset())

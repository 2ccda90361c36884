"""Operations that fail or hang, servers that do not boot, die or stand still, quotas."""

from __future__ import annotations

import time

import pytest

from exotide.cloud.api.errors import FailureReason
from exotide.cloud.faults.model import (
    BootFailure,
    Death,
    Duration,
    FailingOperation,
    Hang,
    NoCapacity,
    Quota,
    Selector,
    SlowBoot,
    StuckOperation,
    Timing,
)

from .conftest import Site


def test_a_failing_operation_says_why_and_its_change_is_made(site: Site) -> None:
    pool = site.pool(2)
    site.add(
        FailingOperation(reason=FailureReason.PARTIAL, message="half of it"),
        selector=Selector(operation="scale-*", pool="web"),
    )
    started = site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 3})
    site.cloud.settle()
    ended = site.operation(started)
    assert (ended["state"], ended["reason"]) == ("failure", "partial")
    assert ended["message"] == "half of it"
    shown = site.ask("GET", f"/instance-pool/{pool}")
    assert (shown["state"], shown["size"]) == ("running", 3)


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_stuck_operation_stays_pending_until_its_fault_is_removed(
    site: Site, *, carried_out: bool
) -> None:
    pool = site.pool(1)
    armed = site.add(
        StuckOperation(carried_out=carried_out), selector=Selector(operation="scale-*")
    )
    started = site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 2})
    expected = "running" if carried_out else "scaling-up"
    site.wait(lambda: site.ask("GET", f"/instance-pool/{pool}")["state"] == expected)
    assert site.operation(started)["state"] == "pending"
    assert len(site.servers.running) == (2 if carried_out else 1)
    assert site.on_loop(lambda: site.cloud.cloud.world.faults.holds.count(armed.id)) == 1
    assert site.remove(armed.id)
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"
    assert len(site.servers.running) == 2


def test_a_stuck_operation_may_go_on_by_itself(site: Site) -> None:
    pool = site.pool(1)
    site.add(StuckOperation(release_after_s=0.2), selector=Selector(pool=pool))
    began = time.monotonic()
    started = site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 2})
    site.cloud.settle()
    assert 0.2 <= time.monotonic() - began < 5
    assert site.operation(started)["state"] == "success"


def test_a_fault_that_is_removed_before_its_operation_gets_stuck_holds_nothing(site: Site) -> None:
    pool = site.pool(1)
    site.servers.holds_boots = True
    armed = site.add(StuckOperation(carried_out=True))
    started = site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 2})
    site.remove(armed.id)
    site.servers.holds_boots = False
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"


def test_an_operation_without_work_can_be_stuck_too(site: Site) -> None:
    armed = site.add(StuckOperation(), selector=Selector(operation="create-security-group"))
    started = site.ask("POST", "/security-group", {"name": "web"})
    assert site.operation(started)["state"] == "pending"
    site.remove(armed.id)
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"


def test_a_pool_whose_members_do_not_boot_is_not_made_and_leaves_nothing(site: Site) -> None:
    site.add(BootFailure(message="kernel panic"), timing=Timing(seed=1, after=1, count=1))
    started = site.ask("POST", "/instance-pool", site.order(size=3))
    site.cloud.settle()
    ended = site.operation(started)
    assert (ended["state"], ended["reason"]) == ("failure", "fault")
    assert "kernel panic" in ended["message"]
    assert site.ask("GET", "/instance-pool")["instance-pools"] == []
    assert site.servers.running == {}
    assert site.servers.reserved == frozenset()


def test_a_slow_boot_delays_only_the_servers_that_are_meant(site: Site) -> None:
    other = site.pool(1, name="other")
    pool = site.pool(1)
    site.add(SlowBoot(delay_s=Duration(first=0.4)), selector=Selector(pool="web"))
    site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 2})
    site.ask("PUT", f"/instance-pool/{other}:scale", {"size": 2})
    site.wait(lambda: site.ask("GET", f"/instance-pool/{other}")["state"] == "running")
    assert site.ask("GET", f"/instance-pool/{pool}")["state"] == "scaling-up"
    site.cloud.settle()
    assert [spec.boot_delay_s for spec in site.servers.started[-2:]] == [0.0, 0.4]


def test_a_zone_without_capacity_recovers_and_pools_heal_then(site: Site) -> None:
    pool = site.pool(2)
    full = site.add(NoCapacity(), selector=Selector(zone=site.cloud.access.zone))
    lost = site.ask("GET", f"/instance-pool/{pool}")["instances"][0]["id"]
    site.servers.kill(lost)
    site.wait(lambda: len(site.servers.running) == 1)
    started = site.ask("POST", "/instance", site.order())
    site.wait(lambda: site.operation(started)["state"] == "failure")
    assert "out of capacity (zone at-vie-1)" in site.operation(started)["message"]
    site.remove(full.id)
    site.cloud.settle()
    assert len(site.servers.running) == 2
    assert {each["state"] for each in site.ask("GET", "/instance")["instances"]} == {"running"}


def test_capacity_is_a_matter_of_one_zone(site: Site) -> None:
    site.add(NoCapacity(), selector=Selector(zone="ch-gva-2"))
    site.pool(2)
    assert len(site.servers.running) == 2


def test_a_member_dies_by_itself_and_is_replaced(site: Site) -> None:
    site.add(Death(delay_s=Duration(first=0.05)), timing=Timing(seed=1, count=1))
    pool = site.pool(2)
    site.wait(lambda: len(site.servers.started) == 3)
    site.cloud.settle()
    assert len(site.ask("GET", f"/instance-pool/{pool}")["instances"]) == 2
    assert len(site.servers.running) == 2


def test_a_member_stands_still_by_itself_and_is_not_replaced(site: Site) -> None:
    site.add(Hang(delay_s=Duration(first=0.05)), timing=Timing(seed=1, count=1))
    site.pool(2)
    site.wait(lambda: len(site.servers.frozen) == 1)
    assert len(site.servers.running) == 2


def test_a_quota_that_is_reached_is_refused_and_shown(site: Site) -> None:
    pool = site.pool(2)
    armed = site.add(Quota(resource="instance", limit=2))
    status, _, body = site.send("PUT", f"/instance-pool/{pool}:scale", {"size": 3})
    assert (status, b"instance limit is 2, 2 in use" in body) == (412, True)
    assert site.ask("GET", "/quota/instance")["limit"] == 2
    site.remove(armed.id)
    assert site.send("PUT", f"/instance-pool/{pool}:scale", {"size": 3})[0] == 200

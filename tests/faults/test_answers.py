"""Answers that are old, wrong or lost, and changes that somebody else makes in between."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exotide.cloud.faults.model import (
    Drop,
    Duration,
    Effect,
    FallBack,
    ForeignChange,
    Lag,
    Refusal,
    Selector,
    ServerError,
    Timing,
    WrongField,
)

from .conftest import Site

ONCE = Timing(seed=1, count=1)


@pytest.fixture
def pool(site: Site) -> str:
    return site.pool(2)


def listed(site: Site, pool: str) -> list[str]:
    """Ids as the list of instances shows them."""
    found = site.ask("GET", f"/instance?manager-id={pool}")["instances"]
    return sorted(each["id"] for each in found)


def members(site: Site, pool: str) -> list[str]:
    """Ids as the pool shows them, the oldest first."""
    return [each["id"] for each in site.ask("GET", f"/instance-pool/{pool}")["instances"]]


def scale(site: Site, pool: str, size: int) -> Any:
    return site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": size})


@pytest.mark.parametrize(("status", "message"), [(400, "no"), (403, "locked"), (412, "quota")])
def test_a_refused_request_takes_no_effect(
    site: Site, pool: str, status: int, message: str
) -> None:
    site.add(Refusal(status=status, message=message), selector=Selector(operation="scale-*"))
    refused, _, body = site.send("PUT", f"/instance-pool/{pool}:scale", {"size": 3})
    assert (refused, json.loads(body)) == (status, {"message": message})
    site.cloud.settle()
    assert len(members(site, pool)) == 2


@pytest.mark.parametrize(
    "effect",
    [Drop(moment="after", failing_reads=2), ServerError(carried_out=True, failing_reads=2)],
    ids=lambda effect: str(effect.kind),
)
@pytest.mark.parametrize("action", ["scale", "evict"])
def test_the_answer_is_lost_the_work_done_and_the_reads_that_follow_fail(
    site: Site, pool: str, effect: Effect, action: str
) -> None:
    other = site.pool(1, name="other")
    operation = {"scale": "scale-instance-pool", "evict": "evict-instance-pool-members"}[action]
    body = {"size": 1} if action == "scale" else {"instances": members(site, pool)[1:]}
    site.add(effect, selector=Selector(operation=operation, pool="web"), timing=ONCE)
    scale(site, other, 2)
    try:
        assert site.send("PUT", f"/instance-pool/{pool}:{action}", body)[0] == 503
    except ConnectionError:
        assert isinstance(effect, Drop)
    assert site.send("GET", f"/instance-pool/{pool}")[0] == 503
    assert site.send("GET", "/instance")[0] == 503
    site.cloud.settle()
    assert len(members(site, pool)) == 1


def test_removing_the_fault_ends_the_reads_that_fail(site: Site, pool: str) -> None:
    armed = site.add(
        ServerError(failing_reads=5), selector=Selector(operation="scale-*"), timing=ONCE
    )
    assert site.send("PUT", f"/instance-pool/{pool}:scale", {"size": 3})[0] == 503
    assert site.send("GET", "/zone")[0] == 503
    site.remove(armed.id)
    assert site.send("GET", "/zone")[0] == 200


def test_a_list_lags_behind_its_pool_and_comes_after(site: Site, pool: str) -> None:
    before = listed(site, pool)
    site.add(Lag(behind_s=0.4), selector=Selector(operation="list-instances"))
    site.ask("GET", "/zone")
    scale(site, pool, 3)
    site.cloud.settle()
    assert len(members(site, pool)) == 3
    assert listed(site, pool) == before
    site.wait(lambda: listed(site, pool) == sorted(members(site, pool)))


def test_an_evicted_member_is_still_listed_for_a_while(site: Site, pool: str) -> None:
    before = members(site, pool)
    site.add(Lag(behind_s=0.4), selector=Selector(pool=pool, operation="list-instances"))
    body = {"instances": before[:1]}
    site.ask("PUT", f"/instance-pool/{pool}:evict", body)
    site.cloud.settle()
    assert site.send("GET", f"/instance/{before[0]}")[0] == 404
    assert listed(site, pool) == sorted(before)
    site.wait(lambda: listed(site, pool) == before[1:])


def test_a_pool_lags_behind_the_list_with_its_state(site: Site, pool: str) -> None:
    site.add(Lag(behind_s=60.0), selector=Selector(operation="get-instance-pool"))
    before = members(site, pool)
    site.servers.holds_boots = True
    scale(site, pool, 3)
    shown = site.ask("GET", f"/instance-pool/{pool}")
    assert (shown["state"], shown["size"], members(site, pool)) == ("running", 2, before)
    assert len(listed(site, pool)) == 3
    site.servers.holds_boots = False
    site.cloud.settle()
    site.clear()
    assert len(members(site, pool)) == 3


def test_the_health_of_members_lags_behind(site: Site, pool: str) -> None:
    nlb = site.ask("POST", "/load-balancer", {"name": "lb"})["reference"]["id"]
    site.cloud.settle()
    check = {"mode": "tcp", "port": 80, "interval": 10, "timeout": 5}
    service = {"name": "http", "instance-pool": {"id": pool}, "protocol": "tcp"}
    ports = {"strategy": "round-robin", "port": 80, "target-port": 80, "healthcheck": check}
    site.ask("POST", f"/load-balancer/{nlb}/service", service | ports)
    site.cloud.settle()

    def health() -> int:
        (balancer,) = site.ask("GET", "/load-balancer")["load-balancers"]
        return len(balancer["services"][0]["healthcheck-status"])

    site.add(Lag(behind_s=0.4), selector=Selector(operation="list-load-balancers"))
    assert health() == 2
    scale(site, pool, 3)
    site.cloud.settle()
    assert health() == 2
    site.wait(lambda: health() == 3)


def test_a_field_may_be_missing_from_all_that_is_listed_or_from_one(site: Site, pool: str) -> None:
    old, young = members(site, pool)
    armed = site.add(
        WrongField(field="created-at", of=old), selector=Selector(operation="list-instances")
    )
    found = {each["id"]: each for each in site.ask("GET", "/instance")["instances"]}
    assert ("created-at" in found[old], "created-at" in found[young]) == (False, True)
    site.remove(armed.id)
    site.add(WrongField(field="created-at"))
    assert not any("created-at" in each for each in site.ask("GET", "/instance")["instances"])


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("-1", -1), ("degraded", "degraded"), ('"7"', "7"), ("null", None), ("NaN", "NaN")],
)
def test_a_field_may_have_any_value(site: Site, pool: str, sent: str, shown: object) -> None:
    site.add(WrongField(field="size", value=sent), selector=Selector(operation="get-instance-*"))
    assert site.ask("GET", f"/instance-pool/{pool}")["size"] == shown


def test_fields_of_an_answer_that_is_no_object_stay(site: Site) -> None:
    site.add(WrongField(field="message", value="no"))
    assert json.loads(site.send("GET", "/nothing")[2]) == {"message": "no"}


@pytest.mark.parametrize(
    ("change", "size"),
    [("grow", 3), ("shrink", 1), ("evict", 1), ("delete", 2), ("protect", 2), ("update", 2)],
)
def test_somebody_else_changes_the_pool_between_two_requests(
    site: Site, pool: str, change: Any, size: int
) -> None:
    old, _ = members(site, pool)
    site.add(ForeignChange(change=change), timing=Timing(seed=1, after=1, count=1))
    path = f"/instance-pool/{pool}"
    assert site.ask("GET", path)["state"] == "running"
    seen = site.ask("GET", path)
    site.cloud.settle()
    states = {"grow": "scaling-up", "shrink": "scaling-down", "evict": "scaling-down"}
    assert seen["state"] == (states | {"update": "updating"}).get(change, "running")
    assert site.ask("GET", path)["size"] == size == len(members(site, pool))
    stays = change in {"grow", "protect", "update"}
    assert (old in members(site, pool)) is stays
    status, _, body = site.send("DELETE", f"/instance/{old}")
    if change == "protect":
        assert (status, b"manual instance protection" in body) == (403, True)


def test_a_foreign_change_that_is_refused_is_none_and_the_request_is_answered(site: Site) -> None:
    pool = site.pool(1)
    scale(site, pool, 0)
    site.cloud.settle()
    site.add(ForeignChange(change="evict"))
    assert site.ask("GET", f"/instance-pool/{pool}")["state"] == "running"


def test_the_faults_of_pools_meet_the_changes_of_others_too(site: Site, pool: str) -> None:
    site.add(ForeignChange(change="grow"), timing=ONCE)
    site.add(FallBack(delay_s=Duration(first=0.1)), selector=Selector(operation="scale-*"))
    site.ask("GET", f"/instance-pool/{pool}")
    site.wait(lambda: len(members(site, pool)) == 2)
    site.cloud.settle()
    assert len(site.servers.running) == 2

"""Load balancers: how services are made and changed, and how they follow their pool."""

from __future__ import annotations

from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIClientException

from exotide.cloud.api.world import Pace
from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.testing import FakeServers, running_cloud

from .conftest import Account


def test_a_member_that_fails_its_check_is_reported_so(
    account: Account, client: Any, balancers: FakeBalancers
) -> None:
    pool, nlb = account.pool(2), account.nlb()
    service = account.service(nlb, pool)
    sick, well = account.ips(pool)
    balancers.unhealthy.add(sick)
    shown = client.get_load_balancer_service(id=nlb, service_id=service)
    assert shown["healthcheck-status"] == [
        {"public-ip": sick, "status": "failure"},
        {"public-ip": well, "status": "success"},
    ]


def test_a_member_that_still_boots_is_reported_as_failing_and_gets_no_traffic(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    pool, nlb = account.pool(1), account.nlb()
    service = account.service(nlb, pool)
    servers.holds_boots = True
    operation = client.scale_instance_pool(id=pool, size=2)
    old, new = account.ips(pool)
    status = client.get_load_balancer(id=nlb)["services"][0]["healthcheck-status"]
    assert status[1] == {"public-ip": new, "status": "failure"}
    assert balancers.members[service] == [old]
    servers.holds_boots = False
    account.done(operation)
    assert balancers.members[service] == [old, new]


def test_balancers_that_lag_show_what_they_know_be_it_too_little_or_too_much(connect: Any) -> None:
    balancers = FakeBalancers(lags=True)
    with running_cloud(balancers=balancers) as cloud:
        account = Account(client=connect(url=cloud.url), cloud=cloud)
        pool, nlb = account.pool(2), account.nlb()
        service = account.service(nlb, pool)

        def statuses() -> dict[str, str]:
            shown = account.client.get_load_balancer_service(id=nlb, service_id=service)
            return {each["public-ip"]: each["status"] for each in shown["healthcheck-status"]}

        assert statuses() == {}
        sick, well = account.ips(pool)
        balancers.unhealthy.add(sick)
        balancers.check_all()
        assert statuses() == {sick: "failure", well: "success"}
        account.done(account.client.scale_instance_pool(id=pool, size=1))
        assert statuses() == {sick: "failure", well: "success"}
        balancers.check_all()
        assert list(statuses()) == account.ips(pool)


@pytest.mark.parametrize("lags", [False, True])
def test_a_server_that_stops_is_drained_unless_its_balancer_lags(connect: Any, lags: bool) -> None:
    balancers = FakeBalancers(lags=lags)
    with running_cloud(balancers=balancers) as cloud:
        account = Account(client=connect(url=cloud.url), cloud=cloud)
        pool = account.pool(2)
        account.service(account.nlb(), pool)
        (victim, _) = account.ips(pool)
        account.done(account.client.scale_instance_pool(id=pool, size=1))
        assert balancers.awaited == ([] if lags else [victim])


def test_the_speed_divides_the_pause_between_checks_only(connect: Any) -> None:
    balancers = FakeBalancers()
    with running_cloud(balancers=balancers, pace=Pace(speed=5)) as cloud:
        account = Account(client=connect(url=cloud.url), cloud=cloud)
        nlb = account.nlb()
        service = account.service(nlb, account.pool(1))
        check = balancers.services[nlb][service].healthcheck
        assert (check.interval_s, check.timeout_s, check.retries) == (2.0, 2.0, 1)
        shown = account.client.get_load_balancer_service(id=nlb, service_id=service)
        assert shown["healthcheck"]["interval"] == 10


def test_a_service_is_changed_in_place_and_keeps_its_members(
    account: Account, client: Any, balancers: FakeBalancers
) -> None:
    pool, nlb = account.pool(2), account.nlb()
    service = account.service(nlb, pool)
    account.done(
        client.update_load_balancer_service(
            id=nlb,
            service_id=service,
            protocol="tcp",
            strategy="source-hash",
            port=8000,
            healthcheck={"mode": "tcp", "port": 8081, "interval": 20},
        )
    )
    shown = client.get_load_balancer_service(id=nlb, service_id=service)
    assert (shown["port"], shown["target-port"], shown["strategy"]) == (8000, 8080, "source-hash")
    assert shown["healthcheck"] == (
        {"mode": "tcp", "port": 8081, "interval": 20, "timeout": 2, "retries": 1}
    )
    assert balancers.members[service] == account.ips(pool)


def test_names_and_ports_are_taken_once(account: Account, client: Any) -> None:
    pool, nlb = account.pool(1), account.nlb()
    account.service(nlb, pool)
    with pytest.raises(ExoscaleAPIClientException, match="load balancer lb already exists"):
        client.create_load_balancer(name="lb")
    with pytest.raises(ExoscaleAPIClientException, match="service http already exists"):
        account.service(nlb, pool, port=81)
    with pytest.raises(ExoscaleAPIClientException, match="port 80 is in use by service http"):
        account.service(nlb, pool, name="other")
    for number in range(9):
        account.service(nlb, pool, name=f"s{number}", port=8000 + number)
    with pytest.raises(ExoscaleAPIClientException, match="services per load balancer limit is 10"):
        account.service(nlb, pool, name="eleventh", port=9000)


def test_a_balancer_or_service_that_cannot_be_made_leaves_nothing(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    balancers.fail_next_call("no haproxy")
    ended = account.settled(client.create_load_balancer(name="lb"))
    assert (ended["state"], ended["message"]) == ("failure", "no haproxy")
    assert client.list_load_balancers()["load-balancers"] == []
    assert servers.reserved == frozenset()
    nlb, pool = account.nlb(), account.pool(1)
    balancers.fail_next_call()
    with pytest.raises(AssertionError, match="failure"):
        account.service(nlb, pool)
    assert client.get_load_balancer(id=nlb)["services"] == []
    account.service(nlb, pool)


def test_deleting_a_balancer_frees_its_pool_and_address(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    pool, nlb = account.pool(1), account.nlb()
    account.service(nlb, pool)
    account.done(client.delete_load_balancer(id=nlb))
    account.done(client.delete_instance_pool(id=pool))
    assert (balancers.addresses, servers.reserved) == ({}, frozenset())


def test_the_quota_of_balancers_holds(account: Account, client: Any) -> None:
    for number in range(5):
        account.nlb(f"lb{number}")
    with pytest.raises(ExoscaleAPIClientException, match="quota exceeded: network-load-balancer"):
        client.create_load_balancer(name="sixth")


def test_members_that_the_driver_refused_are_told_again_until_it_takes_them(connect: Any) -> None:
    balancers = FakeBalancers()
    with running_cloud(balancers=balancers, pace=Pace(retry_s=0.001)) as cloud:
        account = Account(client=connect(url=cloud.url), cloud=cloud)
        pool, nlb = account.pool(1), account.nlb()
        service = account.service(nlb, pool)
        for _ in range(3):
            balancers.fail_next_members()
        account.done(account.client.scale_instance_pool(id=pool, size=2))
        assert balancers.members[service] == account.ips(pool)


def test_a_service_that_the_driver_does_not_change_stays_what_it_was(
    account: Account, client: Any, balancers: FakeBalancers
) -> None:
    nlb = account.nlb()
    service = account.service(nlb, account.pool(1))
    before = client.get_load_balancer_service(id=nlb, service_id=service)
    balancers.fail_next_call("no proxy")
    ended = account.settled(
        client.update_load_balancer_service(
            id=nlb, service_id=service, protocol="tcp", strategy="source-hash", port=8000
        )
    )
    assert (ended["state"], ended["reason"]) == ("failure", "fault")
    assert client.get_load_balancer_service(id=nlb, service_id=service) == before

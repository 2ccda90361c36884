"""What pools do, and what they refuse."""

from __future__ import annotations

import time
from typing import Any

import pytest

from exotide.cloud.api.world import Pace
from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.testing import FakeServers, running_cloud

from .conftest import Account, refused


def test_shrinking_removes_the_oldest_members_first(account: Account, client: Any) -> None:
    pool = account.pool(1)
    for size in (2, 3, 4):
        account.done(client.scale_instance_pool(id=pool, size=size))
    before = account.members(pool)
    account.done(client.scale_instance_pool(id=pool, size=2))
    assert account.members(pool) == before[2:]


def test_scaling_to_the_same_size_succeeds_and_changes_nothing(
    account: Account, client: Any
) -> None:
    pool = account.pool(2)
    before = client.get_instance_pool(id=pool)
    account.done(client.scale_instance_pool(id=pool, size=2))
    assert client.get_instance_pool(id=pool) == before


def test_a_pool_can_be_scaled_to_zero_and_back(account: Account, client: Any) -> None:
    pool = account.pool(2)
    account.done(client.scale_instance_pool(id=pool, size=0))
    assert account.members(pool) == []
    account.done(client.scale_instance_pool(id=pool, size=1))
    assert len(account.members(pool)) == 1


def test_evicting_removes_exactly_the_named_and_makes_no_replacement(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(4)
    first, second, third, fourth = account.members(pool)
    account.done(client.evict_instance_pool_members(id=pool, instances=[second, fourth]))
    assert account.members(pool) == [first, third]
    assert set(servers.running) == {first, third}


def test_evicting_a_stranger_is_refused_and_nobody_goes(account: Account, client: Any) -> None:
    pool, stranger = account.pool(2), account.instance()
    with refused(400, "instances: expected members of instance pool"):
        client.evict_instance_pool_members(id=pool, instances=[account.members(pool)[0], stranger])
    with refused(400, "instances: missing"):
        client.evict_instance_pool_members(id=pool, instances=[])
    assert len(account.members(pool)) == 2


def test_a_deleted_member_is_replaced_and_drained_before_its_server_stops(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    pool = account.pool(2)
    service = account.service(account.nlb(), pool)
    victim, other = account.members(pool)
    account.done(client.delete_instance(id=victim))
    members = account.members(pool)
    assert len(members) == 2
    assert other in members
    assert victim not in members
    assert sorted(balancers.members[service]) == sorted(account.ips(pool))
    assert servers.stopped == [(victim, 60.0)]
    with refused(404, "instance not found"):
        client.get_instance(id=victim)


def test_a_member_whose_server_dies_is_replaced_in_one_step(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    pool = account.pool(2)
    service = account.service(account.nlb(), pool)
    victim = account.members(pool)[0]
    servers.kill(victim)
    for member in account.members(pool):
        assert client.get_instance(id=member)["manager"]["id"] == pool
    account.cloud.settle()
    assert victim not in account.members(pool)
    assert len(account.members(pool)) == 2
    assert sorted(balancers.members[service]) == sorted(account.ips(pool))
    assert len(servers.reserved) == 3


def test_a_replacement_that_does_not_boot_is_tried_again(
    servers: FakeServers, balancers: FakeBalancers, connect: Any
) -> None:
    pace = Pace(retry_s=0.01)
    with running_cloud(servers=servers, balancers=balancers, pace=pace) as cloud:
        client = connect(url=cloud.url)
        account = Account(client=client, cloud=cloud)
        pool = account.pool(1)
        servers.fail_next_start(times=3)
        servers.kill(account.members(pool)[0])
        cloud.settle()
        (member,) = account.members(pool)
        assert client.get_instance(id=member)["state"] == "running"
        assert set(servers.running) == {member}
        assert len(servers.reserved) == 1


def test_a_pool_that_cannot_be_made_leaves_nothing(
    account: Account, client: Any, servers: FakeServers
) -> None:
    servers.fail_next_start("no kernel")
    ended = account.settled(account.order_pool(3))
    assert (ended["state"], ended["reason"]) == ("failure", "fault")
    assert ended["message"] == "no kernel"
    assert client.list_instance_pools()["instance-pools"] == []
    assert client.list_instances()["instances"] == []
    assert (servers.running, servers.reserved) == ({}, frozenset())


def test_growing_keeps_the_members_that_booted_and_says_that_it_failed_in_part(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(1)
    servers.fail_next_start()
    ended = account.settled(client.scale_instance_pool(id=pool, size=3))
    assert (ended["state"], ended["reason"]) == ("failure", "partial")
    shown = client.get_instance_pool(id=pool)
    assert (shown["state"], shown["size"], len(shown["instances"])) == ("running", 2, 2)
    assert set(servers.running) == set(account.members(pool))


def test_a_member_may_be_deleted_while_the_pool_grows(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(1)
    servers.holds_boots = True
    operation = client.scale_instance_pool(id=pool, size=2)
    booting = account.members(pool)[1]
    assert client.get_instance(id=booting)["state"] == "starting"
    client.delete_instance(id=booting)
    assert booting not in account.members(pool)
    servers.holds_boots = False
    account.done(operation)
    assert set(servers.running) == set(account.members(pool))
    assert len(account.members(pool)) == 2


@pytest.mark.parametrize("change", ["scale", "evict", "update", "delete"])
def test_a_pool_that_changes_refuses_the_next_change_as_busy(
    change: str, account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(2)
    servers.holds_boots = True
    operation = client.scale_instance_pool(id=pool, size=3)
    shown = client.get_instance_pool(id=pool)
    assert (shown["state"], len(shown["instances"])) == ("scaling-up", 3)
    calls = {
        "scale": lambda: client.scale_instance_pool(id=pool, size=4),
        "evict": lambda: client.evict_instance_pool_members(
            id=pool, instances=account.members(pool)[:1]
        ),
        "update": lambda: client.update_instance_pool(id=pool, name="other"),
        "delete": lambda: client.delete_instance_pool(id=pool),
    }
    with refused(409, "is busy: its state is scaling-up"):
        calls[change]()
    servers.holds_boots = False
    account.done(operation)
    assert client.get_instance_pool(id=pool)["state"] == "running"
    assert len(account.members(pool)) == 3


def test_an_operation_stays_pending_as_long_as_the_pace_says(
    servers: FakeServers, balancers: FakeBalancers, connect: Any
) -> None:
    pace = Pace(operation_delay_s=0.3)
    with running_cloud(servers=servers, balancers=balancers, pace=pace) as cloud:
        account = Account(client=connect(url=cloud.url), cloud=cloud)
        began = time.monotonic()
        account.done(account.client.create_security_group(name="web"))
        assert time.monotonic() - began >= 0.3


def test_the_instance_quota_holds_for_pools_and_single_instances(
    account: Account, client: Any
) -> None:
    account.instance()
    pool = account.pool(1)
    with refused(412, "quota exceeded: instance limit is 20, 2 in use, 19 more wanted"):
        client.scale_instance_pool(id=pool, size=20)
    shown = client.get_instance_pool(id=pool)
    assert (shown["state"], shown["size"]) == ("running", 1)
    account.done(client.scale_instance_pool(id=pool, size=19))
    with refused(412, "quota exceeded"):
        account.order_instance()
    with refused(412, "quota exceeded"):
        account.order_pool(1)


def test_a_full_quota_does_not_stop_healing(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(20)
    servers.kill(account.members(pool)[0])
    account.cloud.settle()
    assert len(servers.running) == 20


def test_no_scale_goes_below_min_available(account: Account, client: Any) -> None:
    pool = account.pool(3, min_available=2)
    with refused(400, r"size: expected at least min-available \(2\), got: 1"):
        client.scale_instance_pool(id=pool, size=1)
    with refused(400, "min-available"):
        client.evict_instance_pool_members(id=pool, instances=account.members(pool)[:2])
    account.done(client.scale_instance_pool(id=pool, size=2))


def test_a_pool_in_use_by_a_service_cannot_be_deleted(account: Account, client: Any) -> None:
    pool, nlb = account.pool(1), account.nlb()
    service = account.service(nlb, pool)
    with refused(409, "in use by service http of load balancer lb; delete that service first"):
        client.delete_instance_pool(id=pool)
    account.done(client.delete_load_balancer_service(id=nlb, service_id=service))
    account.done(client.delete_instance_pool(id=pool))


def test_an_update_counts_for_future_members_only(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(1, labels={"role": "member"}, description="old", user_data="b2xk")
    old = account.members(pool)[0]
    account.done(client.update_instance_pool(id=pool, user_data="bmV3", labels={"role": "other"}))
    account.done(client.scale_instance_pool(id=pool, size=2))
    new = account.members(pool)[1]
    assert (servers.running[old].user_data, servers.running[new].user_data) == (b"old", b"new")
    assert client.get_instance(id=old)["labels"] == {"role": "member"}
    assert client.get_instance(id=new)["labels"] == {"role": "other"}
    assert client.get_instance_pool(id=pool)["description"] == "old"


def test_in_an_update_null_leaves_and_an_empty_list_clears(account: Account, client: Any) -> None:
    group = account.done(client.create_security_group(name="web"))
    pool = account.pool(1, security_groups=[{"id": group}])
    account.done(client.update_instance_pool(id=pool, security_groups=None, ssh_keys=None))
    assert client.get_instance_pool(id=pool)["security-groups"] == [{"id": group}]
    account.done(client.update_instance_pool(id=pool, security_groups=[], ssh_key={"name": ""}))
    assert "security-groups" not in client.get_instance_pool(id=pool)


def test_a_stopped_member_stays_a_member_but_gets_no_traffic(
    account: Account, client: Any, balancers: FakeBalancers
) -> None:
    pool = account.pool(2)
    service = account.service(account.nlb(), pool)
    member = account.members(pool)[0]
    account.done(client.stop_instance(id=member))
    assert len(account.members(pool)) == 2
    assert balancers.members[service] == account.ips(pool)[1:]
    account.done(client.start_instance(id=member))
    assert balancers.members[service] == account.ips(pool)


def test_a_stopped_member_that_does_not_start_again_is_replaced(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(2)
    member = account.members(pool)[0]
    account.done(client.stop_instance(id=member))
    servers.fail_next_start()
    assert account.settled(client.start_instance(id=member))["state"] == "failure"
    assert member not in account.members(pool)
    assert set(servers.running) == set(account.members(pool))
    assert len(servers.running) == 2


def test_a_member_that_dies_before_its_boot_is_known_is_replaced(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(1)
    servers.holds_boots = True
    operation = client.scale_instance_pool(id=pool, size=2)
    booting = account.members(pool)[1]
    servers.dies_at_boot.add(booting)
    servers.holds_boots = False
    account.done(operation)
    assert booting not in account.members(pool)
    assert set(servers.running) == set(account.members(pool))
    assert len(servers.running) == 2

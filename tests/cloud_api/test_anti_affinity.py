"""Anti-affinity groups: at most eight instances, and who is in one."""

from __future__ import annotations

from typing import Any

import pytest

from .asgi import INSTANCE, POOL, LocalApi
from .conftest import Account, refused

GROUPS = "/v2/anti-affinity-group"


def instances_of(client: Any, group: str) -> list[str]:
    shown = client.get_anti_affinity_group(id=group)
    return [instance["id"] for instance in shown["instances"]]


@pytest.fixture
def group(account: Account, client: Any) -> str:
    return account.done(client.create_anti_affinity_group(name="apart", description="d"))


def test_a_group_lists_its_instances_in_pools_and_alone(
    account: Account, client: Any, group: str
) -> None:
    alone = account.instance(anti_affinity_groups=[{"id": group}])
    pool = account.pool(2, anti_affinity_groups=[{"id": group}])
    account.instance()
    shown = client.get_anti_affinity_group(id=group)
    assert (shown["name"], shown["description"]) == ("apart", "d")
    assert client.list_anti_affinity_groups()["anti-affinity-groups"] == [shown]
    assert instances_of(client, group) == [alone, *account.members(pool)]
    for found in (client.get_instance(id=alone), client.get_instance_pool(id=pool)):
        assert found["anti-affinity-groups"] == [{"id": group}]


def test_its_name_is_taken_and_one_in_use_stays(account: Account, client: Any, group: str) -> None:
    with refused(409, "anti-affinity group apart already exists"):
        client.create_anti_affinity_group(name="apart")
    pool = account.pool(1, anti_affinity_groups=[{"id": group}])
    with refused(409, "anti-affinity group apart is in use by instance pool web"):
        client.delete_anti_affinity_group(id=group)
    account.done(client.update_instance_pool(id=pool, anti_affinity_groups=[]))
    with refused(409, "anti-affinity group apart is in use by instance pool-"):
        client.delete_anti_affinity_group(id=group)
    account.done(client.delete_instance_pool(id=pool))
    account.done(client.delete_anti_affinity_group(id=group))
    with refused(404, "anti-affinity group not found"):
        client.get_anti_affinity_group(id=group)


def test_the_ninth_instance_is_refused_and_nothing_of_it_is_left(
    account: Account, client: Any, group: str
) -> None:
    pool = account.pool(7, anti_affinity_groups=[{"id": group}])
    with refused(412, "instances in anti-affinity group apart limit is 8, 8 in use, 1 more wanted"):
        client.scale_instance_pool(id=pool, size=9)
    assert len(account.members(pool)) == len(instances_of(client, group)) == 7
    account.done(client.scale_instance_pool(id=pool, size=8))
    with refused(412, "limit is 8, 8 in use"):
        account.order_instance(anti_affinity_groups=[{"id": group}])
    with refused(412, "limit is 8, 8 in use"):
        account.order_pool(1, anti_affinity_groups=[{"id": group}])
    assert len(client.list_instances()["instances"]) == 8


def test_a_full_group_still_heals(account: Account, client: Any, group: str, servers: Any) -> None:
    pool = account.pool(8, anti_affinity_groups=[{"id": group}])
    first, second, *_ = account.members(pool)
    servers.kill(first)
    account.cloud.settle()
    account.done(client.delete_instance(id=second))
    members = account.members(pool)
    assert len(members) == 8
    assert not {first, second} & set(members)
    assert sorted(instances_of(client, group)) == sorted(members)


def test_a_member_that_cannot_be_replaced_is_not_deleted(api: LocalApi) -> None:
    group = api.make(GROUPS, {"name": "full"})
    apart = {"anti-affinity-groups": [{"id": group}]}
    for _ in range(8):
        api.make("/v2/instance", INSTANCE | apart)
    pool = api.make("/v2/instance-pool", POOL)
    api.done("PUT", f"/v2/instance-pool/{pool}", apart)
    (member,) = api.world.pools[pool].members
    answer = api.call("DELETE", f"/v2/instance/{member}")
    assert (answer.status, "limit is 8" in answer.body["message"]) == (412, True)
    api.settle()
    assert api.show(f"/v2/instance/{member}")["state"] == "running"
    assert api.world.pools[pool].members == [member]


def test_an_instance_in_error_needs_room_to_come_back(api: LocalApi) -> None:
    group = api.make(GROUPS, {"name": "full"})
    apart = {"anti-affinity-groups": [{"id": group}]}
    lost = api.make("/v2/instance", INSTANCE | apart)
    api.done("PUT", f"/v2/instance/{lost}:stop")
    api.servers.fail_next_start()
    api.call("PUT", f"/v2/instance/{lost}:start")
    api.settle()
    assert api.show(f"/v2/instance/{lost}")["state"] == "error"
    others = [api.make("/v2/instance", INSTANCE | apart) for _ in range(8)]
    assert api.call("PUT", f"/v2/instance/{lost}:start").status == 412
    api.done("DELETE", f"/v2/instance/{others[0]}")
    api.done("PUT", f"/v2/instance/{lost}:start")
    assert api.show(f"/v2/instance/{lost}")["state"] == "running"

"""
The example stack in the hands of the official Terraform provider.

One stack serves all tests of this file. Each test says with which variables it wants the stack to
be, and every test leaves the cloud as its last apply made it, so the order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client

from exotide.cloud.testing import FakeServers, RunningCloud
from exotide.realtools.terraform import Workspace
from tests.sdk import done

PARTS = 17
"""Resources of the example, each rule counted."""


@pytest.fixture(scope="module")
def stack(workspace: Callable[..., Workspace], cloud: RunningCloud) -> Iterator[Workspace]:
    made = workspace("stack.tf", "key.tf")
    made.apply()
    yield made
    made.destroy()
    assert made.resources() == {}
    world = cloud.cloud.world
    assert not world.pools
    assert not world.instances
    assert not world.load_balancers
    assert not world.security_groups
    assert not world.ssh_keys
    assert isinstance(cloud.servers, FakeServers)
    assert not cloud.servers.running
    assert not cloud.servers.reserved


def members(client: Any, stack: Workspace) -> list[str]:
    pool = client.get_instance_pool(id=stack.outputs()["pool_id"])
    return [each["id"] for each in pool["instances"]]


def test_what_was_applied_needs_no_change_and_is_what_the_sdk_sees(
    stack: Workspace, client: Any
) -> None:
    stack.apply()
    plan = stack.plan()
    assert plan.is_empty, plan.text
    assert len([key for key in stack.resources() if not key.startswith("data.")]) == PARTS
    outputs = stack.outputs()
    (balancer,) = client.list_load_balancers()["load-balancers"]
    assert balancer["ip"] == outputs["address"]
    assert [service["name"] for service in balancer["services"]] == ["app"]
    assert set(outputs["zones"]) == {each["name"] for each in client.list_zones()["zones"]}
    pool = client.get_instance_pool(id=outputs["pool_id"])
    assert (pool["name"], pool["labels"]) == ("members", {"role": "member"})


def test_a_pool_scaled_by_somebody_else_is_no_reason_for_a_change(
    stack: Workspace, client: Any
) -> None:
    stack.apply()
    pool = stack.outputs()["pool_id"]
    for size in (3, 2):
        done(client, client.scale_instance_pool(id=pool, size=size))
        plan = stack.plan()
        assert plan.is_empty, plan.text
    stack.apply()
    assert len(members(client, stack)) == 2


def test_a_member_that_dies_is_healed_and_terraform_sees_no_change(
    stack: Workspace, client: Any, cloud: RunningCloud
) -> None:
    stack.apply()
    lost = members(client, stack)[0]
    assert isinstance(cloud.servers, FakeServers)
    cloud.servers.kill(lost)
    cloud.settle()
    assert lost not in members(client, stack)
    plan = stack.plan()
    assert plan.is_empty, plan.text


def test_a_change_of_the_port_replaces_rules_and_updates_the_service(
    stack: Workspace, client: Any
) -> None:
    stack.apply()
    plan = stack.plan(app_port=9000)
    replaced = ["delete", "create"]
    assert plan.actions == {
        "exoscale_security_group_rule.app": replaced,
        "exoscale_security_group_rule.health_checks": replaced,
        "exoscale_nlb_service.app": ["update"],
    }
    stack.apply(app_port=9000)
    assert stack.plan(app_port=9000).is_empty
    (service,) = client.list_load_balancers()["load-balancers"][0]["services"]
    assert (service["target-port"], service["healthcheck"]["port"]) == (9000, 9000)
    groups = client.list_security_groups()["security-groups"]
    (rules,) = [group["rules"] for group in groups if group["name"] == "members"]
    assert sorted(rule["start-port"] for rule in rules if rule["protocol"] == "tcp") == [
        9000,
        9000,
        9100,
    ]


def test_a_change_of_the_check_updates_the_service_alone(stack: Workspace, client: Any) -> None:
    stack.apply()
    plan = stack.plan(check_interval_s=20)
    assert plan.actions == {"exoscale_nlb_service.app": ["update"]}
    stack.apply(check_interval_s=20)
    assert stack.plan(check_interval_s=20).is_empty
    (service,) = client.list_load_balancers()["load-balancers"][0]["services"]
    assert service["healthcheck"]["interval"] == 20


def test_new_user_data_and_a_new_type_reach_new_members_only(stack: Workspace, client: Any) -> None:
    stack.apply()
    before = members(client, stack)
    wanted = {"release": "second", "member_type": "standard.small"}
    assert stack.plan(**wanted).actions == {"exoscale_instance_pool.members": ["update"]}
    stack.apply(**wanted)
    assert stack.plan(**wanted).is_empty
    assert members(client, stack) == before
    done(
        client,
        client.scale_instance_pool(id=stack.outputs()["pool_id"], size=len(before) + 1),
    )
    fresh = members(client, stack)[-1]
    old, new = (client.get_instance(id=key) for key in (before[0], fresh))
    assert old["user-data"] != new["user-data"]
    assert new["instance-type"]["id"] != old["instance-type"]["id"]
    assert stack.plan(**wanted).is_empty


def test_a_server_changes_its_type_and_keeps_its_address(stack: Workspace, client: Any) -> None:
    stack.apply()
    before = stack.resources()["exoscale_compute_instance.monitoring"]
    wanted = {"monitoring_type": "standard.medium"}
    assert stack.plan(**wanted).actions == {"exoscale_compute_instance.monitoring": ["update"]}
    stack.apply(**wanted)
    assert stack.plan(**wanted).is_empty
    after = stack.resources()["exoscale_compute_instance.monitoring"]
    assert after["type"] == "standard.medium"
    assert after["id"] == before["id"]
    assert after["public_ip_address"] == before["public_ip_address"]
    assert client.get_instance(id=after["id"])["state"] == "running"


IMPORTED = {
    "exoscale_instance_pool.members": "{id}@at-vie-1",
    "exoscale_compute_instance.monitoring": "{id}@at-vie-1",
    "exoscale_nlb.entry": "{id}@at-vie-1",
    "exoscale_nlb_service.app": "{nlb_id}/{id}@at-vie-1",
    "exoscale_security_group.members": "{id}",
    "exoscale_anti_affinity_group.members": "{id}",
    "exoscale_iam_role.autoscaler": "{id}",
}
UNREAD = {
    "exoscale_instance_pool.members": {"anti_affinity_group_ids"},
    "exoscale_compute_instance.monitoring": {"private", "private_network_ids"},
}
"""What this provider does not read when it imports, whatever the cloud answers."""


def test_what_terraform_forgot_can_be_imported_and_needs_no_change(stack: Workspace) -> None:
    stack.apply()
    before = stack.resources()
    stack.run("state", "rm", *IMPORTED)
    for address, form in IMPORTED.items():
        stack.run("import", "-no-color", address, form.format(**before[address]))
    plan = stack.plan()
    assert plan.attributes == UNREAD, plan.text
    stack.apply()
    assert stack.plan().is_empty
    after = stack.resources()
    assert {key: after[key]["id"] for key in IMPORTED} == {
        key: before[key]["id"] for key in IMPORTED
    }


def test_what_somebody_deleted_is_made_again(stack: Workspace, client: Any) -> None:
    stack.apply()
    (balancer,) = client.list_load_balancers()["load-balancers"]
    done(client, client.delete_load_balancer(id=balancer["id"]))
    assert stack.plan().actions == {
        "exoscale_nlb.entry": ["create"],
        "exoscale_nlb_service.app": ["create"],
    }
    stack.apply()
    assert stack.plan().is_empty


def test_the_key_of_the_stack_may_scale_its_pool_and_nothing_else(
    stack: Workspace, cloud: RunningCloud
) -> None:
    stack.apply()
    outputs = stack.outputs()
    client = Client(outputs["autoscaler_key"], outputs["autoscaler_secret"], url=cloud.url)
    done(client, client.scale_instance_pool(id=outputs["pool_id"], size=2))
    with pytest.raises(ExoscaleAPIAuthException, match="list-instance-pools"):
        client.list_instance_pools()
    client.http_client.close()

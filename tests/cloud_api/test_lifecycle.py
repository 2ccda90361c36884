"""The whole life of a stack through the official SDK, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIClientException

from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.testing import FakeServers

from .conftest import Account

PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb6hVJ3v0cFq0Ws0vMvFnGvXaP0CqHqOSVnKpMcX0mP me@here"
)


def test_a_stack_is_made_scaled_and_removed_to_nothing(
    account: Account, client: Any, servers: FakeServers, balancers: FakeBalancers
) -> None:
    group = account.done(client.create_security_group(name="web", description="members"))
    rule = {"flow_direction": "ingress", "protocol": "tcp", "start_port": 8080, "end_port": 8080}
    done = account.done(client.add_rule_to_security_group(id=group, network="0.0.0.0/0", **rule))
    assert done == group
    account.done(client.register_ssh_key(name="me", public_key=PUBLIC_KEY))

    pool = account.pool(
        1,
        description="members",
        instance_prefix="web",
        labels={"role": "member"},
        security_groups=[{"id": group}],
        ssh_key={"name": "me"},
        user_data="I2Nsb3VkLWNvbmZpZwo=",
    )
    nlb = account.nlb()
    service = account.service(nlb, pool)
    monitoring = account.instance(labels={"role": "monitoring"}, security_groups=[{"id": group}])

    shown = client.get_instance_pool(id=pool)
    assert shown["state"] == "running"
    assert (shown["size"], len(shown["instances"])) == (1, 1)
    assert shown["user-data"] == "I2Nsb3VkLWNvbmZpZwo="
    member = client.get_instance(id=shown["instances"][0]["id"])
    assert member["name"].startswith(f"web-{pool[:5]}-")
    assert member["manager"] == {"id": pool, "type": "instance-pool"}
    assert member["state"] == "running"
    assert member["ssh-keys"] == [{"name": "me"}]
    assert servers.running[member["id"]].user_data == b"#cloud-config\n"
    assert servers.running[member["id"]].labels == {"role": "member"}

    account.done(client.scale_instance_pool(id=pool, size=3))
    assert sorted(balancers.members[service]) == sorted(account.ips(pool))
    status = client.get_load_balancer(id=nlb)["services"][0]["healthcheck-status"]
    assert status == [{"public-ip": ip, "status": "success"} for ip in account.ips(pool)]
    managed = client.list_instances(manager_id=pool, manager_type="instance-pool")["instances"]
    assert {each["id"] for each in managed} == set(account.members(pool))

    account.done(client.delete_load_balancer_service(id=nlb, service_id=service))
    account.done(client.delete_load_balancer(id=nlb))
    account.done(client.delete_instance_pool(id=pool))
    account.done(client.delete_instance(id=monitoring))
    account.done(client.delete_security_group(id=group))
    account.done(client.delete_ssh_key(name="me"))
    assert client.list_instances()["instances"] == []
    assert client.list_instance_pools()["instance-pools"] == []
    assert client.list_load_balancers()["load-balancers"] == []
    assert client.list_security_groups()["security-groups"] == []
    assert client.list_ssh_keys()["ssh-keys"] == []
    assert (servers.running, servers.reserved, balancers.addresses) == ({}, frozenset(), {})


def test_the_sdk_waits_for_an_operation_until_it_succeeds(account: Account, client: Any) -> None:
    operation = account.order_pool(1)
    account.cloud.settle()
    assert client.wait(operation["id"])["state"] == "success"


def test_resources_of_one_zone_are_unknown_in_another(
    account: Account, connect: Any, client: Any
) -> None:
    pool = account.pool(1)
    elsewhere = connect(url=account.cloud.url.replace("at-vie-1", "ch-gva-2"))
    assert elsewhere.list_instance_pools()["instance-pools"] == []
    assert elsewhere.list_instances()["instances"] == []
    with pytest.raises(ExoscaleAPIClientException, match="instance pool not found"):
        elsewhere.scale_instance_pool(id=pool, size=2)
    default_zone = connect(url=f"http://127.0.0.1:{account.cloud.access.port}/v2")
    assert default_zone.get_instance_pool(id=pool)["id"] == pool


def test_groups_keys_and_types_are_the_same_in_all_zones(
    account: Account, connect: Any, client: Any
) -> None:
    account.done(client.create_security_group(name="web"))
    elsewhere = connect(url=account.cloud.url.replace("at-vie-1", "ch-gva-2"))
    assert [each["name"] for each in elsewhere.list_security_groups()["security-groups"]] == ["web"]
    assert elsewhere.list_instance_types() == client.list_instance_types()


def test_the_debian_template_is_found_by_its_name(client: Any) -> None:
    names = [each["name"] for each in client.list_templates(visibility="public")["templates"]]
    assert "Linux Debian 12 (Bookworm) 64-bit" in names
    assert client.list_templates(visibility="private") == {"templates": []}


def test_quotas_tell_limit_and_usage(account: Account, client: Any) -> None:
    account.pool(3)
    assert client.get_quota(entity="instance") == {"resource": "instance", "usage": 3, "limit": 20}
    quotas = {each["resource"]: each["limit"] for each in client.list_quotas()["quotas"]}
    assert quotas["network-load-balancer"] == 5


def test_a_security_group_in_use_cannot_be_deleted(account: Account, client: Any) -> None:
    group = account.done(client.create_security_group(name="web"))
    account.instance(security_groups=[{"id": group}])
    with pytest.raises(ExoscaleAPIClientException, match="in use by instance mon") as refused:
        client.delete_security_group(id=group)
    assert refused.value.response.status_code == 409


def test_rules_are_echoed_exactly_and_public_sources_have_no_id(
    account: Account, client: Any
) -> None:
    group = account.done(client.create_security_group(name="web"))
    sent: list[dict[str, Any]] = [
        {"flow-direction": "ingress", "protocol": "tcp", "start-port": 80, "end-port": 81}
        | {"network": "0.0.0.0/0", "description": "http"},
        {"flow-direction": "egress", "protocol": "icmp", "network": "::/0"}
        | {"icmp": {"type": 8, "code": 0}},
        {"flow-direction": "ingress", "protocol": "tcp", "start-port": 8080, "end-port": 8080}
        | {
            "security-group": {"name": "public-nlb-healthcheck-sources", "visibility": "public"},
        },
    ]
    for rule in sent:
        arguments = {name.replace("-", "_"): value for name, value in rule.items()}
        account.done(client.add_rule_to_security_group(id=group, **arguments))
    shown = client.get_security_group(id=group)["rules"]
    assert [{k: v for k, v in rule.items() if k != "id"} for rule in shown] == sent
    account.done(client.delete_rule_from_security_group(id=group, rule_id=shown[0]["id"]))
    assert client.get_security_group(id=group)["rules"] == shown[1:]

"""What the agents and the stack rely on, in any cloud that calls itself Exoscale."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException, ExoscaleAPIClientException
from exoscale.api.v2 import Client

from .site import DISK_GIB, Site


def status_of(error: pytest.ExceptionInfo[ExoscaleAPIClientException]) -> int:
    return int(error.value.response.status_code)


@pytest.fixture
def service(site: Site, balancer: str, pool: str) -> Iterator[str]:
    client = site.client
    site.done(
        client.add_service_to_load_balancer(
            id=balancer,
            name=f"{site.prefix}-service",
            instance_pool={"id": pool},
            protocol="tcp",
            strategy="round-robin",
            port=80,
            target_port=site.open_port,
            healthcheck={"mode": "tcp", "port": site.open_port, "interval": 5, "timeout": 2},
        )
    )
    (made,) = client.get_load_balancer(id=balancer)["services"]
    yield made["id"]
    site.done(client.delete_load_balancer_service(id=balancer, service_id=made["id"]))


def health(site: Site, balancer: str) -> dict[str, str]:
    (service,) = site.client.get_load_balancer(id=balancer)["services"]
    return {each["public-ip"]: each["status"] for each in service["healthcheck-status"]}


def test_the_zones_can_be_listed_with_their_endpoints(site: Site) -> None:
    zones = {each["name"]: each for each in site.client.list_zones()["zones"]}
    assert site.zone in zones
    assert zones[site.zone]["api-endpoint"].endswith("/v2")


def test_a_change_answers_an_operation_that_ends_with_the_same_reference(site: Site) -> None:
    client = site.client
    begun = client.create_security_group(name=f"{site.prefix}-shape", description="a shape")
    assert begun["state"] in {"pending", "success"}
    assert set(begun["reference"]) >= {"id", "link", "command"}
    ended = site.ended(begun)
    assert (ended["id"], ended["state"]) == (begun["id"], "success")
    assert ended["reference"]["id"] == begun["reference"]["id"]
    assert client.get_security_group(id=ended["reference"]["id"])["description"] == "a shape"
    site.done(client.delete_security_group(id=ended["reference"]["id"]))


def test_rules_of_a_security_group_are_kept_as_they_were_sent(site: Site) -> None:
    client = site.client
    key = site.done(client.create_security_group(name=f"{site.prefix}-rules"))
    sent: list[dict[str, Any]] = [
        {
            "flow-direction": "ingress",
            "protocol": "tcp",
            "network": "198.51.100.0/24",
            "start-port": 8080,
            "end-port": 8090,
            "description": "web",
        },
        {
            "flow-direction": "ingress",
            "protocol": "icmp",
            "network": "0.0.0.0/0",
            "icmp": {"type": 8, "code": 0},
        },
    ]
    for rule in sent:
        words = {name.replace("-", "_"): value for name, value in rule.items()}
        assert site.done(client.add_rule_to_security_group(id=key, **words)) == key
    kept = client.get_security_group(id=key)["rules"]
    without_ids = [{name: rule[name] for name in rule if name != "id"} for rule in kept]
    assert sorted(without_ids, key=str) == sorted(sent, key=str)
    first = kept[0]["id"]
    site.done(client.delete_rule_from_security_group(id=key, rule_id=first))
    assert [rule["id"] for rule in client.get_security_group(id=key)["rules"]] == [kept[1]["id"]]
    site.done(client.delete_security_group(id=key))


def test_a_pool_shows_what_it_is_and_its_members_are_instances(
    site: Site, pool: str, group: str
) -> None:
    seen = site.pool(pool)
    assert (seen["size"], len(seen["instances"])) == (1, 1)
    assert seen["security-groups"] == [{"id": group}]
    assert (seen["instance-prefix"], seen["disk-size"]) == (site.prefix, DISK_GIB)
    member = site.client.get_instance(id=seen["instances"][0]["id"])
    assert member["manager"] == {"id": pool, "type": "instance-pool"}
    assert member["name"].startswith(f"{site.prefix}-{pool[:5]}-")
    assert member["state"] == "running"
    assert member["instance-type"]["id"] == seen["instance-type"]["id"]
    listed = site.client.list_instances(manager_id=pool, manager_type="instance-pool")["instances"]
    assert [each["id"] for each in listed] == [member["id"]]


def test_growing_keeps_the_members_and_shrinking_lets_the_oldest_leave(
    site: Site, pool: str
) -> None:
    (old,) = site.members(pool)
    grown = site.scale(pool, 2)
    assert old in grown
    assert len(grown) == 2
    assert site.scale(pool, 1) == [member for member in grown if member != old]


def test_scaling_to_the_same_size_changes_nothing(site: Site, pool: str) -> None:
    before = site.members(pool)
    assert site.scale(pool, 1) == before


def test_evicting_removes_the_named_member_and_no_other(site: Site, pool: str) -> None:
    (old,) = site.members(pool)
    (young,) = set(site.scale(pool, 2)) - {old}
    site.done(site.client.evict_instance_pool_members(id=pool, instances=[young]))
    seen = site.pool(pool)
    assert (seen["size"], [each["id"] for each in seen["instances"]]) == (1, [old])


def test_a_deleted_member_is_replaced(site: Site, pool: str) -> None:
    (old,) = site.members(pool)
    site.done(site.client.delete_instance(id=old))

    def healed() -> str | None:
        fresh = [member for member in site.members(pool) if member != old]
        if len(fresh) != 1 or site.client.get_instance(id=fresh[0])["state"] != "running":
            return None
        return fresh[0]

    assert site.eventually(healed, "replacement of a deleted member") != old
    assert site.pool(pool)["size"] == 1


def test_new_user_data_is_for_future_members_only(site: Site, pool: str) -> None:
    (old,) = site.members(pool)
    before = site.client.get_instance(id=old).get("user-data")
    fresh = base64.b64encode(f"#!/bin/sh\n# {uuid.uuid4()}\n".encode()).decode()
    site.done(site.client.update_instance_pool(id=pool, user_data=fresh))
    (young,) = set(site.scale(pool, 2)) - {old}
    assert site.client.get_instance(id=old).get("user-data") == before
    assert site.client.get_instance(id=young)["user-data"] == fresh


def test_a_service_follows_its_pool_and_tells_each_members_health(
    site: Site, pool: str, balancer: str, service: str
) -> None:
    def all_healthy() -> dict[str, str] | None:
        seen = health(site, balancer)
        fits = set(seen) == site.addresses(pool) and set(seen.values()) == {"success"}
        return seen if fits else None

    assert len(site.eventually(all_healthy, "healthy member")) == 1
    site.scale(pool, 2)
    assert len(site.eventually(all_healthy, "two healthy members")) == 2
    site.scale(pool, 1)
    assert len(site.eventually(all_healthy, "healthy member that is left")) == 1


def test_a_pool_that_a_service_uses_cannot_be_deleted(site: Site, pool: str, service: str) -> None:
    with pytest.raises(ExoscaleAPIClientException) as refused:
        site.client.delete_instance_pool(id=pool)
    assert status_of(refused) == 409
    assert site.pool(pool)["size"] == 1


def test_a_security_group_that_a_pool_uses_cannot_be_deleted(
    site: Site, pool: str, group: str
) -> None:
    with pytest.raises(ExoscaleAPIClientException) as refused:
        site.client.delete_security_group(id=group)
    assert status_of(refused) == 409


def test_what_does_not_exist_is_not_found(site: Site) -> None:
    nobody = str(uuid.uuid4())
    reads: list[Any] = [
        site.client.get_instance_pool,
        site.client.get_instance,
        site.client.get_load_balancer,
        site.client.get_security_group,
        site.client.get_operation,
    ]
    for read in reads:
        with pytest.raises(ExoscaleAPIClientException) as refused:
            read(id=nobody)
        assert status_of(refused) == 404


def test_a_wrong_secret_is_refused(site: Site) -> None:
    intruder = Client(site.client.key, "not-the-secret", url=site.client.endpoint)
    with pytest.raises(ExoscaleAPIAuthException):
        intruder.list_instance_pools()
    intruder.http_client.close()


def test_the_quota_of_instances_can_be_read(site: Site, pool: str) -> None:
    quota = site.client.get_quota(entity="instance")
    assert quota["resource"] == "instance"
    assert quota["usage"] >= 1
    assert quota["limit"] == -1 or quota["limit"] >= quota["usage"]

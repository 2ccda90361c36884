"""What of a stack is found in the cloud, with what it costs and how to be rid of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from exotide.access.zones import ask_zones
from exotide.cloud.testing import RunningCloud
from exotide.stack.settings import StackSettings
from exotide.up import leftovers, text
from exotide.up.cloud import ApiCloud
from exotide.up.leftovers import CLOCKS_S, Found
from tests.keys import key_for


def made(cloud: RunningCloud, answer: dict[str, Any]) -> str:
    cloud.settle()
    return str(answer["reference"]["id"])


def common(client: Any) -> dict[str, Any]:
    types = client.list_instance_types()["instance-types"]
    small = next(
        each["id"] for each in types if (each["family"], each["size"]) == ("standard", "small")
    )
    template = client.list_templates()["templates"][0]["id"]
    return {"disk_size": 10, "instance_type": {"id": small}, "template": {"id": template}}


@pytest.fixture
def api(cloud: RunningCloud) -> Iterator[ApiCloud]:
    access = cloud.access
    found = ApiCloud(
        StackSettings(key=access.key, secret=access.secret, endpoint=cloud.url, name="web")
    )
    yield found
    found.close()


def test_everything_of_the_stack_is_found_in_the_order_of_removal_and_nothing_else(
    cloud: RunningCloud, client: Any, api: ApiCloud
) -> None:
    server = common(client)
    policy = {"default-service-strategy": "deny", "services": {}}
    for name in ("web", "other"):
        made(cloud, client.create_security_group(name=f"{name}-members"))
        role = made(cloud, client.create_iam_role(name=f"{name}-autoscaler", policy=policy))
        client.create_api_key(name="any", role_id=role)
        made(cloud, client.create_load_balancer(name=name))
        made(cloud, client.create_instance_pool(name=name, size=2, **server))
        made(cloud, client.create_instance(name=f"{name}-monitoring", **server))
    stray = made(cloud, client.create_instance(name="x", labels={"stack": "web"}, **server))
    by_id = made(cloud, client.create_security_group(name="renamed"))

    seen = api.find({by_id}, iam=True)
    found = seen.left

    assert seen.unseen == ""
    assert [(each.resource.kind.label, each.resource.name) for each in found] == [
        ("instance", "web-monitoring"),
        ("instance", "x"),
        ("API key", "any"),
        ("IAM role", "web-autoscaler"),
        ("load balancer", "web"),
        ("instance pool", "web"),
        ("security group", "web-members"),
        ("security group", "renamed"),
    ] or [each.resource.name for each in found[:2]] == ["x", "web-monitoring"]
    costs = {each.resource.name: each.cost for each in found if each.resource.name != "web"}
    assert costs["x"] == "0.02473 EUR per hour"
    assert costs["any"] == "free"
    loud = text.loud(found, name="web", zone="at-vie-1")
    assert "8 RESOURCES OF STACK web STILL EXIST AND MAY COST MONEY: 0.13364 EUR per hour" in loud
    assert "2 members, 0.04946 EUR per hour" in loud
    assert f"exo compute instance delete {stray} -z at-vie-1" in loud

    for each in found:
        api.remove(each.resource)
    assert api.find({by_id}, iam=True) == Found()
    assert len(cloud.cloud.world.pools) == 1
    assert len(cloud.cloud.world.iam.roles) == 1


def test_a_type_without_a_price_is_said_to_have_none() -> None:
    pool = {"name": "web", "id": "p", "size": 2, "disk-size": 10, "instance-type": {"id": "new"}}
    left = leftovers._pool(pool, {"new": "gpu.huge"})
    assert left.cost == "2 members, price not known"
    assert "MAY COST MONEY: price not known" in text.loud((left,), name="web", zone="at-vie-1")


def test_the_zone_decides_where_is_looked(cloud: RunningCloud, client: Any) -> None:
    made(cloud, client.create_load_balancer(name="web"))
    access = cloud.access
    names = {}
    for zone, endpoint in ask_zones(cloud.url).endpoints.items():
        settings = StackSettings(
            key=access.key, secret=access.secret, endpoint=endpoint, name="web", zone=zone
        )
        names[zone] = [each.resource.name for each in ApiCloud(settings).find((), iam=True).left]
    assert names["at-vie-1"] == ["web"]
    assert not any(found for zone, found in names.items() if zone != "at-vie-1")


def test_what_a_key_may_not_list_is_told_and_hides_nothing_else(
    cloud: RunningCloud, client: Any
) -> None:
    made(cloud, client.create_security_group(name="web-members"))
    key = key_for(client, {"compute": {"type": "allow"}})
    weak = ApiCloud(
        StackSettings(
            key=key["TF_VAR_exoscale_key"],
            secret=key["TF_VAR_exoscale_secret"],
            endpoint=cloud.url,
            name="web",
        )
    )
    found = weak.find((), iam=True)
    assert [each.resource.name for each in found.left] == ["web-members"]
    assert "list iam roles" in found.unseen
    assert "list api keys" in found.unseen
    assert weak.find((), iam=False) == Found(left=found.left)


def test_when_things_were_made_tells_whose_they_can_be(
    cloud: RunningCloud, client: Any, api: ApiCloud
) -> None:
    before_s = time.time()
    made(cloud, client.create_security_group(name="web-members"))
    undated = api.find((), iam=True)
    assert not undated.is_younger(before_s - 10 * CLOCKS_S), "a group has no date"
    made(cloud, client.create_instance_pool(name="web", size=1, **common(client)))
    pool = api.find((), iam=True)
    assert pool.is_younger(before_s - CLOCKS_S - 5), "by its oldest member"
    assert not pool.is_younger(time.time()), "clocks may differ"

"""What of a stack is found in the cloud, with what it costs and how to be rid of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exotide.cloud.testing import RunningCloud
from exotide.stack.errors import Refused
from exotide.stack.settings import StackSettings
from exotide.up import leftovers, text
from exotide.up.cloud import ApiCloud


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

    found = api.find({by_id})

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
    assert api.find({by_id}) == ()
    assert len(cloud.cloud.world.pools) == 1
    assert len(cloud.cloud.world.iam.roles) == 1


def test_a_type_without_a_price_is_said_to_have_none() -> None:
    pool = {"name": "web", "id": "p", "size": 2, "disk-size": 10, "instance-type": {"id": "new"}}
    left = leftovers._pool(pool, {"new": "gpu.huge"})
    assert left.cost == "2 members, price not known"
    assert "MAY COST MONEY: price not known" in text.loud((left,), name="web", zone="at-vie-1")


def test_the_zone_decides_where_is_looked_whatever_zone_the_endpoint_is_of(
    cloud: RunningCloud, client: Any
) -> None:
    made(cloud, client.create_load_balancer(name="web"))
    access = cloud.access
    names = {}
    for zone in ("at-vie-1", "de-fra-1"):
        settings = StackSettings(
            key=access.key, secret=access.secret, endpoint=cloud.url, name="web", zone=zone
        )
        names[zone] = [each.resource.name for each in ApiCloud(settings).find(())]
    assert names == {"at-vie-1": ["web"], "de-fra-1": []}
    nowhere = StackSettings(
        key=access.key, secret=access.secret, endpoint=cloud.url, zone="xx-yyy-1"
    )
    with pytest.raises(Refused, match=r"zone xx-yyy-1 is unknown there; known: .*at-vie-1"):
        ApiCloud(nowhere).find(())

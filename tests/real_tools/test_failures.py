"""What an apply does when something breaks half-way, and that the next apply repairs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.faults.model import (
    BrokenBody,
    Drop,
    Effect,
    FailingOperation,
    Fault,
    NoCapacity,
    RateLimit,
    Selector,
    ServerError,
    Timing,
)
from exotide.cloud.testing import FakeServers, RunningCloud
from exotide.realtools.terraform import TerraformFailed, Workspace

SMALL = """
terraform {
  required_providers { exoscale = { source = "exoscale/exoscale" } }
}
data "exoscale_template" "linux" {
  zone = "at-vie-1"
  name = "Linux Debian 12 (Bookworm) 64-bit"
}
resource "exoscale_security_group" "web" {
  name = "web"
}
resource "exoscale_instance_pool" "web" {
  zone               = "at-vie-1"
  name               = "web"
  size               = 2
  disk_size          = 10
  instance_type      = "standard.micro"
  template_id        = data.exoscale_template.linux.id
  security_group_ids = [exoscale_security_group.web.id]
}
resource "exoscale_nlb" "web" {
  zone = "at-vie-1"
  name = "web"
}
resource "exoscale_nlb_service" "web" {
  zone             = "at-vie-1"
  nlb_id           = exoscale_nlb.web.id
  instance_pool_id = exoscale_instance_pool.web.id
  name             = "web"
  port             = 80
  target_port      = 8080
  healthcheck {
    port = 8080
  }
}
"""


@pytest.fixture
def small(workspace: Callable[..., Workspace], cloud: RunningCloud) -> Iterator[Workspace]:
    made = workspace(text=SMALL)
    yield made
    strike(cloud)
    made.destroy()
    world = cloud.cloud.world
    left = [*world.pools, *world.instances, *world.load_balancers, *world.security_groups]
    assert left == []
    assert not cast("FakeServers", cloud.servers).reserved


def strike(cloud: RunningCloud, *faults: Fault) -> None:
    """Let these faults be, and no others."""

    def change() -> None:
        cloud.cloud.world.faults.clear()
        for fault in faults:
            cloud.cloud.world.faults.add(fault)

    cloud.on_loop(change)


def fault(effect: Effect, operation: str | None = None, count: int | None = None) -> Fault:
    return Fault(
        effect=effect, selector=Selector(operation=operation), timing=Timing(seed=7, count=count)
    )


def whole(small: Workspace, client: Any) -> None:
    """The stack is there, once, and needs no change."""
    plan = small.plan()
    assert plan.is_empty, plan.text
    (pool,) = client.list_instance_pools()["instance-pools"]
    assert (pool["size"], len(pool["instances"])) == (2, 2)
    assert len(client.list_instances()["instances"]) == 2
    (balancer,) = client.list_load_balancers()["load-balancers"]
    assert [each["name"] for each in balancer["services"]] == ["web"]


def test_a_pool_whose_creation_fails_leaves_no_orphan(
    small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    strike(cloud, fault(NoCapacity(), count=1))
    with pytest.raises(TerraformFailed, match="out of capacity"):
        small.apply()
    assert client.list_instance_pools()["instance-pools"] == []
    assert client.list_instances()["instances"] == []
    small.apply()
    whole(small, client)


def test_a_balancer_or_service_whose_creation_fails_is_made_by_the_next_apply(
    small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    balancers = cast("FakeBalancers", cloud.balancers)
    balancers.fail_next_call("no room for a balancer")
    with pytest.raises(TerraformFailed, match=r"exoscale_nlb\.web"):
        small.apply()
    assert client.list_load_balancers()["load-balancers"] == []
    small.run("apply", "-auto-approve", "-target=exoscale_nlb.web")
    balancers.fail_next_call("no port for a service")
    with pytest.raises(TerraformFailed, match=r"exoscale_nlb_service\.web"):
        small.apply()
    small.apply()
    whole(small, client)


@pytest.mark.misbehaving
@pytest.mark.parametrize(
    "effect",
    [ServerError(status=503), RateLimit(retry_after_s=1), Drop(moment="before")],
    ids=lambda effect: effect.kind,
)
def test_what_clients_try_again_does_not_fail_an_apply(
    effect: Effect, small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    strike(cloud, fault(effect, "create-*", count=3), fault(effect, "get-*", count=3))
    small.apply()
    strike(cloud)
    whole(small, client)


@pytest.mark.misbehaving
def test_an_outage_in_the_middle_is_made_good_by_the_next_apply(
    small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    strike(cloud, fault(ServerError(status=500), "add-service-to-load-balancer"))
    with pytest.raises(TerraformFailed, match=r"exoscale_nlb_service\.web"):
        small.apply()
    strike(cloud)
    small.apply()
    whole(small, client)


@pytest.mark.misbehaving
def test_a_broken_answer_loses_no_resource_that_the_state_knows(
    small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    small.apply()
    strike(cloud, fault(BrokenBody(form="truncated"), "get-instance-pool"))
    with pytest.raises(TerraformFailed):
        small.plan()
    strike(cloud)
    whole(small, client)


def test_a_destroy_that_fails_half_way_is_finished_by_the_next(
    small: Workspace, client: Any, cloud: RunningCloud
) -> None:
    small.apply()
    strike(cloud, fault(FailingOperation(message="stuck"), "delete-load-balancer", count=1))
    with pytest.raises(TerraformFailed):
        small.destroy()
    strike(cloud)
    small.destroy()
    assert small.resources() == {}

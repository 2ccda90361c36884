"""What is wrong with a stack is found on real servers, too, and told with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from exotide.stack import Patience, Stack, StackSettings, create, wait_healthy
from exotide.stack.api import Api, connect
from exotide.stack.resources import BALANCER, POOL, Kind, find, remove
from exotide.stack.userdata import APP_PORT

from .conftest import Cloud, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUICKLY = ("--look-only", "--patience", "0.02")
"""Six seconds instead of 300 for what will not get better."""


@pytest.fixture
def api(settings: StackSettings) -> Iterator[Api]:
    """Waits less between two looks than the SDK's own."""
    with connect(settings, Patience(longest_s=0.5, limit_s=60)) as api:
        yield api


@pytest.fixture
def other(api: Api, built: Stack) -> Iterator[str]:
    """A second stack beside the first, whose members answer 404 to /health."""
    like, name = api.call("get_instance_pool", id=built.pool_id), "other"
    api.change(
        "create_instance_pool",
        name=name,
        size=1,
        instance_type={"id": like["instance-type"]["id"]},
        template={"id": like["template"]["id"]},
        security_groups=like["security-groups"],
        disk_size=10,
        labels={"stack": name},
    )
    api.change("create_load_balancer", name=name)
    pool, balancer = found(api, POOL, name), found(api, BALANCER, name)
    api.change(
        "add_service_to_load_balancer",
        id=balancer,
        name="http",
        instance_pool={"id": pool},
        protocol="tcp",
        strategy="round-robin",
        port=80,
        target_port=8080,
        healthcheck={"mode": "tcp", "port": 8080, "interval": 5, "timeout": 3, "retries": 1},
    )
    yield name
    remove(api, BALANCER, balancer)
    remove(api, POOL, pool)
    eventually(lambda: members(api, pool) == [] or None, within_s=30, what="the pool's end")


def found(api: Api, kind: Kind, name: str) -> str:
    resource = find(api, kind, name)
    assert resource
    return str(resource["id"])


def members(api: Api, pool_id: str) -> list[dict[str, Any]]:
    shown = api.call("list_instances", manager_id=pool_id, manager_type="instance-pool")
    return list(shown["instances"])


def until_unhealthy(api: Api, balancer_id: str) -> None:
    """The balancer's own checks take their time."""

    def look() -> bool | None:
        (service,) = api.call("get_load_balancer", id=balancer_id)["services"]
        return {each["status"] for each in service["healthcheck-status"]} == {"failure"} or None

    eventually(look, within_s=30, what="the balancer's notice")


@contextmanager
def standing_still(cloud: Cloud, server: str) -> Iterator[None]:
    port = ("--port", str(cloud.entry.access.port))
    assert cloud.run("cloud", "hang", server, *port).returncode == 0
    try:
        yield
    finally:
        assert cloud.run("cloud", "resume", server, *port).returncode == 0


def test_a_member_that_stands_still_is_found_and_named(
    cloud: Cloud, built: Stack, settings: StackSettings, api: Api
) -> None:
    (address,) = wait_healthy(settings, built)
    (name,) = [each["name"] for each in members(api, built.pool_id)]
    with standing_still(cloud, name):
        until_unhealthy(api, built.nlb_id)
        code, checks, table = cloud.check("1", *QUICKLY)
    assert code == 1
    failed = checks["backends-healthy"]
    assert failed["status"] == "failed"
    assert f"unhealthy: {address}" in failed["seen"]
    assert f"backend {address} is unhealthy" in failed["hint"]
    assert "journalctl -u slowapp" in table
    wait_healthy(settings, built)


def test_a_second_pool_fails_the_account_but_not_the_stack_that_is_named(
    cloud: Cloud, built: Stack, other: str
) -> None:
    code, checks, _ = cloud.check("1", *QUICKLY)
    assert code == 1
    assert checks["pool-one"]["seen"] == f"2 instance pools: {built.name}, {other}"
    assert "--name" in checks["pool-one"]["hint"]
    code, checks, table = cloud.check("2", "--look-only", "--name", built.name)
    assert code == 0, table
    assert checks["server-one"]["status"] == "passed"


def test_a_service_that_answers_something_else_to_health_is_found(cloud: Cloud, other: str) -> None:
    code, checks, _ = cloud.check("1", "--look-only", "--name", other)
    assert code == 1
    assert checks["backends-healthy"]["status"] == "passed"
    assert checks["health-ok"]["status"] == "failed"
    assert checks["health-ok"]["seen"].startswith("404 ")


@pytest.mark.root
def test_a_missing_rule_for_the_balancer_is_found_and_named(
    cloud: Cloud, built: Stack, settings: StackSettings, api: Api
) -> None:
    if cloud.entry.character.servers != "processes":
        pytest.skip(
            "NOT TESTED: servers on loopback addresses have no security groups; run as root"
        )
    group = built.members_group_id
    for rule in api.call("get_security_group", id=group)["rules"]:
        if rule["start-port"] == APP_PORT:
            api.change("delete_rule_from_security_group", id=group, rule_id=rule["id"])
    try:
        until_unhealthy(api, built.nlb_id)
        code, checks, _ = cloud.check("1", *QUICKLY)
    finally:
        create(settings)
    assert code == 1
    hint = checks["backends-healthy"]["hint"]
    assert "opens 8080/tcp to public-nlb-healthcheck-sources: add that rule" in hint
    wait_healthy(settings, built)

"""The `exo` command line, in the order in which a person would use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exotide.cloud.testing import FakeServers, RunningCloud

from .exo import Exo

POOL = (
    *("--template", "Linux Debian 12 (Bookworm) 64-bit", "--instance-type", "standard.micro"),
    *("--disk-size", "10"),
)


@pytest.fixture
def nothing_left(cloud: RunningCloud) -> Any:
    yield
    world = cloud.cloud.world
    assert not world.pools
    assert not world.instances
    assert not world.load_balancers
    assert not world.security_groups


def names(shown: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in shown]


@pytest.mark.usefixtures("nothing_left")
def test_a_pool_behind_a_balancer_from_first_to_last(exo: Exo, tmp_path: Path) -> None:
    (tmp_path / "init").write_text("#cloud-config\nruncmd: [[echo, hello]]\n")
    pool = ("compute", "instance-pool")
    balancer = ("compute", "load-balancer")
    at = ("--zone", "de-fra-1")
    exo("compute", "security-group", "create", "web", "--description", "members")
    rules = exo(
        *("compute", "security-group", "rule", "add", "web"),
        *("--port", "8000-8080", "--network", "0.0.0.0/0"),
    )["ingress_rules"]
    assert [(rule["start_port"], rule["end_port"]) for rule in rules] == [(8000, 8080)]

    made = exo(
        *(*pool, "create", "web", "--size", "2", "--security-group", "web", *POOL, *at),
        *("--cloud-init", str(tmp_path / "init"), "--label", "role=member"),
    )
    assert (made["size"], made["state"], len(made["instances"])) == (2, "running", 2)
    assert names(exo(*pool, "list")) == ["web"]
    assert exo(*pool, "show", "web", *at) == made

    exo(*balancer, "create", "entry", *at)
    service = exo(
        *(*balancer, "service", "add", "entry", "http", "--instance-pool", "web", *at),
        *("--port", "80", "--target-port", "8080"),
        *("--healthcheck-mode", "http", "--healthcheck-uri", "/health"),
    )
    assert service["healthcheck"]["uri"] == "/health"

    assert exo(*pool, "scale", "web", "4", "--force", *at)["size"] == 4
    leaving = exo(*pool, "show", "web", *at)["instances"][1:3]
    shrunk = exo(*pool, "evict", "web", *leaving, "--force", *at)
    assert shrunk["size"] == 2
    assert not set(leaving) & set(shrunk["instances"])
    checked = exo(*balancer, "service", "show", "entry", "http", *at)["healthcheck_status"]
    members = exo("compute", "instance", "list", *at)
    assert {each["instance_ip"] for each in checked} == {each["ip_address"] for each in members}

    refused = exo.start(*pool, "delete", "web", "--force", *at)
    assert refused.returncode != 0
    assert "in use by service http of load balancer entry" in refused.stderr
    exo(*balancer, "service", "delete", "entry", "http", "--force", *at)
    exo(*balancer, "delete", "entry", "--force", *at)
    refused = exo.start("compute", "security-group", "delete", "web", "--force")
    assert refused.returncode != 0
    assert "security group web is in use by instance pool web" in refused.stderr
    exo(*pool, "delete", "web", "--force", *at)
    exo("compute", "security-group", "delete", "web", "--force")
    assert exo(*pool, "list") == exo("compute", "instance", "list") == []


@pytest.mark.usefixtures("nothing_left")
def test_a_server_lives_stops_grows_and_goes(exo: Exo) -> None:
    server, at = ("compute", "instance"), ("--zone", "ch-gva-2")
    made = exo(*server, "create", "box", *POOL, *at)
    assert (made["state"], made["instance_type"]) == ("running", "standard.micro")
    assert exo(*server, "stop", "box", "--force", *at)["state"] == "stopped"
    assert exo(*server, "scale", "box", "small", "--force", *at)["instance_type"].endswith("small")
    assert exo(*server, "start", "box", "--force", *at)["state"] == "running"
    assert exo(*server, "reboot", "box", "--force", *at)["ip_address"] == made["ip_address"]
    (usage,) = [each for each in exo("limits") if each["resource"] == "Compute instances"]
    assert (usage["used"], usage["max"]) == (1, 20)
    exo(*server, "delete", "box", "--force", *at)
    assert exo(*server, "list") == []


def test_a_role_and_its_key_allow_exactly_what_they_say(exo: Exo) -> None:
    policy = {
        "default-service-strategy": "deny",
        "services": {
            "compute": {
                "type": "rules",
                "rules": [
                    {
                        "action": "allow",
                        "expression": "operation in ['list-zones', 'list-instance-pools']",
                    }
                ],
            }
        },
    }
    exo("iam", "role", "create", "reader", "--policy", "-", given=json.dumps(policy))
    assert names(exo("iam", "role", "list")) == ["reader"]
    key = exo("iam", "api-key", "create", "looking", "reader")
    assert names(exo("iam", "api-key", "list")) == ["looking"]

    reader = exo.with_key(key["key"], key["secret"])
    assert reader("compute", "instance-pool", "list") == []
    refused = reader.start("compute", "security-group", "create", "more")
    assert refused.returncode != 0
    assert "create-security-group" in refused.stderr

    exo("iam", "api-key", "delete", key["key"], "--force")
    gone = reader.start("compute", "instance-pool", "list", "--zone", "at-vie-1")
    assert "unknown key" in gone.stderr
    exo("iam", "role", "delete", "reader", "--force")


def test_a_failed_operation_is_shown_with_its_reason(exo: Exo, cloud: RunningCloud) -> None:
    assert isinstance(cloud.servers, FakeServers)
    cloud.servers.fail_next_start("the kernel does not answer")
    ended = exo.start("compute", "instance-pool", "create", "web", *POOL, "--zone", "at-vie-1")
    assert ended.returncode != 0
    assert "the kernel does not answer" in ended.stderr
    assert exo("compute", "instance-pool", "list") == []


def test_without_an_endpoint_every_command_goes_through_the_proxy(exo: Exo) -> None:
    bare = exo.without("EXOSCALE_API_ENDPOINT")
    assert len(names(bare("zone"))) == 8
    assert bare("compute", "instance-pool", "list") == []

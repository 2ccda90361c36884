"""A whole cloud as `exotide cloud` starts it: API, filters, balancer, metadata."""

from __future__ import annotations

import asyncio
import http.client
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from exoscale.api.v2 import Client

from exotide.cloud.api.world import Pace
from exotide.cloud.daemon import Settings, opened
from exotide.cloud.directory import Entry
from exotide.cloud.ports import METADATA_IP
from exotide.cloud.servers.network import NAMESPACES, in_namespace, server_namespace

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.root, pytest.mark.anyio]

CHECKERS = {"name": "public-nlb-healthcheck-sources", "visibility": "public"}
CHECK_S = 5
"""Between two health checks; the shortest that the API takes."""


class Cloud:
    """The official SDK, one pool behind one balancer, and requests from inside servers."""

    def __init__(self, entry: Entry, client: Client) -> None:
        self.cloud_id, self.fabric_ip, self.client = entry.cloud_id, entry.fabric_ip, client

    async def call(self, operation: str, /, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(
            getattr(self.client, operation), **arguments
        )
        return answer

    async def change(self, what: str, /, **arguments: Any) -> str:
        """Carry out an operation; give what it was about."""
        operation = await self.call(what, **arguments)
        while operation["state"] == "pending":
            await asyncio.sleep(0.01)
            operation = await self.call("get_operation", id=operation["id"])
        assert operation["state"] == "success", operation
        return str(operation["reference"]["id"])

    async def parts(self) -> dict[str, Any]:
        types = (await self.call("list_instance_types"))["instance-types"]
        templates = (await self.call("list_templates"))["templates"]
        micro = next(each["id"] for each in types if each["size"] == "micro")
        return {
            "instance_type": {"id": micro},
            "template": {"id": templates[0]["id"]},
            "disk_size": 10,
        }

    async def balanced_pool(self, group: str) -> tuple[str, str]:
        """Make a pool of one in this group behind a balancer; gives both ids."""
        groups = [{"id": group}]
        parts = await self.parts()
        pool = await self.change(
            "create_instance_pool", name="web", size=1, security_groups=groups, **parts
        )
        nlb = await self.change("create_load_balancer", name="lb")
        await self.change(
            "add_service_to_load_balancer",
            id=nlb,
            name="http",
            instance_pool={"id": pool},
            protocol="tcp",
            strategy="round-robin",
            port=80,
            target_port=8080,
            healthcheck={"mode": "http", "port": 8080, "uri": "/", "interval": CHECK_S},
        )
        return pool, nlb

    async def allow(self, group: str, port: int, **source: Any) -> None:
        await self.change(
            "add_rule_to_security_group",
            id=group,
            flow_direction="ingress",
            protocol="tcp",
            start_port=port,
            end_port=port,
            **source,
        )

    def health(self, nlb: str) -> list[str]:
        service = self.client.get_load_balancer(id=nlb)["services"][0]
        return [each["status"] for each in service["healthcheck-status"]]

    async def fetch(self, instance: str, path: str, host: str = METADATA_IP) -> tuple[int, bytes]:
        """Ask from inside a server."""
        namespace = NAMESPACES / server_namespace(self.cloud_id, instance)
        return await asyncio.to_thread(in_namespace, namespace, lambda: get(host, path))


def get(host: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, 80, timeout=2.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
async def cloud(run_dir: Path, tools: Tools) -> AsyncIterator[Cloud]:
    command = f"exec {sys.executable} -I -S {tools.stub} 8080"
    settings = Settings(port=0, run_dir=run_dir, pace=Pace(stop_grace_s=0.5), command=command)
    async with opened(settings) as entry:
        access = entry.access
        client = Client(access.key, access.secret, url=access.endpoint)
        yield Cloud(entry, client)
        client.http_client.close()


async def test_members_are_healthy_while_a_rule_lets_the_health_checks_in(
    cloud: Cloud, tools: Tools
) -> None:
    group = await cloud.change("create_security_group", name="web")
    _, nlb = await cloud.balanced_pool(group)
    ip = (await cloud.call("get_load_balancer", id=nlb))["ip"]
    assert await asyncio.to_thread(cloud.health, nlb) == ["failure"]
    await asyncio.sleep(1.0)  # enough for several checks, which come quickly until one is good
    assert await asyncio.to_thread(cloud.health, nlb) == ["failure"]
    assert not await asyncio.to_thread(tools.answers, f"http://{ip}/")

    await cloud.allow(group, 8080, security_group=CHECKERS)
    began_s = time.monotonic()
    await tools.eventually(lambda: cloud.health(nlb) == ["success"], within_s=CHECK_S)
    assert time.monotonic() - began_s < CHECK_S
    assert await asyncio.to_thread(tools.answers, f"http://{ip}/")

    (rule,) = (await cloud.call("get_security_group", id=group))["rules"]
    await cloud.change("delete_rule_from_security_group", id=group, rule_id=rule["id"])
    # The check under way may still be let in; the next one waits for its timeout (2 s).
    await tools.eventually(lambda: cloud.health(nlb) == ["failure"], within_s=2 * CHECK_S + 2)


async def test_a_port_is_open_to_the_group_that_its_rule_names_and_to_nobody_else(
    cloud: Cloud, tools: Tools
) -> None:
    web = await cloud.change("create_security_group", name="web")
    friends = await cloud.change("create_security_group", name="friends")
    source = {"id": friends, "visibility": "private"}
    await cloud.allow(web, 8080, security_group=source)
    parts = await cloud.parts()
    make: Callable[..., Any] = cloud.change
    server, friend, stranger = await asyncio.gather(
        make("create_instance", name="a", security_groups=[{"id": web}], **parts),
        make("create_instance", name="b", security_groups=[{"id": friends}], **parts),
        make("create_instance", name="c", **parts),
    )
    ip = (await cloud.call("get_instance", id=server))["public-ip"]
    url = f"http://{ip}:8080/"

    async def reaches(origin: str) -> bool:
        namespace = NAMESPACES / server_namespace(cloud.cloud_id, origin)
        return await asyncio.to_thread(in_namespace, namespace, lambda: tools.answers(url))

    deadline_s = time.monotonic() + 5.0
    while not await reaches(friend):
        assert time.monotonic() < deadline_s
    assert not await reaches(stranger)
    assert not tools.answers(url)
    await cloud.change("attach_instance_to_security_group", id=friends, instance={"id": stranger})
    assert await reaches(stranger)
    await cloud.change("detach_instance_from_security_group", id=friends, instance={"id": friend})
    assert not await reaches(friend)


async def test_each_server_reads_its_own_metadata_and_nothing_comes_from_outside(
    cloud: Cloud,
) -> None:
    parts = await cloud.parts()
    made = {
        name: await cloud.change(
            "create_instance", name=name, user_data=b64encode(name.encode()).decode(), **parts
        )
        for name in ("one", "two")
    }
    for name, instance in made.items():
        assert await cloud.fetch(instance, "/latest/user-data") == (200, name.encode())
        path = "/1.0/meta-data/instance-id"
        assert await cloud.fetch(instance, path) == (200, instance.encode())
        status, body = await cloud.fetch(instance, "/v2/zone")
        assert (status, body) == (404, b"not found: /v2/zone\n")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(get, cloud.fabric_ip, "/latest/user-data")

"""A local cloud on fake drivers, and the official SDK pointed at it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from exoscale.api.exceptions import ExoscaleAPIClientException
from exoscale.api.v2 import Client

from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.testing import FakeServers, RunningCloud, running_cloud

from .asgi import LocalApi


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


@pytest.fixture
def balancers() -> FakeBalancers:
    return FakeBalancers()


@pytest.fixture
def api() -> Iterator[LocalApi]:
    local = LocalApi()
    yield local
    local.close()


@pytest.fixture
def cloud(servers: FakeServers, balancers: FakeBalancers) -> Iterator[RunningCloud]:
    with running_cloud(servers=servers, balancers=balancers) as running:
        yield running


def refused(status: int, text: str) -> Any:
    """Expect the SDK to be refused with this status and a message that matches."""
    return pytest.raises(ExoscaleAPIClientException, match=rf"error {status}: .*{text}")


@dataclass(kw_only=True)
class Account:
    """The SDK, and what nearly every test does with it."""

    client: Any
    cloud: RunningCloud
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def micro(self) -> dict[str, str]:
        types = self.client.list_instance_types()["instance-types"]
        return {"id": next(kind["id"] for kind in types if kind["size"] == "micro")}

    @property
    def debian(self) -> dict[str, str]:
        return {"id": self.client.list_templates()["templates"][0]["id"]}

    def settled(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Wait for the whole cloud and give the operation as it ended."""
        assert operation["state"] == "pending"
        self.cloud.settle()
        ended: dict[str, Any] = self.client.get_operation(id=operation["id"])
        assert ended["reference"] == operation["reference"]
        return ended

    def done(self, operation: dict[str, Any]) -> str:
        """Wait for success; give the id of what the operation was about."""
        ended = self.settled(operation)
        assert ended["state"] == "success", ended
        return str(ended["reference"]["id"])

    def pool(self, size: int = 2, **more: Any) -> str:
        return self.done(self.order_pool(size, **more))

    def order_pool(self, size: int = 2, **more: Any) -> dict[str, Any]:
        wanted = {
            "name": "web",
            "size": size,
            "instance_type": self.micro,
            "template": self.debian,
            "disk_size": 10,
        }
        return dict(self.client.create_instance_pool(**(wanted | more)))

    def instance(self, **more: Any) -> str:
        return self.done(self.order_instance(**more))

    def order_instance(self, **more: Any) -> dict[str, Any]:
        wanted = {
            "name": "mon",
            "instance_type": self.micro,
            "template": self.debian,
            "disk_size": 10,
        }
        return dict(self.client.create_instance(**(wanted | more)))

    def group(self, name: str = "web") -> str:
        return self.done(self.client.create_security_group(name=name))

    def nlb(self, name: str = "lb") -> str:
        return self.done(self.client.create_load_balancer(name=name))

    def service(self, nlb: str, pool: str, **more: Any) -> str:
        wanted = {
            "name": "http",
            "instance_pool": {"id": pool},
            "protocol": "tcp",
            "strategy": "round-robin",
            "port": 80,
            "target_port": 8080,
            "healthcheck": {"mode": "http", "port": 8080, "uri": "/health"},
        }
        before = {each["id"] for each in self.client.get_load_balancer(id=nlb)["services"]}
        self.done(self.client.add_service_to_load_balancer(id=nlb, **(wanted | more)))
        after = {each["id"] for each in self.client.get_load_balancer(id=nlb)["services"]}
        (fresh,) = after - before
        return str(fresh)

    def members(self, pool: str) -> list[str]:
        return [each["id"] for each in self.client.get_instance_pool(id=pool)["instances"]]

    def ips(self, pool: str) -> list[str]:
        return [self.client.get_instance(id=key)["public-ip"] for key in self.members(pool)]


@pytest.fixture
def connect(cloud: RunningCloud) -> Iterator[Callable[..., Any]]:
    """Make SDK clients; they are closed after the test."""
    clients = []

    def make(key: str = cloud.access.key, secret: str = cloud.access.secret, url: str = "") -> Any:
        client = Client(key, secret, url=url or cloud.url)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.http_client.close()


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()


@pytest.fixture
def account(client: Any, cloud: RunningCloud) -> Account:
    return Account(client=client, cloud=cloud)

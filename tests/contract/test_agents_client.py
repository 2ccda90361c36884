"""The official SDK judges the agents' client: on the same cloud, both read and change the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from exotide_autoscaler.client import Client
from exotide_autoscaler.errors import CloudError, MemberRefused, PoolNotFound, Refused, Unauthorized
from exotide_autoscaler.pools import ExoscalePools
from exotide_servicediscovery.client import Client as DiscoveryClient
from exotide_servicediscovery.pools import ExoscalePools as DiscoveryPools

from .site import Site

T = TypeVar("T")
CALL_S = 20.0


@pytest.fixture
def protected(site: Site, pool: str) -> Iterator[str]:
    """The pool's only member, which may not go."""
    (member,) = site.members(pool)
    site.done(site.client.add_instance_protection(id=member))
    yield member
    site.done(site.client.remove_instance_protection(id=member))


def with_client(site: Site, work: Callable[[Client], Awaitable[T]], **other: str) -> T:
    auth = site.client.http_client.auth

    async def whole() -> T:
        client = Client(
            other.get("key", auth.key),
            other.get("secret", auth.secret.decode()),
            endpoint=site.client.endpoint,
            timeout_s=CALL_S,
        )
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(whole())


def with_pools(site: Site, pool: str, work: Callable[[ExoscalePools], Awaitable[T]]) -> T:
    return with_client(site, lambda client: work(ExoscalePools(client, pool_id=pool)))


def refused(site: Site, pool: str, work: Callable[[ExoscalePools], Awaitable[Any]]) -> CloudError:
    with pytest.raises(CloudError) as raised:
        with_pools(site, pool, work)
    assert not raised.value.outcome_unknown
    return raised.value


def test_all_reads_give_the_documents_that_the_sdk_gives(
    site: Site, pool: str, balancer: str
) -> None:
    async def read(client: Client) -> list[Any]:
        mine = {"manager-id": pool, "manager-type": "instance-pool"}
        return [
            await client.read("get-instance-pool", f"/instance-pool/{pool}"),
            await client.read("list-instances", "/instance", mine),
            await client.read("list-load-balancers", "/load-balancer"),
        ]

    sdk = site.client
    assert with_client(site, read) == [
        sdk.get_instance_pool(id=pool),
        sdk.list_instances(manager_id=pool, manager_type="instance-pool"),
        sdk.list_load_balancers(),
    ]


def test_the_pool_and_its_members_are_read_as_they_are(site: Site, pool: str) -> None:
    seen = site.pool(pool)
    found = with_pools(site, pool, lambda pools: pools.get())
    assert (found.name, found.size, found.state) == (seen["name"], seen["size"], seen["state"])
    assert found.members == tuple(each["id"] for each in seen["instances"])
    (member,) = with_pools(site, pool, lambda pools: pools.members())
    shown = site.client.get_instance(id=member.id)
    assert (member.state, member.ip) == (shown["state"], shown["public-ip"])
    assert member.created_at is not None
    assert member.created_at[:19] == shown["created-at"][:19]


def test_the_service_discovery_reads_the_same_members(site: Site, pool: str) -> None:
    auth = site.client.http_client.auth

    async def read() -> Any:
        client = DiscoveryClient(
            auth.key, auth.secret.decode(), endpoint=site.client.endpoint, timeout_s=CALL_S
        )
        try:
            return await DiscoveryPools(client, pool_id=pool, local=True).get()
        finally:
            await client.close()

    found = asyncio.run(read())
    assert {str(each.ip) for each in found.members} == site.addresses(pool)
    assert found.left_out == {}


def test_changes_do_what_the_sdk_s_do(site: Site, pool: str) -> None:
    (old,) = site.members(pool)
    with_pools(site, pool, lambda pools: pools.scale(2))
    (young,) = set(site.members(pool)) - {old}
    with_pools(site, pool, lambda pools: pools.evict((young,)))
    assert site.members(pool) == [old]
    assert site.pool(pool)["size"] == 1


@pytest.fixture
def closed_service(site: Site, pool: str, balancer: str) -> Iterator[str]:
    """A service that checks a port on which nobody serves."""
    discard = 9
    site.done(
        site.client.add_service_to_load_balancer(
            id=balancer,
            name=f"{site.prefix}-closed",
            instance_pool={"id": pool},
            protocol="tcp",
            strategy="round-robin",
            port=81,
            target_port=discard,
            healthcheck={"mode": "tcp", "port": discard, "interval": 5, "timeout": 2},
        )
    )
    (made,) = site.client.get_load_balancer(id=balancer)["services"]
    yield made["id"]
    site.done(site.client.delete_load_balancer_service(id=balancer, service_id=made["id"]))


def test_what_a_health_check_calls_failed_is_what_the_sdk_shows(
    site: Site, pool: str, balancer: str, closed_service: str, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["site"] == "fake":
        pytest.skip("NOT TESTED here: the balancers of the fake check no ports")

    def failing() -> frozenset[str] | None:
        return with_pools(site, pool, lambda pools: pools.failing()) or None

    found = site.eventually(failing, "failing member")
    (service,) = site.client.get_load_balancer(id=balancer)["services"]
    checks = {each["public-ip"]: each["status"] for each in service["healthcheck-status"]}
    assert checks == dict.fromkeys(found, "failure")
    assert found == site.addresses(pool)


def test_where_no_health_check_calls_a_member_failed_none_is(site: Site, pool: str) -> None:
    assert with_pools(site, pool, lambda pools: pools.failing()) == frozenset()


def test_refusals_have_the_types_of_what_they_mean(site: Site, pool: str) -> None:
    nobody = str(uuid.uuid4())
    assert type(refused(site, nobody, lambda pools: pools.get())) is PoolNotFound
    assert type(refused(site, nobody, lambda pools: pools.scale(2))) is PoolNotFound
    assert type(refused(site, pool, lambda pools: pools.scale(-1))) is Refused
    stranger = refused(site, pool, lambda pools: pools.evict((nobody,)))
    assert isinstance(stranger, MemberRefused | PoolNotFound | Refused)
    assert site.pool(pool)["size"] == 1


def test_a_member_that_is_protected_is_named_by_its_refusal(
    site: Site, pool: str, protected: str
) -> None:
    found = refused(site, pool, lambda pools: pools.evict((protected,)))
    assert isinstance(found, MemberRefused)
    assert found.members == {protected}
    assert site.members(pool) == [protected]


def test_a_wrong_secret_is_refused_and_not_repeated(site: Site, pool: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        with_client(
            site,
            lambda client: client.read("get-instance-pool", f"/instance-pool/{pool}"),
            secret="not-the-secret",
        )
    assert "not-the-secret" not in str(raised.value)
    assert "EXOSCALE_SECRET" in str(raised.value)

"""The agents' keys: good for their work on their pool, for nothing else, and only until revoked."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client
from exotide_autoscaler.client import Client as AutoscalerClient
from exotide_autoscaler.errors import Unauthorized
from exotide_autoscaler.pools import ExoscalePools as AutoscalerPools
from exotide_servicediscovery.client import Client as DiscoveryClient
from exotide_servicediscovery.errors import Unauthorized as DiscoveryUnauthorized
from exotide_servicediscovery.pools import ExoscalePools as DiscoveryPools

from exotide.cloud.api.iam.model import Reading
from exotide.cloud.testing import RunningCloud
from exotide.stack import Patience, Stack, StackSettings
from exotide.stack.api import connect
from exotide.stack.errors import AccessDenied
from exotide.stack.policies import autoscaler_policy, discovery_policy

from .conftest import Account

ROOT = Path(__file__).parents[2]
AGENTS = ("autoscaler", "service-discovery")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A stack, another pool beside it, and what its monitoring server was given."""

    account: Account
    cloud: RunningCloud
    stack: Stack
    foreign_pool: str
    connect: Callable[[str, str], Any]

    def env(self, agent: str) -> dict[str, str]:
        server = self.account.api.call("get_instance", id=self.stack.monitoring_id)
        files = yaml.safe_load(base64.b64decode(server["user-data"]))["write_files"]
        (text,) = (each["content"] for each in files if each["path"] == f"/srv/{agent}/agent.env")
        return dict(line.split("=", 1) for line in text.splitlines())

    def client(self, agent: str) -> Any:
        return self.connect(self.env(agent)["EXOSCALE_KEY"], self.env(agent)["EXOSCALE_SECRET"])

    @asynccontextmanager
    async def autoscaler(self) -> AsyncIterator[AutoscalerPools]:
        env = self.env("autoscaler")
        client = AutoscalerClient(
            env["EXOSCALE_KEY"],
            env["EXOSCALE_SECRET"],
            endpoint=env["EXOSCALE_API_ENDPOINT"],
            timeout_s=5,
        )
        yield AutoscalerPools(client, pool_id=self.stack.pool_id)
        await client.close()

    @asynccontextmanager
    async def discovery(self) -> AsyncIterator[DiscoveryPools]:
        env = self.env("service-discovery")
        client = DiscoveryClient(
            env["EXOSCALE_KEY"],
            env["EXOSCALE_SECRET"],
            endpoint=env["EXOSCALE_API_ENDPOINT"],
            timeout_s=5,
        )
        yield DiscoveryPools(client, pool_id=self.stack.pool_id)
        await client.close()

    def revoke(self, agent: str) -> None:
        self.account.api.change("delete_api_key", id=self.env(agent)["EXOSCALE_KEY"])


@pytest.fixture
def bench(account: Account, cloud: RunningCloud) -> Iterator[Bench]:
    clients: list[Any] = []

    def connect(key: str, secret: str) -> Any:
        clients.append(Client(key, secret, url=cloud.url))
        return clients[-1]

    yield Bench(
        account=account,
        cloud=cloud,
        stack=account.create(),
        foreign_pool=account.create(name="foreign").pool_id,
        connect=connect,
    )
    for client in clients:
        client.http_client.close()


def test_neither_agent_is_given_the_key_that_made_the_stack(bench: Bench) -> None:
    server = bench.account.api.call("get_instance", id=bench.stack.monitoring_id)
    text = base64.b64decode(server["user-data"]).decode()
    assert bench.cloud.access.key not in text
    assert bench.cloud.access.secret not in text
    keys = {bench.env(agent)["EXOSCALE_KEY"] for agent in AGENTS}
    assert len(keys) == 2


def test_the_roles_have_the_published_policies(bench: Bench) -> None:
    roles = bench.account.api.call("list_iam_roles")["iam-roles"]
    policies = {role["name"]: role["policy"] for role in roles}
    assert policies["exotide-autoscaler"] == autoscaler_policy(
        bench.stack.pool_id, max_size=bench.account.settings.max_size
    )
    assert policies["exotide-service-discovery"] == discovery_policy(bench.stack.pool_id)


@pytest.mark.parametrize("pool", ["own", "foreign"])
def test_not_even_a_stolen_key_scales_above_the_largest_size(bench: Bench, pool: str) -> None:
    client = bench.client("autoscaler")
    pool_id = bench.stack.pool_id if pool == "own" else bench.foreign_pool
    for size in (bench.account.settings.max_size + 1, 1_000_000):
        with pytest.raises(ExoscaleAPIAuthException):
            client.scale_instance_pool(id=pool_id, size=size)


READINGS = [frozenset(each) for size in range(4) for each in combinations(Reading, size)]
NOWHERE = {Reading.NO_PATH_PARAMETERS, Reading.NO_RESOURCES}
"""Together they leave an expression no name for the pool."""


@pytest.mark.parametrize("readings", READINGS, ids=lambda each: "+".join(sorted(each)) or "none")
def test_however_the_cloud_reads_policies_the_keys_are_good_for_their_own_pool(
    bench: Bench, readings: frozenset[Reading]
) -> None:
    if readings >= NOWHERE:
        bench.account.create(agents_one_pool=False)
    bench.cloud.cloud.world.iam.readings = readings
    scaler, looker = (bench.client(agent) for agent in AGENTS)
    for client in (scaler, looker):
        assert client.get_instance_pool(id=bench.stack.pool_id)["size"] == 1
        assert client.list_instances()["instances"]
    assert scaler.list_load_balancers()["load-balancers"]
    scaler.scale_instance_pool(id=bench.stack.pool_id, size=2)
    bench.cloud.settle()
    scaler.evict_instance_pool_members(id=bench.stack.pool_id, instances=_members(bench)[:1])
    if readings >= NOWHERE:
        return  # that is what is given up
    for client in (scaler, looker):
        with pytest.raises(ExoscaleAPIAuthException):
            client.get_instance_pool(id=bench.foreign_pool)


def test_where_no_name_of_the_pool_is_known_the_keys_are_refused_and_not_good_for_all(
    bench: Bench,
) -> None:
    bench.cloud.cloud.world.iam.readings = frozenset(NOWHERE)
    for pool_id in (bench.stack.pool_id, bench.foreign_pool):
        with pytest.raises(ExoscaleAPIAuthException, match=r"could not be evaluated: rule \d, \d"):
            bench.client("autoscaler").get_instance_pool(id=pool_id)


@pytest.mark.anyio
async def test_the_autoscaler_can_do_all_its_work_with_its_key(bench: Bench) -> None:
    async with bench.autoscaler() as pools:
        await pools.scale(3)
        bench.cloud.settle()
        pool = await pools.get()
        assert pool.size == 3
        members = await pools.members()
        assert {member.id for member in members} == set(pool.members or ())
        await pools.evict((members[0].id,))
        bench.cloud.settle()
        assert (await pools.get()).size == 2


@pytest.mark.anyio
async def test_the_service_discovery_can_do_all_its_work_with_its_key(bench: Bench) -> None:
    async with bench.discovery() as pools:
        found = await pools.get()
    assert [each.id for each in found.instances] == _members(bench)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_key_is_good_for_nothing_else(bench: Bench, agent: str) -> None:
    client, stack = bench.client(agent), bench.stack
    key = bench.env(agent)["EXOSCALE_KEY"]
    calls: dict[str, Callable[[], Any]] = {
        "delete-instance-pool": lambda: client.delete_instance_pool(id=stack.pool_id),
        "update-instance-pool": lambda: client.update_instance_pool(id=stack.pool_id, name="x"),
        "list-instance-pools": client.list_instance_pools,
        "create-instance": lambda: client.create_instance(name="x"),
        "delete-instance": lambda: client.delete_instance(id=stack.monitoring_id),
        "get-instance": lambda: client.get_instance(id=stack.monitoring_id),
        "stop-instance": lambda: client.stop_instance(id=stack.monitoring_id),
        "delete-load-balancer": lambda: client.delete_load_balancer(id=stack.nlb_id),
        "list-security-groups": client.list_security_groups,
        "list-iam-roles": client.list_iam_roles,
        "list-api-keys": client.list_api_keys,
        "create-iam-role": lambda: client.create_iam_role(name="mine"),
        "create-api-key": lambda: client.create_api_key(name="mine", role_id=stack.pool_id),
        "delete-api-key": lambda: client.delete_api_key(id=key),
        "get-instance-pool": lambda: client.get_instance_pool(id=bench.foreign_pool),
        "scale-instance-pool": lambda: client.scale_instance_pool(id=bench.foreign_pool, size=2),
        "evict-instance-pool-members": lambda: client.evict_instance_pool_members(
            id=bench.foreign_pool, instances=[]
        ),
    }
    before = bench.account.census()
    for operation, call in calls.items():
        with pytest.raises(ExoscaleAPIAuthException, match=f"Forbidden by role.*{operation} by"):
            call()
    assert bench.account.census() == before


def test_the_service_discovery_cannot_change_even_its_own_pool(bench: Bench) -> None:
    client = bench.client("service-discovery")
    with pytest.raises(ExoscaleAPIAuthException, match="scale-instance-pool by key exotide-serv"):
        client.scale_instance_pool(id=bench.stack.pool_id, size=2)
    with pytest.raises(ExoscaleAPIAuthException, match="evict-instance-pool-members by key"):
        client.evict_instance_pool_members(id=bench.stack.pool_id, instances=_members(bench))


@pytest.mark.anyio
async def test_a_revoked_key_stops_its_agent_at_once_and_only_that(bench: Bench) -> None:
    async with bench.autoscaler() as autoscaler, bench.discovery() as discovery:
        await autoscaler.get()
        bench.revoke("autoscaler")
        with pytest.raises(Unauthorized, match="unknown key"):
            await autoscaler.get()
        assert (await discovery.get()).id == bench.stack.pool_id
        bench.revoke("service-discovery")
        with pytest.raises(DiscoveryUnauthorized, match="unknown key"):
            await discovery.get()


def test_a_server_whose_keys_were_revoked_is_replaced_by_one_with_new_keys(bench: Bench) -> None:
    bench.revoke("autoscaler")
    bench.account.told()
    again = bench.account.create()
    assert again.monitoring_id != bench.stack.monitoring_id
    assert "instance exotide-monitoring replaced" in bench.account.told()
    renewed = Bench(**{name: getattr(bench, name) for name in _FIELDS} | {"stack": again})
    assert renewed.client("autoscaler").get_instance_pool(id=again.pool_id)["size"] == 1
    assert bench.account.census()["api-keys"] == 4


def test_a_role_that_somebody_widened_is_set_right_again(bench: Bench) -> None:
    roles = bench.account.api.call("list_iam_roles")["iam-roles"]
    role = next(each["id"] for each in roles if each["name"] == "exotide-autoscaler")
    bench.account.api.change(
        "update_iam_role_policy", id=role, default_service_strategy="allow", services={}
    )
    bench.account.create()
    shown = bench.account.api.call("get_iam_role", id=role)
    assert shown["policy"] == autoscaler_policy(
        bench.stack.pool_id, max_size=bench.account.settings.max_size
    )


COMPUTE = {"default-service-strategy": "deny", "services": {"compute": {"type": "allow"}}}


@dataclass(frozen=True, kw_only=True)
class Careful:
    """An account whose key has `compute` only, and what the owner's key sees of it."""

    owner: Account
    account: Account
    key: str
    secret: str

    def create(self, **changes: Any) -> Stack:
        return self.account.create(agents_key=self.key, agents_secret=self.secret, **changes)


@pytest.fixture
def careful(account: Account, settings: StackSettings) -> Iterator[Careful]:
    account.api.change("create_iam_role", name="careful", policy=COMPUTE)
    (role,) = account.api.call("list_iam_roles")["iam-roles"]
    key, agents = (
        account.api.call("create_api_key", name=name, role_id=role["id"])
        for name in ("builder", "agents")
    )
    mine = account.changed(key=key["key"], secret=key["secret"])
    with connect(mine, Patience(first_s=0.002, longest_s=0.05, limit_s=20)) as api:
        yield Careful(
            owner=account,
            account=Account(settings=mine, api=api),
            key=agents["key"],
            secret=agents["secret"],
        )


def test_a_key_without_iam_is_refused_before_anything_is_made_and_told_the_two_ways_out(
    careful: Careful,
) -> None:
    before = careful.owner.census()
    with pytest.raises(AccessDenied, match=r"right iam, or set agents_key and agents_secret to"):
        careful.account.create()
    assert careful.owner.census() == before


def test_with_a_key_for_the_agents_a_stack_needs_no_iam_from_its_making_to_its_end(
    careful: Careful,
) -> None:
    before = careful.owner.census()
    stack = careful.create()
    server = careful.account.api.call("get_instance", id=stack.monitoring_id)
    text = base64.b64decode(server["user-data"]).decode()
    assert text.count(f"EXOSCALE_KEY={careful.key}\n") == 2
    assert careful.secret not in json.dumps(server["labels"])
    assert careful.owner.census()["iam-roles"] == before["iam-roles"]
    assert careful.create() == stack
    careful.account.destroy()
    assert careful.owner.census() == before


def test_another_key_for_the_agents_makes_another_server(careful: Careful) -> None:
    stack = careful.create()
    again = careful.account.create(agents_key=careful.key, agents_secret="another-secret")
    assert (again.monitoring_id != stack.monitoring_id, again.pool_id) == (True, stack.pool_id)
    owned = careful.owner.create()
    assert owned.monitoring_id != again.monitoring_id
    assert careful.owner.create() == owned


_FIELDS = tuple(Bench.__dataclass_fields__)


def _members(bench: Bench) -> list[str]:
    pool = bench.account.api.call("get_instance_pool", id=bench.stack.pool_id)
    return [each["id"] for each in pool["instances"]]


def test_the_documentation_shows_the_policies_as_they_are() -> None:
    text = (ROOT / "docs/reference/iam.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```json")[1:]]
    shown = [json.loads(block) for block in blocks]
    assert shown == [autoscaler_policy("POOL", max_size=5), discovery_policy("POOL")]

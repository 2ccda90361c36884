"""A cloud that is started again is the same cloud: on fake servers that outlive it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client

from exotide.cloud.api.app import Api
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.api.world import World
from exotide.cloud.errors import StateDamaged
from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.faults.model import (
    BootFailure,
    Duration,
    Effect,
    FallBack,
    Fault,
    Shortfall,
    Staggered,
    StuckState,
    Timing,
)
from exotide.cloud.state.keeper import Keeper
from exotide.cloud.state.store import FILE, Changes, Store
from exotide.cloud.testing import FakeServers, RunningCloud, running_cloud
from tests.cloud_api.conftest import Account

PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb6hVJ3v0cFq0Ws0vMvFnGvXaP0CqHqOSVnKpMcX0mP me@here"
)

HOUR = Duration(first=3_600.0)


class Life:
    """One life of a cloud, with the SDK pointed at it."""

    def __init__(self, cloud: RunningCloud, client: Any) -> None:
        self.cloud, self.client = cloud, client
        self.account = Account(client=client, cloud=cloud)

    @property
    def servers(self) -> FakeServers:
        servers = self.cloud.servers
        assert isinstance(servers, FakeServers)
        return servers

    @property
    def balancers(self) -> FakeBalancers:
        balancers = self.cloud.balancers
        assert isinstance(balancers, FakeBalancers)
        return balancers

    def everything(self) -> dict[str, Any]:
        """All that the API shows, by kind."""
        client = self.client
        shown = {
            "pools": client.list_instance_pools()["instance-pools"],
            "groups": client.list_security_groups()["security-groups"],
            "keys": client.list_ssh_keys()["ssh-keys"],
            "balancers": client.list_load_balancers()["load-balancers"],
            "apart": client.list_anti_affinity_groups()["anti-affinity-groups"],
            "roles": client.list_iam_roles()["iam-roles"],
            "keys to the API": client.list_api_keys()["api-keys"],
            "policy": client.get_iam_organization_policy(),
        }
        listed = client.list_instances()["instances"]
        return shown | {"instances": [client.get_instance(id=each["id"]) for each in listed]}


Begin = Callable[..., Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def life(tmp_path: Path) -> Begin:
    """Start a cloud on the test's state folder, with what a predecessor left running."""

    @contextmanager
    def begin(before: Life | None = None, *, without: tuple[str, ...] = ()) -> Iterator[Life]:
        running = before.servers.running if before else {}
        survivors = {key: spec for key, spec in running.items() if key not in without}
        with ExitStack() as stack:
            store = stack.enter_context(Store(tmp_path / "state"))
            servers = FakeServers(survivors=survivors)
            cloud = stack.enter_context(running_cloud(servers=servers, store=store))
            client = Client(cloud.access.key, cloud.access.secret, url=cloud.url)
            stack.callback(client.http_client.close)
            yield Life(cloud, client)

    return begin


def stack(life: Life) -> tuple[str, str, str]:
    """Make one of everything; give pool, balancer and service."""
    account, client = life.account, life.client
    group = account.done(client.create_security_group(name="web", description="members"))
    rule = {"flow_direction": "ingress", "protocol": "tcp", "start_port": 80, "end_port": 81}
    account.done(client.add_rule_to_security_group(id=group, network="0.0.0.0/0", **rule))
    account.done(client.register_ssh_key(name="me", public_key=PUBLIC_KEY))
    pool = account.pool(3, security_groups=[{"id": group}], user_data="I2Nsb3VkLWNvbmZpZwo=")
    nlb = account.nlb()
    return pool, nlb, account.service(nlb, pool)


def test_everything_is_there_again_and_no_server_was_started_anew(life: Begin) -> None:
    with life() as first:
        _, _, service = stack(first)
        before = first.everything()
        operation = first.client.create_load_balancer(name="second")
        first.cloud.settle()
        before = first.everything()
    assert first.servers.left
    with life(first) as second:
        assert second.everything() == before
        assert second.client.get_operation(id=operation["id"])["state"] == "success"
        assert second.servers.started == []
        assert len(second.servers.adopted) == 3
        assert sorted(second.balancers.members[service]) == sorted(
            spec.ip for spec in second.servers.adopted
        )
        assert second.servers.reserved >= {spec.ip for spec in second.servers.adopted}


def test_a_member_that_died_meanwhile_is_replaced_and_a_single_instance_is_stopped(
    life: Begin,
) -> None:
    with life() as first:
        pool, _, service = stack(first)
        single = first.account.instance()
        lost, *others = first.account.members(pool)
    with life(first, without=(lost, single)) as second:
        second.cloud.settle()
        fresh = second.account.members(pool)
        assert fresh[:2] == others
        assert lost not in fresh
        assert len(fresh) == 3
        assert sorted(second.balancers.members[service]) == sorted(second.account.ips(pool))
        assert second.client.get_instance(id=single)["state"] == "stopped"


def test_what_was_deleted_stays_deleted(life: Begin) -> None:
    with life() as first:
        pool, nlb, service = stack(first)
        single = first.account.instance()
        first.account.done(first.client.delete_load_balancer_service(id=nlb, service_id=service))
        first.account.done(first.client.delete_instance_pool(id=pool))
        first.account.done(first.client.delete_instance(id=single))
        first.account.done(first.client.delete_ssh_key(name="me"))
    with life(first) as second:
        shown = second.everything()
        assert (shown["pools"], shown["instances"], shown["keys"]) == ([], [], [])
        assert second.balancers.members == {}
        assert len(second.servers.reserved) == 1


def test_a_change_that_was_under_way_is_finished_with_its_operation(life: Begin) -> None:
    with life() as first:
        pool, *_ = stack(first)
        first.servers.holds_boots = True
        growing = first.client.scale_instance_pool(id=pool, size=5)
        members = first.account.members(pool)
    with life(first) as second:
        second.cloud.settle()
        assert second.client.get_operation(id=growing["id"])["state"] == "success"
        assert second.account.members(pool) == members
        assert second.client.get_instance_pool(id=pool)["state"] == "running"
        assert {spec.id for spec in second.servers.started} == set(members[3:])


def test_a_member_that_came_up_as_its_cloud_ended_gets_traffic_from_the_next(life: Begin) -> None:
    with life() as first:
        pool, _, service = stack(first)
        first.servers.holds_boots = True
        first.client.scale_instance_pool(id=pool, size=5)
        (known, *_) = first.servers.running.values()
        for key in first.account.members(pool)[3:]:
            first.servers.running[key] = replace(known, id=key)
    with life(first) as second:
        second.cloud.settle()
        assert second.servers.started == []
        serving = second.balancers.members[service]
        assert sorted(serving) == sorted(second.account.ips(pool))
        assert len(serving) == 5


def test_a_key_of_a_role_is_good_for_the_same_after_a_restart_and_a_deleted_one_for_nothing(
    life: Begin,
) -> None:
    deny = {"default-service-strategy": "deny", "services": {"compute": {"type": "allow"}}}
    with life() as first:
        client, account = first.client, first.account
        role = account.done(client.create_iam_role(name="reader", policy=deny))
        good, gone = (client.create_api_key(name=name, role_id=role) for name in ("good", "gone"))
        account.done(client.delete_api_key(id=gone["key"]))
        apart = account.done(client.create_anti_affinity_group(name="apart", description="d"))
        account.pool(2, anti_affinity_groups=[{"id": apart}])
        before = first.everything()
    with life(first) as second:
        assert second.everything() == before
        for key, message in ((good, "role policy"), (gone, "Invalid|unknown|credential")):
            client = Client(key["key"], key["secret"], url=second.cloud.url)
            with pytest.raises(ExoscaleAPIAuthException, match=message):
                client.list_iam_roles()
            if key is good:
                assert len(client.list_instances()["instances"]) == 2
            client.http_client.close()


def test_a_server_that_nobody_knows_is_removed(life: Begin) -> None:
    with life() as first:
        stack(first)
        (known, *_) = first.servers.running.values()
        first.servers.running["ffffffff-half-made"] = known
    with life(first) as second:
        assert second.servers.pruned == {"ffffffff-half-made"}


def test_a_reboot_cut_short_ends_as_interrupted(life: Begin) -> None:
    with life() as first:
        single = first.account.instance()
        first.servers.holds_boots = True
        reboot = first.client.reboot_instance(id=single)
        assert first.client.get_operation(id=reboot["id"])["state"] == "pending"
    with life(first) as second:
        ended = second.client.get_operation(id=reboot["id"])
        assert (ended["state"], ended["reason"]) == ("failure", "interrupted")
        assert second.client.get_instance(id=single)["state"] == "running"


def test_an_answer_is_given_only_when_it_is_on_the_disk(life: Begin, tmp_path: Path) -> None:
    with life() as first:
        file = tmp_path / "state" / FILE
        first.client.create_security_group(name="kept")
        rows = file.with_name(f"{FILE}-wal").read_bytes()
        assert b'"name":"kept"' in rows


@pytest.mark.anyio
async def test_a_disk_that_refuses_is_told_and_nothing_is_promised(tmp_path: Path) -> None:
    world = World(servers=FakeServers(), balancers=FakeBalancers(), secrets={"EXOkey": "hush"})
    with Store(tmp_path / "s") as store:
        keeper = Keeper(store, world)
        asked = SignedRequest(method="POST", path="/v2/security-group", body=b'{"name":"web"}')
        store._connection.execute("PRAGMA query_only = ON")
        status, body = await post(Api(world, commit=keeper.commit), asked)
        assert status == 503
        assert "the change could not be kept: cannot write" in body
        store._connection.execute("PRAGMA query_only = OFF")
        await keeper.close()
        assert "security_groups" in {kind for kind, _, _ in store.read()}


async def post(api: Api, asked: SignedRequest) -> tuple[int, str]:
    """Ask without a server between, since what is answered here is in no official document."""
    expires = str(int(time.time()) + 60)
    signature = sign(asked, secret="hush", query_args=(), expires=expires)
    header = f"EXO2-HMAC-SHA256 credential=EXOkey,expires={expires},signature={signature}"
    scope = {
        "type": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", header.encode()), (b"host", b"localhost")],
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    said: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    await api(scope, receive, send)
    return int(said[0]["status"]), said[1]["body"].decode()


def test_damage_inside_a_row_is_named_and_nothing_is_touched(life: Begin, tmp_path: Path) -> None:
    with life() as first:
        pool, *_ = stack(first)
    with Store(tmp_path / "state") as store:
        store.write(Changes(put={("pools", pool): b'{"id": 7}'}))
        before = store.read()
    with pytest.raises(StateDamaged, match=f"pools {pool}: "), life(first):
        pass
    with Store(tmp_path / "state") as store:
        assert store.read() == before


def test_answers_to_many_at_once_share_their_transactions(life: Begin) -> None:
    with life() as first:

        def make(number: int) -> None:
            client = Client(first.cloud.access.key, first.cloud.access.secret, url=first.cloud.url)
            client.create_security_group(name=f"g{number}")
            client.http_client.close()

        threads = [threading.Thread(target=make, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before = first.everything()
        assert len(before["groups"]) == 12
    with life(first) as second:
        assert second.everything() == before


def test_a_folder_from_before_pools_had_a_size_of_their_own_is_read(
    life: Begin, tmp_path: Path
) -> None:
    with life() as first:
        pool, *_ = stack(first)
        before = first.everything()
    with Store(tmp_path / "state") as store:
        (stored,) = (json.loads(text) for kind, _, text in store.read() if kind == "pools")
        assert (stored.pop("size"), stored.pop("is_size_late")) == (3, False)
        store.write(Changes(put={("pools", pool): json.dumps(stored).encode()}))
    with life(first) as second:
        second.cloud.settle()
        assert second.everything() == before


@pytest.mark.parametrize(
    ("effect", "size"),
    [
        (Shortfall(comes=1), 5),
        (Shortfall(comes=1, gives_up=True), 5),
        (Staggered(delay_s=HOUR, late_size=True), 5),
        (Staggered(delay_s=HOUR, late_size=True), 1),
        (FallBack(delay_s=HOUR), 5),
        (FallBack(delay_s=HOUR), 1),
        (FallBack(delay_s=HOUR, fresh=True), 1),
        (StuckState(), 5),
        (StuckState(state="degraded", accepts=True), 1),
        (BootFailure(stays=True), 5),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
def test_faults_do_not_survive_and_what_they_held_is_finished(
    life: Begin, effect: Effect, size: int
) -> None:
    with life() as first:
        pool, _, service = stack(first)
        faults = first.cloud.cloud.world.faults
        first.cloud.on_loop(lambda: faults.add(Fault(effect=effect, timing=Timing(seed=1))))
        first.client.scale_instance_pool(id=pool, size=size)
        if not isinstance(effect, Staggered):
            first.cloud.settle()
    with life(first) as second:
        second.cloud.settle()
        shown = second.client.get_instance_pool(id=pool)
        wanted = 4 if effect == Shortfall(comes=1, gives_up=True) else size
        assert (shown["size"], len(shown["instances"]), shown["state"]) == (
            *(wanted, wanted),
            "running",
        )
        listed = second.client.list_instances()["instances"]
        assert {each["id"] for each in listed} == set(second.account.members(pool))
        assert {each["state"] for each in listed} == {"running"}
        assert set(second.servers.running) == set(second.account.members(pool))
        assert sorted(second.balancers.members[service]) == sorted(second.account.ips(pool))

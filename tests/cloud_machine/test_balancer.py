"""HAProxy as a load balancer: who joins gets traffic when it answers, who leaves is drained."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.balancer_config import Manner
from exotide.cloud.ports import HealthCheck, ServerSpec, ServiceSpec
from exotide.cloud.servers.errors import BalancerFailed, UnknownBalancer, UnsupportedService
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.underlay import Underlay

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.anyio]

Test = TypeVar("Test", bound=Callable[..., object])
CHECK = HealthCheck(mode="http", port=8080, interval_s=1.0, timeout_s=1.0, retries=2, uri="/health")
WEB = ServiceSpec(
    id="5e51ce00-0000-0000-0000-000000000000",
    name="web",
    port=80,
    target_port=8080,
    strategy="round-robin",
    protocol="tcp",
    healthcheck=CHECK,
)


@pytest.fixture(params=[pytest.param("processes", marks=pytest.mark.root), "loopback"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manner(request: pytest.FixtureRequest) -> Manner:
    """How the balancer treats members; `plain` where a test asks for it."""
    return cast("Manner", getattr(request, "param", "attentive"))


def plain(test: Test) -> Test:
    """Run a test with a plain balancer; on one driver, since both have the same HAProxy."""
    on_loopback = pytest.mark.parametrize("driver", ["loopback"])(test)
    marked: Test = pytest.mark.parametrize("manner", ["plain"], indirect=True)(on_loopback)
    return marked


@dataclass
class Stand:
    """A cloud with one balancer, and as many stub servers as a test wants."""

    servers: ProcessServers
    balancers: HaproxyBalancers
    tools: Tools
    nlb_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    ip: str = ""
    port: int = 80

    async def server(self, **more: float) -> ServerSpec:
        spec = self.tools.spec(self.servers)
        await self.servers.start(replace(spec, **more))  # type: ignore[arg-type]  # only floats
        return spec

    async def members(self, specs: Sequence[ServerSpec]) -> None:
        await self.balancers.set_members(self.nlb_id, WEB.id, [spec.ip for spec in specs])

    def health(self) -> dict[str, bool]:
        return self.balancers.health(self.nlb_id, WEB.id)

    def healthy(self) -> bool:
        health = self.health()
        return bool(health) and all(health.values())

    async def serving(self, specs: Sequence[ServerSpec]) -> None:
        await self.members(specs)
        await self.tools.eventually(self.healthy)

    async def kill_haproxy(self) -> None:
        """Kill it, and wait until another one answers."""
        pid = self.balancers.haproxy_pid(self.nlb_id, WEB.id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await self.tools.eventually(
            lambda: (
                self.balancers.haproxy_pid(self.nlb_id, WEB.id) != pid
                and self.tools.answers(f"http://{self.ip}:{self.port}/")
            )
        )

    def files(self) -> set[str]:
        (folder,) = self.servers.run_dir.glob(f"*/nlb-{self.nlb_id[:8]}")
        return {path.name for path in folder.iterdir()}

    def get(self, path: str = "/") -> str:
        return self.tools.fetch(f"http://{self.ip}:{self.port}{path}", 10.0)


@pytest.fixture
async def stand(
    run_dir: Path,
    cloud_id: str,
    tools: Tools,
    underlay: Callable[[str], Underlay],
    manner: Manner,
) -> AsyncIterator[Stand]:
    command = f"exec {sys.executable} -I -S {tools.stub} 8080"
    servers = ProcessServers(
        cloud_id=cloud_id,
        run_dir=run_dir,
        cores_per_vcpu=0.2,
        command=command,
        underlay=underlay(cloud_id),
    )
    await servers.open()
    balancers = HaproxyBalancers(
        servers.network,
        run_dir,
        cloud_id,
        drain_within_s=5.0,
        groups=servers.underlay.groups,
        manner=manner,
    )
    port = servers.network.served_port(80)
    made = Stand(servers, balancers, tools, ip=servers.reserve_ip(), port=port)
    await balancers.create(made.nlb_id, made.ip)
    await balancers.create(made.nlb_id, made.ip)  # idempotent
    await balancers.put_service(made.nlb_id, WEB)
    yield made
    await balancers.close()
    await servers.close(grace_s=0.5)


class Clients:
    """Closed loops of requests, each on a new connection."""

    def __init__(self, ip: str, port: int, count: int = 4) -> None:
        self.ip, self.port = ip, port
        self.served: Counter[str] = Counter()
        self.lost: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._loop) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                connection = http.client.HTTPConnection(self.ip, self.port, timeout=10)
                connection.request("GET", "/", headers={"Connection": "close"})
                answer = connection.getresponse()
                self.served[answer.read().decode()] += 1
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


async def test_no_request_is_lost_while_members_join_and_leave(stand: Stand) -> None:
    specs = [await stand.server()]
    await stand.serving(specs)
    clients = Clients(stand.ip, stand.port)
    try:
        for _ in range(3):
            specs.append(await stand.server())
            await stand.serving(specs)
            await asyncio.sleep(0.4)
        for _ in range(2):
            gone = specs.pop(0)
            await stand.members(specs)
            assert await stand.balancers.wait_drained(stand.nlb_id, WEB.id, gone.ip, within_s=5.0)
            await stand.servers.stop(gone.id)
            await asyncio.sleep(0.2)
    finally:
        clients.end()
    assert clients.lost == []
    assert set(clients.served) >= {spec.name for spec in specs}
    assert clients.served.total() > 1000


async def test_a_newcomer_serves_within_half_a_second_of_its_first_answer(stand: Stand) -> None:
    spec = stand.tools.spec(stand.servers)
    await stand.members([spec])  # long before it answers
    await asyncio.sleep(0.5)
    assert stand.balancers.health(stand.nlb_id, WEB.id) == {spec.ip: False}
    await stand.servers.start(spec)
    await stand.tools.eventually(lambda: stand.tools.answers(f"http://{spec.ip}:8080/"))
    answered_s = time.monotonic()
    await stand.tools.eventually(lambda: stand.tools.answers(f"http://{stand.ip}:{stand.port}/"))
    assert time.monotonic() - answered_s < 0.5


async def test_a_dead_newcomer_gets_no_request(stand: Stand) -> None:
    spec = await stand.server()
    await stand.serving([spec])
    clients = Clients(stand.ip, stand.port, count=2)
    dead = stand.tools.spec(stand.servers)
    await stand.members([spec, dead])
    await asyncio.sleep(0.7)
    clients.end()
    assert stand.balancers.health(stand.nlb_id, WEB.id) == {spec.ip: True, dead.ip: False}
    assert clients.lost == []


async def test_a_member_that_dies_is_found_out_and_comes_back(stand: Stand) -> None:
    one, two = await stand.server(), await stand.server()
    await stand.serving([one, two])
    await stand.servers.stop(one.id, grace_s=0.0)
    await stand.tools.eventually(
        lambda: stand.balancers.health(stand.nlb_id, WEB.id) == {one.ip: False, two.ip: True},
        within_s=10.0,
    )
    assert {stand.get() for _ in range(4)} == {two.name}
    await stand.servers.start(one)
    await stand.tools.eventually(stand.healthy)


async def test_requests_in_flight_finish_on_a_member_that_left(stand: Stand) -> None:
    one, two = await stand.server(), await stand.server()
    await stand.serving([one])
    slow = asyncio.create_task(asyncio.to_thread(stand.get, "/slow"))
    await asyncio.sleep(0.3)
    began_s = time.monotonic()
    await stand.serving([two])
    assert stand.get() == two.name
    assert time.monotonic() - began_s < 0.9
    assert await slow == one.name


async def test_an_address_may_leave_and_come_back_at_once(stand: Stand) -> None:
    spec = await stand.server()
    await stand.serving([spec])
    await stand.members([])
    assert stand.balancers.health(stand.nlb_id, WEB.id) == {}
    await stand.serving([spec])
    assert stand.get() == spec.name


async def test_round_robin_takes_turns_and_source_hash_stays(stand: Stand) -> None:
    specs = [await stand.server(), await stand.server()]
    await stand.serving(specs)
    assert len({stand.get() for _ in range(6)}) == 2
    await stand.balancers.put_service(stand.nlb_id, replace(WEB, strategy="source-hash"))
    assert stand.healthy()
    assert len({stand.get() for _ in range(6)}) == 1


async def test_a_changed_service_loses_no_request(stand: Stand) -> None:
    await stand.serving([await stand.server()])
    clients = Clients(stand.ip, stand.port, count=2)
    for retries in (3, 4, 5):
        check = replace(CHECK, retries=retries)
        await stand.balancers.put_service(stand.nlb_id, replace(WEB, healthcheck=check))
        await asyncio.sleep(0.2)
    clients.end()
    assert clients.lost == []
    stem = f"{WEB.id[:8]}-4"
    assert stand.files() == {f"{stem}.cfg", f"{stem}.sock", f"{WEB.id[:8]}.log"}


async def test_a_dead_haproxy_is_restarted_with_its_members(stand: Stand) -> None:
    specs = [await stand.server(), await stand.server()]
    await stand.serving(specs)
    await stand.kill_haproxy()
    assert {stand.get() for _ in range(4)} == {spec.name for spec in specs}


async def test_a_dead_haproxy_takes_along_only_what_it_had_in_hand(stand: Stand) -> None:
    await stand.serving([await stand.server()])
    clients = Clients(stand.ip, stand.port, count=4)
    for _ in range(3):
        await asyncio.sleep(0.3)
        await stand.kill_haproxy()
    clients.end()
    assert len(clients.lost) <= 3 * 4
    assert not any("refused" in each for each in clients.lost)


async def test_a_service_may_move_to_another_port_and_leaves_nobody_on_the_first(
    stand: Stand,
) -> None:
    await stand.serving([await stand.server()])
    await stand.balancers.put_service(stand.nlb_id, replace(WEB, port=8181))
    await stand.tools.eventually(lambda: stand.tools.answers(f"http://{stand.ip}:8181/"))
    assert not stand.tools.answers(f"http://{stand.ip}:{stand.port}/")


async def test_a_port_that_another_program_has_is_named_and_the_service_stays(stand: Stand) -> None:
    await stand.serving([await stand.server()])
    if stand.servers.underlay.own_network:
        pytest.skip("NOT TESTED: no other program can be at a balancer's own address")
    with socket.create_server((stand.ip, 8182)), pytest.raises(BalancerFailed, match="port 8182"):
        await stand.balancers.put_service(stand.nlb_id, replace(WEB, port=8182))
    assert stand.get()


async def test_a_service_with_a_tcp_check_needs_no_http(stand: Stand) -> None:
    tcp = replace(CHECK, mode="tcp", uri=None)
    await stand.balancers.put_service(stand.nlb_id, replace(WEB, healthcheck=tcp))
    await stand.serving([await stand.server()])


async def test_what_does_not_exist_or_cannot_be_done_is_refused(stand: Stand) -> None:
    with pytest.raises(UnsupportedService, match="got: udp"):
        await stand.balancers.put_service(stand.nlb_id, replace(WEB, id="2", protocol="udp"))
    with pytest.raises(UnknownBalancer, match="no service 2"):
        await stand.balancers.set_members(stand.nlb_id, "2", [])
    with pytest.raises(UnknownBalancer, match="load balancer 3"):
        stand.balancers.health("3", WEB.id)
    await stand.balancers.delete_service(stand.nlb_id, "2")
    await stand.balancers.delete("3")
    await stand.balancers.delete_service(stand.nlb_id, WEB.id)
    assert not stand.tools.answers(f"http://{stand.ip}:{stand.port}/")


@pytest.mark.parametrize("turns", range(5))
async def test_a_service_ends_however_soon_after_a_change_of_members(
    stand: Stand, turns: int
) -> None:
    await asyncio.sleep(0.3)  # until nothing is to do, and the next look is awaited
    await stand.members([])
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await stand.balancers.delete_service(stand.nlb_id, WEB.id)


@plain
async def test_a_plain_balancer_takes_an_interval_and_a_check_to_use_a_newcomer(
    stand: Stand,
) -> None:
    spec = await stand.server()
    began_s = time.monotonic()
    await stand.members([spec])
    assert stand.health() == {}
    await stand.tools.eventually(lambda: stand.health() == {spec.ip: True})
    assert time.monotonic() - began_s >= CHECK.interval_s
    assert stand.get() == spec.name


@plain
async def test_a_plain_balancer_goes_on_with_who_left_until_its_checks_fail(stand: Stand) -> None:
    one, two = await stand.server(), await stand.server()
    await stand.serving([one])
    await stand.serving([one, two])
    await stand.tools.eventually(lambda: len(stand.health()) == 2)
    await stand.members([two])
    await asyncio.sleep(1.5)
    assert stand.health() == {one.ip: True, two.ip: True}
    assert {stand.get() for _ in range(4)} == {one.name, two.name}
    wait = stand.balancers.wait_drained(stand.nlb_id, WEB.id, one.ip, within_s=0.1)
    assert not await wait
    await stand.servers.stop(one.id, grace_s=0.0)
    await stand.tools.eventually(lambda: stand.health() == {two.ip: True}, within_s=6.0)
    assert {stand.get() for _ in range(4)} == {two.name}


@plain
async def test_a_plain_balancer_that_is_wrong_for_too_long_believes_the_list(stand: Stand) -> None:
    one, two = await stand.server(), await stand.server()
    await stand.serving([one])
    await stand.members([two])
    await stand.tools.eventually(lambda: stand.health() == {two.ip: True}, within_s=8.0)
    assert stand.tools.answers(f"http://{one.ip}:8080/")


@plain
async def test_a_plain_balancer_lets_a_member_that_comes_back_in_time_stay(stand: Stand) -> None:
    spec = await stand.server()
    await stand.serving([spec])
    await stand.members([])
    await stand.members([spec])
    await asyncio.sleep(0.5)
    assert stand.health() == {spec.ip: True}
    assert await stand.balancers.wait_drained(stand.nlb_id, WEB.id, spec.ip, within_s=0.1)


@plain
async def test_a_plain_balancer_hides_no_dead_member(stand: Stand) -> None:
    one, two = await stand.server(), await stand.server()
    await stand.serving([one, two])
    await stand.tools.eventually(lambda: len(stand.health()) == 2)
    clients = Clients(stand.ip, stand.port, count=2)
    await stand.servers.stop(one.id, grace_s=0.0)
    await stand.tools.eventually(
        lambda: stand.health() == {one.ip: False, two.ip: True}, within_s=10.0
    )
    clients.end()
    assert clients.lost
    assert {stand.get() for _ in range(4)} == {two.name}


@plain
async def test_a_plain_balancer_says_of_a_sick_newcomer_that_it_fails(stand: Stand) -> None:
    dead = stand.tools.spec(stand.servers)
    await stand.members([dead])
    await stand.tools.eventually(lambda: stand.health() == {dead.ip: False}, within_s=10.0)

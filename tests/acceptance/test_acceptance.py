"""The steps of the acceptance contract."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from pytest_bdd import given, parsers, scenarios, then, when

from exotide.stack import Stack

from .conftest import Agent, Loops, RunningCloud, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
scenarios(".")

CPU_QUERY = (
    'sum by (instance)(rate(node_cpu_seconds_total{mode!="idle"}[1m]))'
    " / sum by (instance)(rate(node_cpu_seconds_total[1m]))"
)


@dataclass
class World:
    """What the steps of one scenario tell each other."""

    cloud: RunningCloud
    pool_id: str = ""
    stack: Stack | None = None
    agent: Agent | None = None
    answer: httpx2.Response | None = None
    deleted: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    def pool(self) -> dict[str, Any]:
        return dict(self.cloud.client.get_instance_pool(id=self.pool_id))

    def members(self) -> list[dict[str, Any]]:
        client = self.cloud.client
        return [client.get_instance(id=ref["id"]) for ref in self.pool().get("instances", [])]

    def addresses(self) -> list[str]:
        return sorted(f"{member['public-ip']}:9100" for member in self.members())

    def query(self, expression: str) -> dict[str, float]:
        """Value by `instance`."""
        assert self.stack
        answer = httpx2.get(
            f"{self.stack.prometheus_url}/api/v1/query", params={"query": expression}
        )
        result = answer.raise_for_status().json()["data"]["result"]
        return {line["metric"]["instance"]: float(line["value"][1]) for line in result}

    def backends(self) -> list[dict[str, Any]]:
        assert self.stack
        balancer = self.cloud.client.get_load_balancer(id=self.stack.nlb_id)
        return list(balancer["services"][0].get("healthcheck-status", []))


@pytest.fixture
def world(cloud: RunningCloud) -> Iterator[World]:
    world = World(cloud=cloud)
    yield world
    if world.pool_id and world.stack is None:
        cloud.client.wait(cloud.client.delete_instance_pool(id=world.pool_id)["id"])


@given("the stack")
def the_stack(world: World, built: Stack) -> None:
    world.stack, world.pool_id = built, built.pool_id


@given("a pool of 1")
def a_pool(world: World) -> None:
    client = world.cloud.client
    kind = next(t for t in client.list_instance_types()["instance-types"] if t["size"] == "micro")
    template = client.list_templates(visibility="public")["templates"][0]
    operation = client.create_instance_pool(
        name="container-test",
        size=1,
        instance_type={"id": kind["id"]},
        template={"id": template["id"]},
        disk_size=10,
    )
    world.pool_id = client.wait(operation["id"])["reference"]["id"]


@given("the service discovery, started with the contract's environment")
def service_discovery(world: World, start_agent: Callable[[str, str], Agent]) -> None:
    world.agent = start_agent("exotide-servicediscovery", world.pool_id)


@given("the autoscaler, started with the contract's environment")
def autoscaler(world: World, start_agent: Callable[[str, str], Agent]) -> None:
    world.agent = start_agent("exotide-autoscaler", world.pool_id)
    eventually(lambda: _answers(world.agent), within_s=30, what="the autoscaler's first answer")


def _answers(agent: Agent | None) -> bool | None:
    assert agent
    assert agent.process.poll() is None
    try:
        return httpx2.get(f"http://127.0.0.1:{agent.port}/livez").is_success or None
    except httpx2.HTTPError:
        return None


@when("all members of the pool are deleted through the API")
def delete_members(world: World) -> None:
    world.deleted = {member["id"] for member in world.members()}
    for instance_id in world.deleted:
        world.cloud.client.delete_instance(id=instance_id)


@when("/load is requested again and again")
def request_load(loops: Loops) -> None:
    loops.start(2)


@when("ten loops request /load in parallel")
def ten_loops(loops: Loops) -> None:
    loops.start(10)


@when("the loops end")
def end_loops(world: World, loops: Loops) -> None:
    world.lost = [code for code in loops.stop() if code != "200"]


@when(parsers.parse("the pool is scaled to {size:d}"))
def scale(world: World, size: int) -> None:
    world.cloud.client.scale_instance_pool(id=world.pool_id, size=size)


@when(parsers.parse("GET {path} is sent once"))
def send(world: World, path: str) -> None:
    assert world.agent
    world.answer = httpx2.get(f"http://127.0.0.1:{world.agent.port}{path}")


@when(parsers.parse("{pause_s:d} s have passed, so that it is no repeat"))
def pause(pause_s: int) -> None:
    # A second webhook so soon after the change is merged with the first: a rule about real time.
    time.sleep(pause_s)


@when("it gets TERM")
def send_term(world: World) -> None:
    assert world.agent
    world.agent.process.send_signal(signal.SIGTERM)


@then("there is exactly one instance pool")
def one_pool(world: World) -> None:
    pools = world.cloud.client.list_instance_pools()["instance-pools"]
    assert [pool["id"] for pool in pools] == [world.pool_id]


@then("there is exactly one load balancer, with exactly one service, on port 80")
def one_balancer(world: World) -> None:
    balancers = world.cloud.client.list_load_balancers()["load-balancers"]
    assert [[s["port"] for s in balancer["services"]] for balancer in balancers] == [[80]]


@then(parsers.parse("all backends are healthy within {within_s:d} s"))
def healthy(world: World, within_s: int) -> None:
    def look() -> bool | None:
        states = world.backends()
        fine = len(states) == world.pool()["size"] > 0
        return (fine and all(state["status"] == "success" for state in states)) or None

    eventually(look, within_s=within_s, what="health of all backends")


@then('the service answers 200 and exactly "OK" to /health')
def answers_ok(world: World) -> None:
    assert world.stack
    answer = httpx2.get(f"{world.stack.url}/health")
    assert (answer.status_code, answer.text) == (200, "OK")


@then(parsers.parse("the pool has other members within {within_s:d} s"))
def others(world: World, within_s: int) -> None:
    def look() -> bool | None:
        members = world.pool().get("instances", [])
        ids = {member["id"] for member in members}
        return (len(ids) == world.pool()["size"] and not ids & world.deleted) or None

    eventually(look, within_s=within_s, what="the replacement of all members")


@then("there is exactly one instance beside the pool's members")
def one_beside(world: World) -> None:
    members = {ref["id"] for ref in world.pool()["instances"]}
    everything = {i["id"] for i in world.cloud.client.list_instances()["instances"]}
    assert len(everything - members) == 1


@then(parsers.parse("Prometheus answers from outside within {within_s:d} s"))
def prometheus_answers(world: World, within_s: int) -> None:
    eventually(
        lambda: world.query("up") is not None or None, within_s=within_s, what="Prometheus' answer"
    )


@then(parsers.parse("every member is up in Prometheus within {within_s:d} s"))
def all_up(world: World, within_s: int) -> None:
    def look() -> bool | None:
        up = world.query('up{pool_id!=""}')
        return (sorted(up) == world.addresses() and set(up.values()) == {1.0}) or None

    eventually(look, within_s=within_s, what="`up` of every member")


@then(parsers.parse("the CPU query has one line for each member within {within_s:d} s"))
def cpu_lines(world: World, within_s: int) -> None:
    eventually(
        lambda: set(world.addresses()) <= set(world.query(CPU_QUERY)) or None,
        within_s=within_s,
        what="a line of the CPU query for each member",
    )


@then(parsers.parse("the CPU query shows a member above {ratio:f} within {within_s:d} s"))
def cpu_high(world: World, ratio: float, within_s: int) -> None:
    def look() -> bool | None:
        cpu = world.query(CPU_QUERY)
        return any(cpu.get(address, 0) > ratio for address in world.addresses()) or None

    eventually(look, within_s=within_s, what=f"a CPU above {ratio}")


@then(parsers.parse("its file has as many targets as the pool has members within {within_s:d} s"))
def file_follows(world: World, within_s: int) -> None:
    agent = world.agent
    assert agent

    def look() -> bool | None:
        if not agent.targets.exists():
            return None
        groups = json.loads(agent.targets.read_text())
        targets = sorted(target for group in groups for target in group["targets"])
        return (targets == world.addresses() and len(targets) == world.pool()["size"]) or None

    eventually(look, within_s=within_s, what="the file's equality with the pool")


@then("the answer is 200")
def answer_200(world: World) -> None:
    assert world.answer is not None
    assert world.answer.status_code == 200


@then(parsers.re(r"the pool has (?P<size>\d+) members? within (?P<within_s>\d+) s"))
def pool_has(world: World, size: str, within_s: str) -> None:
    eventually(
        lambda: len(world.pool().get("instances", [])) == int(size) or None,
        within_s=float(within_s),
        what=f"a pool of {size}",
    )


@then("the autoscaler ignores it and the pool keeps 1 member")
def ignored(world: World) -> None:
    agent = world.agent
    assert agent
    eventually(
        lambda: agent.decisions()[-1]["reason"] == "at-limit" or None,
        within_s=120,
        what="the decision to ignore it",
    )
    assert world.pool()["size"] == 1


@then(parsers.parse("it exits with 0 within {within_s:d} s"))
def exits(world: World, within_s: int) -> None:
    assert world.agent
    started_at = time.monotonic()
    assert world.agent.process.wait(within_s) == 0, world.agent.log.read_text()
    assert time.monotonic() - started_at < within_s


@then("no request of the loops was lost")
def none_lost(world: World) -> None:
    assert world.lost == []

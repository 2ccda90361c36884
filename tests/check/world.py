"""A stack that exists only here, on a clock that only tests move: fakes of every port."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from exotide.check.contract import CONTRACT
from exotide.check.errors import ProgramFault, WebFault
from exotide.check.model import Check, Result
from exotide.check.monitoring import CPU_QUERY
from exotide.check.ports import Page, Program
from exotide.check.runner import in_order, perform
from exotide.check.scene import Options, Scene
from exotide.check.things import Balancer, Pool, Server, Service
from exotide.stack.errors import CloudUnavailable, NotFound, StackError

MONITORING: Final = Path(__file__).parents[2] / "monitoring/grafana"
NLB_IP: Final = "192.0.2.1"
SERVER_IP: Final = "192.0.2.2"
AGENT: Final = "http://127.0.0.1:8090"
PASSWORD: Final = "open sesame"
Answer = tuple[int, str]


class FakeClock:
    """Time passes only in `sleep`, and what is due then happens."""

    def __init__(self) -> None:
        self._now, self._number = 1000.0, count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def sleep(self, pause_s: float) -> None:
        end = self._now + pause_s
        while self._due and min(self._due)[0] <= end:
            due = min(self._due)
            self._due.remove(due)
            self._now = max(self._now, due[0])
            due[2]()
        self._now = end

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        self._due.append((self._now + delay_s, next(self._number), work))


@dataclass(kw_only=True)
class FakeScreen:
    """Remembers what was said."""

    said: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def waiting(self, says: str, seen: str, *, passed_s: float, within_s: float) -> None:
        self.waits.append(f"{says}: {seen}")

    def close(self) -> None:
        self.said.append("closed")


class FakeAccount:
    """Adapter of Account: a pool that heals, and nothing else."""

    def __init__(self, world: World) -> None:
        self._world, self._number = world, count(1)
        self.all_pools = {"p1": Pool(id="p1", name="exotide", size=1, stack="exotide")}
        self.all_servers: dict[str, Server] = {}
        self.add_server(Server(id="m", name="exotide-monitoring", ip=SERVER_IP, stack="exotide"))
        service = Service(port=80, target_port=8080, pool_id="p1")
        self.all_balancers = [Balancer(id="n", name="exotide", ip=NLB_IP, services=(service,))]
        self.heals = True
        self.sick: set[str] = set()
        """Addresses, or `new` for those of members that come from now on."""
        self.opened = True
        self.faults: list[StackError] = []
        """Raised by the next calls, one each."""
        self.keeps_pools: StackError | None = None
        """Why no pool can be removed."""
        self.used_up = ""
        """Which quotas are used up."""
        self.removed: list[str] = []
        self.grow("p1")

    def add_server(self, server: Server) -> None:
        self.all_servers[server.id] = server

    def grow(self, pool_id: str) -> None:
        """Bring a pool's members to its size; the oldest go first."""
        pool = self.all_pools.get(pool_id)
        if pool is None:
            return
        members = list(pool.member_ids)
        too_many = max(len(members) - pool.size, 0)
        for gone in sorted(members, key=lambda key: int(key[1:]))[:too_many]:
            members.remove(gone)
            del self.all_servers[gone]
        while len(members) < pool.size:
            number = next(self._number)
            ip = f"198.51.100.{number}"
            members.append(f"i{number}")
            if "new" in self.sick:
                self.sick.add(ip)
            self.add_server(
                Server(id=f"i{number}", name=f"exotide-{number}", ip=ip, pool_id=pool_id)
            )
        self.all_pools[pool_id] = replace(pool, member_ids=frozenset(members))

    def scale(self, pool_id: str, size: int) -> None:
        self.all_pools[pool_id] = replace(self.all_pools[pool_id], size=size)
        self._world.clock.after(1.0, lambda: self.grow(pool_id))

    def replace_oldest(self, pool_id: str) -> None:
        """Let a member go and another come, as a pool does that repairs itself."""
        pool = self.all_pools[pool_id]
        oldest = min(pool.member_ids, key=lambda key: int(key[1:]))
        del self.all_servers[oldest]
        self.all_pools[pool_id] = replace(pool, member_ids=pool.member_ids - {oldest})
        self.grow(pool_id)

    def pools(self) -> list[Pool]:
        self._trouble()
        return list(self.all_pools.values())

    def pool(self, pool_id: str) -> Pool:
        self._trouble()
        if pool_id not in self.all_pools:
            raise NotFound(f"get instance pool found nothing (404): {pool_id}")
        return self.all_pools[pool_id]

    def balancers(self) -> list[Balancer]:
        self._trouble()
        return [self._shown(each) for each in self.all_balancers]

    def balancer(self, balancer_id: str) -> Balancer:
        self._trouble()
        (found,) = [each for each in self.all_balancers if each.id == balancer_id]
        return self._shown(found)

    def servers(self) -> list[Server]:
        self._trouble()
        return list(self.all_servers.values())

    def lets_checks_in(self, group_ids: tuple[str, ...], port: int) -> bool:
        return self.opened

    def type_name(self, type_id: str) -> str:
        return "standard.micro"

    def full(self) -> str:
        return self.used_up

    def delete_server(self, server_id: str) -> None:
        pool_id = self.all_servers.pop(server_id).pool_id
        pool = self.all_pools[pool_id]
        self.all_pools[pool_id] = replace(pool, member_ids=pool.member_ids - {server_id})
        self._world.deleted()
        if self.heals:
            self._world.clock.after(5.0, lambda: self.grow(pool_id))

    def make_pool(self, name: str, *, like: Pool) -> str:
        self.all_pools["own"] = Pool(id="own", name=name, size=1, stack=name)
        self.grow("own")
        return "own"

    def remove_pools(self, name: str) -> None:
        self.removed.append(name)
        if self.keeps_pools is not None:
            raise self.keeps_pools
        if self.faults:
            raise self.faults.pop(0)
        gone = {key for key, each in self.all_pools.items() if each.name == name}
        for key in gone:
            del self.all_pools[key]
        self.all_servers = {
            key: each for key, each in self.all_servers.items() if each.pool_id not in gone
        }

    def _shown(self, balancer: Balancer) -> Balancer:
        health = {
            server.ip: server.ip not in self.sick
            for server in self.all_servers.values()
            if server.pool_id == "p1"
        }
        services = tuple(replace(each, health=health) for each in balancer.services)
        return replace(balancer, services=services)

    def _trouble(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


class FakeWeb:
    """Adapter of Web: pages by the beginning of their URL; what is not there does not answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.pages: dict[str, Callable[[str, Mapping[str, str]], Answer]] = {
            f"http://{NLB_IP}/health": lambda *_: (200, "OK"),
            f"http://{SERVER_IP}:9090/api/v1/query": world.metrics,
            f"http://{SERVER_IP}:9090/api/v1/alertmanagers": lambda *_: _data(
                {"activeAlertmanagers": []}
            ),
            f"http://{SERVER_IP}:8091/bootstrap.json": lambda *_: (404, "Not Found"),
            f"http://{SERVER_IP}:8091/decisions": world.decisions,
            f"http://{SERVER_IP}:3000/api/": world.grafana.answer,
            AGENT: world.agent,
        }
        self.refuses: set[str] = set()
        """Beginnings of URLs that do not answer."""

    def get(
        self,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> Page:
        found = [each for each in self.pages if url.startswith(each)]
        if not found or any(url.startswith(each) for each in self.refuses):
            raise WebFault(f"{url} does not answer: refused")
        if ":3000/api/" in url and "/health" not in url and login != ("admin", PASSWORD):
            return Page(url=url, status=401, text="{}")
        status, text = self.pages[max(found, key=len)](url, query or {})
        return Page(url=url, status=status, text=text)


class FakeGrafana:
    """What a Grafana shows that was given the repository's files."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sources: list[Any] = [
            {"uid": "prometheus", "name": "Prometheus", "type": "prometheus"}
        ]
        self.board = json.loads((MONITORING / "dashboards/pool.json").read_text())
        self.rules = _file("alerting/rules")["groups"][0]["rules"]
        self.policies = _file("alerting/policies")["policies"][0]
        self.points = [
            {**receiver, "name": point["name"]}
            for point in _file("alerting/contact-points")["contactPoints"]
            for receiver in point["receivers"]
        ]
        self.database = "ok"

    def answer(self, url: str, query: Mapping[str, str]) -> Answer:
        path = url.partition("/api/")[2]
        if path.startswith("datasources/proxy/uid/prometheus/"):
            return self._world.metrics(url, query)
        known: dict[str, Any] = {
            "health": {"database": self.database},
            "datasources": self.sources,
            "search": [{"uid": "exotide"}],
            "dashboards/uid/exotide": {"dashboard": self.board},
            "v1/provisioning/alert-rules": self.rules,
            "v1/provisioning/policies": self.policies,
            "v1/provisioning/contact-points": self.points,
        }
        return (200, json.dumps(known[path])) if path in known else (404, "{}")


class FakeAgent:
    """A program that does what the contract says."""

    url = AGENT

    def __init__(self, world: World, program: Program) -> None:
        self._world, self.program = world, program
        self.exit_code: int | None = None
        self.is_over = False

    def targets(self) -> str:
        return self._world.file()

    def ask_to_end(self) -> None:
        code = self._world.exit_codes[self.program]
        if code is not None:
            self._world.clock.after(1.0, lambda: setattr(self, "exit_code", code))

    def end(self) -> None:
        self.is_over = True

    def last_words(self) -> str:
        return "the end of its log: stopped"


class FakeLoops:
    """Load that lasts until it is stopped."""

    def __init__(self, world: World) -> None:
        self._world = world

    def stop(self) -> Mapping[str, int]:
        self._world.calm()
        return self._world.answers

    def abandon(self) -> None:
        self._world.abandoned += 1


class World:
    """The stack, and how it behaves. Everything of it may be changed before, or when it begins."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.screen = FakeScreen()
        self.account = FakeAccount(self)
        self.grafana = FakeGrafana(self)
        self.cpu = 0.05
        self.lines: dict[str, float] = {}
        """Lines that Prometheus shows beside those of the members."""
        self.hidden: set[str] = set()
        """Addresses of members that Prometheus does not know, or `new` for all that come."""
        self.exporters_down = False
        self.grows_after_s = [100.0, 400.0]
        self.shrinks_after_s = [120.0, 420.0]
        self.hot = 0.95
        self.answers: dict[str, int] = {"200": 70}
        self.served: dict[str, int] = {"/up": 200, "/down": 200}
        self.smallest = 1
        """Where the autoscaler stops."""
        self.listed: str | None = None
        """What the service discovery writes instead of the members."""
        self.exit_codes: dict[Program, int | None] = dict.fromkeys(Program, 0)
        self.missing: set[Program] = set()
        self.agents: list[FakeAgent] = []
        self.abandoned = 0
        self.on_deleted: Callable[[], None] = lambda: None
        self.said_decisions: list[dict[str, Any]] = []
        self.web = FakeWeb(self)
        self.options = Options(zone="at-vie-1", grafana_password=PASSWORD)

    def scene(self) -> Scene:
        return Scene(
            account=self.account,
            web=self.web,
            load=self,
            programs=_Programs(self),
            clock=self.clock,
            options=self.options,
        )

    def check(self, checks: tuple[Check, ...] = CONTRACT) -> dict[str, Result]:
        """Make checks and clean up, as a session does."""
        scene, results = self.scene(), dict[str, Result]()
        try:
            perform(checks, scene, self.screen, results)
        finally:
            scene.cleanup.close()
            self.left = list(scene.left.values())
        return {each.id: each for each in in_order(checks, results, otherwise="never")}

    def deleted(self) -> None:
        self.on_deleted()

    def start(self, url: str, *, loops: int) -> FakeLoops:
        assert (url, loops) == (f"http://{NLB_IP}/load", 10)
        self.clock.after(5.0, lambda: setattr(self, "cpu", self.hot))
        for size, delay_s in enumerate(self.grows_after_s, start=2):
            self.clock.after(delay_s, partial(self.account.scale, "p1", size))
        return FakeLoops(self)

    def calm(self) -> None:
        self.cpu = 0.05
        for steps, delay_s in enumerate(self.shrinks_after_s, start=1):
            size = max(1, 3 - steps)
            self.clock.after(delay_s, partial(self.account.scale, "p1", size))

    def metrics(self, _: str, query: Mapping[str, str]) -> Answer:
        expression = query["query"]
        members = self._exporters()
        if expression == "up":
            value = 0.0 if self.exporters_down else 1.0
            return _vector(dict.fromkeys(members, value) | {"127.0.0.1:9090": 1.0})
        if expression == CPU_QUERY:
            return _vector(dict.fromkeys(members, self.cpu) | self.lines)
        if "pool_cpu:avg" in expression:
            return _vector({"": 100 * self.cpu})
        if "by (mode)" in expression:
            parts = ({"metric": {"mode": mode}, "value": [0, "1"]} for mode in ("user", "steal"))
            return _data({"resultType": "vector", "result": list(parts)})
        return _vector({})

    def decisions(self, _: str, query: Mapping[str, str]) -> Answer:
        after = int(query["after"])
        found = [each for each in self.said_decisions if int(each["id"]) > after]
        return 200, json.dumps({"decisions": found[: int(query["limit"])]})

    def agent(self, url: str, _: Mapping[str, str]) -> Answer:
        path = url.removeprefix(AGENT)
        if path in self.served and self.served[path] == 200:
            size = self.account.all_pools["own"].size
            self.account.scale("own", 2 if path == "/up" else max(self.smallest, size - 1))
        return self.served.get(path, 404), ""

    def file(self) -> str:
        if self.listed is not None:
            return self.listed
        members = [each for each in self.account.all_servers.values() if each.pool_id == "p1"]
        return json.dumps([{"targets": [f"{each.ip}:9100" for each in members], "labels": {}}])

    def _exporters(self) -> list[str]:
        found = [each.ip for each in self.account.all_servers.values() if each.pool_id == "p1"]
        return [f"{ip}:9100" for ip in found if not {ip, "all"} & self.hidden]


@dataclass(frozen=True)
class _Programs:
    world: World

    def start(self, program: Program, *, pool_id: str) -> FakeAgent:
        if program in self.world.missing:
            raise ProgramFault(f"{program} is not installed")
        assert pool_id == {Program.AUTOSCALER: "own", Program.DISCOVERY: "p1"}[program]
        agent = FakeAgent(self.world, program)
        self.world.agents.append(agent)
        return agent


def unavailable(times: int) -> list[StackError]:
    return [CloudUnavailable("get load balancer had a fault (503): busy") for _ in range(times)]


def _data(data: object) -> Answer:
    return 200, json.dumps({"status": "success", "data": data})


def _vector(values: Mapping[str, float]) -> Answer:
    lines = [{"metric": {"instance": name}, "value": [0, str(x)]} for name, x in values.items()]
    return _data({"resultType": "vector", "result": lines})


def _file(name: str) -> Any:
    text = (MONITORING / f"provisioning/{name}.yaml").read_text()
    return yaml.safe_load(text.replace("$WEBHOOK_BASE", "http://127.0.0.1:8090"))

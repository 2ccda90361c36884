"""What to do about a failure depends on what is behind it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exotide.check.bootstrap import Bootstrap
from exotide.check.contract import CONTRACT, chosen
from exotide.check.model import Status
from exotide.check.monitoring import busiest, load_visible
from exotide.check.ports import Program
from exotide.check.things import Balancer
from exotide.check.web import HttpWeb, open_client

from .serving import serving
from .world import AGENT, NLB_IP, SERVER_IP, World

BOOTSTRAP = Path(__file__).parents[2] / "terraform/userdata/monitoring/bootstrap.py"
PROMETHEUS = f"http://{SERVER_IP}:9090"
DECISIONS = f"http://{SERVER_IP}:8091/decisions"
DECISION = {"id": 1, "reason": "cooldown", "intent": "up", "text": "size 1 rests for 300 s"}
Change = Callable[[World], Any]


def balancers(*changed: Balancer) -> Change:
    return lambda world: setattr(world.account, "all_balancers", list(changed))


def feeds_another_pool(world: World) -> None:
    (balancer,) = world.account.all_balancers
    services = tuple(replace(each, pool_id="p9") for each in balancer.services)
    balancers(replace(balancer, services=services))(world)
    world.account.sick.add("198.51.100.1")


def asks_for_two(world: World) -> None:
    pool = world.account.all_pools["p1"]
    world.account.all_pools["p1"] = replace(pool, size=2)


def sick_but_answering(world: World) -> None:
    world.account.sick.add("198.51.100.1")
    world.web.pages["http://198.51.100.1:8080/health"] = lambda *_: (500, "oops")


def no_growth(*, hot: float = 0.95, decision: dict[str, Any] | None = None) -> Change:
    def change(world: World) -> None:
        world.grows_after_s.clear()
        world.hot = hot
        world.said_decisions = [decision] if decision else []

    return change


def loses_prometheus_under_load(world: World) -> None:
    no_growth()(world)
    world.clock.after(60, lambda: world.web.refuses.add(PROMETHEUS))


def stays_warm(world: World) -> None:
    world.shrinks_after_s.clear()
    world.clock.after(1200, lambda: setattr(world, "cpu", 0.4))


def loses_programs(world: World) -> None:
    def die() -> None:
        for agent in world.agents:
            agent.exit_code = 1

    world.clock.after(0.5, die)


def page(url: str, status: int, text: str) -> Change:
    return lambda world: world.web.pages.update({url: lambda *_: (status, text)})


@pytest.mark.parametrize(
    ("check_id", "change", "words"),
    [
        pytest.param(
            "balancer-one", balancers(), "no load balancer: terraform apply", id="no-balancer"
        ),
        pytest.param(
            "balancer-one",
            balancers(Balancer(id="n", name="one", ip="x"), Balancer(id="m", name="two", ip="y")),
            "one serves no port; two serves no port",
            id="two-balancers",
        ),
        pytest.param("backends-healthy", feeds_another_pool, "feeds another pool", id="other-pool"),
        pytest.param("backends-healthy", asks_for_two, "members are missing", id="missing-member"),
        pytest.param(
            "backends-healthy", sick_but_answering, "answers 500 'oops' here", id="answers-here"
        ),
        pytest.param(
            "server-one",
            lambda world: world.account.all_servers.pop("m"),
            "terraform apply makes it anew",
            id="no-server",
        ),
        pytest.param(
            "members-up",
            lambda world: setattr(world, "exporters_down", True),
            "prometheus-node-exporter",
            id="exporter-down",
        ),
        pytest.param(
            "prometheus-answers",
            page(f"{PROMETHEUS}/api/v1/query", 200, "{}"),
            "answers, but not as expected",
            id="no-prometheus",
        ),
        pytest.param(
            "prometheus-answers",
            page(f"{PROMETHEUS}/api/v1/query", 404, ""),
            "answers 404 to query",
            id="another-program",
        ),
        pytest.param(
            "grafana-answers",
            page(f"http://{SERVER_IP}:3000/api/health", 503, '{"database": "failing"}'),
            "answers 503",
            id="grafana-without-database",
        ),
        pytest.param(
            "grafana-source",
            page(f"http://{SERVER_IP}:3000/api/datasources", 500, "{}"),
            "Grafana answers 500",
            id="grafana-in-trouble",
        ),
        pytest.param(
            "discovery-writes",
            lambda world: setattr(world, "listed", '[{"labels": {}}]'),
            "not the contract's JSON",
            id="file-without-targets",
        ),
        pytest.param(
            "discovery-follows", loses_programs, "it ended by itself with 1", id="program-died"
        ),
        pytest.param(
            "autoscaler-up",
            lambda world: world.web.refuses.add(AGENT),
            "no answer within 60 s",
            id="silent-program",
        ),
        pytest.param(
            "pool-grows", loses_prometheus_under_load, "no CPU of the members", id="no-cpu"
        ),
        pytest.param("pool-grows", no_growth(hot=0.7), "is 70% only", id="not-hot"),
        pytest.param(
            "pool-grows", no_growth(decision=DECISION), "size 1 rests for 300 s", id="decision"
        ),
        pytest.param("pool-shrinks", stays_warm, "is still 40%", id="still-warm"),
    ],
)
def test_a_failure_is_traced_to_what_is_behind_it(
    check_id: str, change: Change, words: str
) -> None:
    world = World()
    change(world)
    result = world.check()[check_id]
    assert result.status is Status.FAILED, result
    assert words in f"{result.seen} | {result.hint}"


def test_a_local_cloud_without_root_serves_elsewhere_and_the_hint_says_so() -> None:
    world = World()
    world.account.all_balancers = [
        replace(each, ip="127.77.0.3") for each in world.account.all_balancers
    ]
    result = world.check(chosen((1,)))["health-ok"]
    assert result.status is Status.FAILED
    assert "--http-port 8080" in result.hint


def test_another_port_of_the_balancer_is_asked_where_it_is_named() -> None:
    world = World()
    world.options = replace(world.options, http_port=8080)
    world.web.pages = {f"http://{NLB_IP}:8080/health": lambda *_: (200, "OK")}
    assert world.check(chosen((1,)))["health-ok"].status is Status.PASSED


def test_the_set_up_s_own_page_is_understood(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec
    assert spec.loader
    program: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.STATE, program.NOTICE = tmp_path / "bootstrap.json", tmp_path / "notice"
    first, second = (name for name, *_ in program.STEPS[:2])
    progress = program.Progress(name for name, *_ in program.STEPS)
    progress.done.append(first)
    progress.trouble(second, "no mirror answers")
    with open_client() as client, serving(program.Page) as url:
        page = HttpWeb(client=client).get(f"{url}/bootstrap.json")
    assert page.status == 503
    state = Bootstrap.read(page.text)
    assert state
    assert state.text == (
        f"1 of {len(program.STEPS)} steps done, now '{second}' failed: no mirror answers"
    )


def test_while_grafana_cannot_be_had_its_own_port_says_why() -> None:
    world = World()
    state = '{"steps": ["a", "install Grafana"], "done": ["a"], "now": "install Grafana", %s}'
    state %= '"error": "404"'
    for path in ("", "api/health", "bootstrap.json"):
        page(f"http://{SERVER_IP}:3000/{path}", 503, state)(world)
    failed = world.check()["grafana-answers"]
    assert failed.status is Status.FAILED
    assert "the set-up failed at 'install Grafana': 404" in failed.hint


def test_a_server_that_begins_to_be_set_up_says_nothing_of_its_steps_yet() -> None:
    world = World()
    world.web.refuses.add(PROMETHEUS)
    page(f"http://{SERVER_IP}:8091/bootstrap.json", 503, "{}")(world)
    assert "operator_cidr" in world.check()["prometheus-answers"].hint


def test_a_program_that_cannot_be_ended_is_told_when_it_is_due() -> None:
    world = World()
    world.exit_codes[Program.DISCOVERY] = None
    assert world.check()["discovery-ends"].seen == "it still runs"


def test_load_without_a_line_of_a_member_is_not_visible() -> None:
    world = World()
    scene = world.scene()
    for check in CONTRACT[:5]:
        check.look(scene)
    world.hidden.add("all")
    assert busiest(scene) is None
    assert load_visible(scene).text == "no member has a line"
    world.web.refuses.add(PROMETHEUS)
    assert busiest(scene) is None


def test_decisions_that_cannot_be_read_are_no_decisions() -> None:
    world = World()
    no_growth()(world)
    world.web.refuses.add(DECISIONS)
    assert "does not tell its decisions" in world.check()["pool-grows"].hint

"""Every sentence of the contract can fail, and each failure says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exotide.check.contract import CONTRACT, chosen
from exotide.check.model import Status
from exotide.check.ports import Program
from exotide.check.runner import batches
from exotide.check.things import Balancer, Pool, Server, Service
from exotide.stack.errors import CloudUnavailable

from .world import NLB_IP, SERVER_IP, World

IDS = [check.id for check in CONTRACT]
HEALTH = f"http://{NLB_IP}/health"
Break = Callable[[World], Any]


def another_pool(world: World) -> None:
    world.account.all_pools["p2"] = Pool(id="p2", name="exotide-check-ab12cd", size=1)


def two_services(world: World) -> None:
    (balancer,) = world.account.all_balancers
    more = Service(port=443, target_port=8080, pool_id="p1")
    world.account.all_balancers = [replace(balancer, services=(*balancer.services, more))]


def after_deletion(work: Break) -> Break:
    def prepare(world: World) -> None:
        world.on_deleted = lambda: work(world)

    return prepare


def says(url: str, status: int, text: str) -> Break:
    return lambda world: world.web.pages.update({url: lambda *_: (status, text)})


def rule(**changes: Any) -> Break:
    return lambda world: world.grafana.rules[0].update(changes)


def also_after_growth(world: World) -> None:
    world.grows_after_s = [100.0]
    world.said_decisions = [{"id": 1, "reason": "no-alert", "intent": "none", "text": "all calm"}]


def heals_no_more(world: World) -> None:
    world.account.heals = False
    world.account.used_up = "quota of instances: 8 of 8 in use"


BREAKS: dict[str, tuple[Break, str]] = {
    "pool-one": (another_pool, "exo compute instance-pool delete exotide-check-ab12cd"),
    "balancer-one": (two_services, "exactly one service, on port 80"),
    "backends-healthy": (lambda w: w.account.sick.add("198.51.100.1"), "journalctl -u slowapp"),
    "health-ok": (says(HEALTH, 200, "OK\n"), "without a line end"),
    "server-one": (
        lambda w: w.account.add_server(Server(id="x", name="stray", ip="192.0.2.9")),
        "delete what is too much",
    ),
    "prometheus-answers": (
        lambda w: w.web.refuses.add(f"http://{SERVER_IP}:9090"),
        "operator_cidr",
    ),
    "members-up": (lambda w: w.hidden.add("all"), "exotide-servicediscovery"),
    "cpu-lines": (lambda w: w.lines.update({"127.0.0.1:9100": 0.1}), "no member"),
    "grafana-answers": (
        lambda w: w.web.refuses.add(f"http://{SERVER_IP}:3000"),
        "journalctl -u grafana-server",
    ),
    "grafana-source": (lambda w: w.grafana.sources.clear(), "provisioning"),
    "grafana-graphs": (
        lambda w: w.grafana.board["panels"][1]["targets"][0].update(expr="up"),
        "provisioning",
    ),
    "grafana-rules": (rule(**{"for": "5m"}), "provisioning"),
    "grafana-calls": (
        lambda w: w.grafana.points[0].update(disableResolveMessage=False),
        "provisioning",
    ),
    "discovery-writes": (lambda w: setattr(w, "listed", "[]"), "the end of its log"),
    "members-replaced": (heals_no_more, "quota of instances: 8 of 8 in use"),
    "backends-healthy-again": (
        after_deletion(lambda w: w.account.sick.add("new")),
        "journalctl -u slowapp",
    ),
    "discovery-follows": (
        after_deletion(lambda w: setattr(w, "listed", w.file())),
        "the end of its log",
    ),
    "members-up-again": (after_deletion(lambda w: w.hidden.add("all")), "servicediscovery"),
    "health-ok-again": (after_deletion(says(HEALTH, 503, "no server")), "the contract wants"),
    "discovery-ends": (
        lambda w: w.exit_codes.update({Program.DISCOVERY: 143}),
        "the end of its log",
    ),
    "load-visible": (lambda w: setattr(w, "hot", 0.3), "burn CPU"),
    "cpu-lines-again": (
        after_deletion(lambda w: w.lines.update({"198.51.100.1:9100": 0.1})),
        "no member",
    ),
    "pool-grows": (lambda w: w.grows_after_s.clear(), "does not tell its decisions"),
    "pool-grows-on": (also_after_growth, "all calm"),
    "none-lost": (lambda w: w.answers.update({"503": 2}), "no member left"),
    "autoscaler-up": (lambda w: w.served.update({"/up": 503}), "the end of its log"),
    "autoscaler-down": (lambda w: w.served.update({"/down": 500}), "the end of its log"),
    "autoscaler-ignores": (lambda w: setattr(w, "smallest", 0), "the end of its log"),
    "autoscaler-ends": (
        lambda w: w.exit_codes.update({Program.AUTOSCALER: None}),
        "the end of its log",
    ),
    "pool-shrinks": (lambda w: w.shrinks_after_s.pop(), "last decision"),
}


def test_a_stack_as_it_should_be_passes_everything() -> None:
    results = World().check()
    failed = {key: each for key, each in results.items() if each.status is not Status.PASSED}
    assert failed == {}
    assert list(results) == IDS


def test_each_sentence_has_a_stack_that_fails_it() -> None:
    assert list(BREAKS) == IDS


@pytest.mark.parametrize("check_id", IDS)
def test_a_stack_that_breaks_a_sentence_fails_it_and_is_told_what_to_do(check_id: str) -> None:
    world = World()
    work, hint = BREAKS[check_id]
    work(world)
    results = world.check()
    assert results[check_id].status is Status.FAILED, results[check_id]
    assert hint in results[check_id].hint
    earlier = IDS[: IDS.index(check_id)]
    assert [key for key in earlier if results[key].status is Status.FAILED] == []


def test_what_needs_a_failed_check_is_skipped_and_says_so() -> None:
    world = World()
    BREAKS["backends-healthy"][0](world)
    results = world.check()
    assert results["members-replaced"].status is Status.SKIPPED
    assert results["members-replaced"].seen.startswith("needs what failed: All backends")
    assert results["discovery-follows"].seen.startswith("needs what failed: All backends")
    world = World()
    BREAKS["backends-healthy"][0](world)
    world.check(chosen((1,)))
    assert "i1" in world.account.all_servers, "members of a sick pool are left alone"


def test_looking_only_deletes_nothing_and_makes_no_load_and_no_pool() -> None:
    world = World()
    world.options = replace(world.options, look_only=True)
    results = world.check()
    left_out = {key for key, each in results.items() if each.status is Status.SKIPPED}
    assert results["members-replaced"].seen == "left out by --look-only"
    assert results["pool-grows"].seen == "left out by --look-only"
    assert results["pool-shrinks"].seen == "left out by --look-only"
    assert results["autoscaler-up"].seen == "left out by --look-only"
    assert not left_out & set(IDS[: IDS.index("members-replaced")])
    assert results["discovery-ends"].status is Status.PASSED
    assert list(world.account.all_pools) == ["p1"]
    assert "i1" in world.account.all_servers
    assert all(each.status is not Status.FAILED for each in results.values())


def test_alerting_by_alertmanager_skips_grafana_and_nothing_else() -> None:
    world = World()
    data = '{"data": {"activeAlertmanagers": [{"url": "http://127.0.0.1:9093"}]}}'
    says(f"http://{SERVER_IP}:9090/api/v1/alertmanagers", 200, data)(world)
    results = world.check()
    skipped = {key for key, each in results.items() if each.status is Status.SKIPPED}
    assert skipped == {key for key in IDS if key.startswith("grafana-")}
    assert "Alertmanager" in results["grafana-rules"].seen


def test_without_a_password_only_grafana_s_health_is_checked() -> None:
    world = World()
    world.options = replace(world.options, grafana_password="")
    results = world.check()
    assert results["grafana-answers"].status is Status.PASSED
    assert results["grafana-rules"].status is Status.SKIPPED
    assert "EXOTIDE_GRAFANA_PASSWORD" in results["grafana-rules"].seen


def test_a_wrong_password_fails_and_says_how_to_find_the_right_one() -> None:
    world = World()
    world.options = replace(world.options, grafana_password="guess")
    results = world.check()
    assert results["grafana-source"].status is Status.FAILED
    assert "terraform output -raw grafana_password" in results["grafana-source"].seen


def test_at_its_largest_size_a_pool_need_not_grow_on() -> None:
    world = World()
    world.grows_after_s = [100.0]
    world.shrinks_after_s = [120.0, 420.0]
    decision = {"reason": "at-limit", "intent": "up", "text": "size 2 is the largest"}
    world.said_decisions = [{"id": number, **decision} for number in range(1, 1501)]
    results = world.check()
    assert results["pool-grows-on"].status is Status.PASSED
    assert "size 2 is the largest" in results["pool-grows-on"].seen


def test_other_stacks_of_the_account_are_passed_over_by_name() -> None:
    world = World()
    account = world.account
    account.all_pools["p2"] = Pool(id="p2", name="exotide-two", size=1, stack="exotide-two")
    account.all_balancers.append(Balancer(id="n2", name="exotide-two", ip="192.0.2.7"))
    account.add_server(Server(id="m2", name="exotide-two-monitoring", ip="192.0.2.8"))
    account.add_server(Server(id="i99", name="anything", ip="192.0.2.9", pool_id="p2", stack="x"))
    looks = CONTRACT[: IDS.index("discovery-writes")]
    both = world.check(looks)
    assert both["pool-one"].status is Status.FAILED
    assert "exotide, exotide-two" in both["pool-one"].seen
    assert "--name" in both["pool-one"].hint
    world.options = replace(world.options, name="exotide")
    assert {each.status for each in world.check(looks).values()} == {Status.PASSED}


def test_backends_without_a_rule_for_the_health_checks_are_told_the_rule() -> None:
    world = World()
    world.account.opened = False
    world.account.sick.add("198.51.100.1")
    hint = world.check()["backends-healthy"].hint
    assert "opens 8080/tcp to public-nlb-healthcheck-sources: add that rule" in hint


def test_while_the_monitoring_server_is_set_up_the_wait_shows_how_far_it_is() -> None:
    world = World()
    state = '{"steps": ["a", "b"], "done": ["a"], "now": "b", "error": "%s", "finished": false}'
    prometheus = f"http://{SERVER_IP}:9090"
    page = f"http://{SERVER_IP}:8091/bootstrap.json"
    world.web.refuses.add(prometheus)
    says(page, 503, state % "")(world)
    world.clock.after(30, lambda: world.web.refuses.discard(prometheus))
    results = world.check()
    assert results["prometheus-answers"].status is Status.PASSED
    assert any("being set up: 1 of 2 steps done, now 'b'" in each for each in world.screen.waits)

    world.web.refuses.add(prometheus)
    says(page, 503, state % "no mirror answers")(world)
    failed = world.check()["prometheus-answers"]
    assert "the set-up failed at 'b': no mirror answers" in failed.hint
    assert "journalctl -u exotide-bootstrap" in failed.hint


def test_the_pool_of_the_checks_is_removed_before_the_rest_is_waited_for() -> None:
    world = World()
    world.check()
    name, again = world.account.removed
    assert name == again, "and once more in the end, if the first time was broken off"
    assert name.startswith("exotide-check-")
    assert list(world.account.all_pools) == ["p1"]
    assert [agent.is_over for agent in world.agents] == [True, True]


def test_a_pool_of_the_checks_that_cannot_be_removed_is_told_loudly() -> None:
    world = World()
    world.account.keeps_pools = CloudUnavailable("delete instance pool had a fault (503)")
    world.check()
    (left,) = world.left
    assert "it costs money: exo compute instance-pool delete exotide-check-" in left


def test_a_pool_of_the_checks_that_goes_in_the_end_is_not_left_over() -> None:
    world = World()
    world.account.keeps_pools = CloudUnavailable("delete instance pool had a fault (503)")
    scene = world.scene()
    scene.remove_at_end("exotide-check-1")
    scene.own_pool.close()
    assert scene.left
    world.account.keeps_pools = None
    scene.cleanup.close()
    assert scene.left == {}


def test_requests_that_are_lost_while_a_member_leaves_are_told_and_no_failure() -> None:
    world = World()
    world.answers = {"200": 70, "RemoteProtocolError": 1}
    world.grows_after_s = [100.0, 400.0]
    world.clock.after(250.0, lambda: world.account.replace_oldest("p1"))
    result = world.check()["none-lost"]
    assert result.status is Status.PASSED
    assert result.seen == (
        "71 requests, 1 times RemoteProtocolError; 1 of the first members left meanwhile, which "
        "may lose requests"
    )


@pytest.mark.parametrize("is_slow", [False, True])
def test_the_real_cloud_is_waited_for_longer(is_slow: bool) -> None:
    world = World()
    world.options = replace(world.options, is_slow=is_slow)
    world.on_deleted = lambda: world.account.sick.add("new")
    world.clock.after(500.0, world.account.sick.clear)
    expected = Status.LATE if is_slow else Status.FAILED
    assert world.check(chosen((1,)))["backends-healthy-again"].status is expected


def test_a_missing_program_fails_and_names_the_next_step() -> None:
    world = World()
    world.missing = {Program.AUTOSCALER}
    results = world.check()
    assert results["autoscaler-up"].status is Status.FAILED
    assert "not installed" in results["autoscaler-up"].seen
    assert list(world.account.all_pools) == ["p1"]


@pytest.mark.parametrize("part", [1, 2, 3])
def test_a_part_brings_the_checks_that_it_needs(part: int) -> None:
    world = World()
    checks = chosen((part,))
    results = world.check(checks)
    assert {each.status for each in results.values()} == {Status.PASSED}
    assert all(set(check.needs) <= results.keys() for check in checks)
    wanted = {check.id for check in CONTRACT if check.parts[0] == part}
    assert wanted <= results.keys()


def test_load_that_a_part_begins_is_ended_by_it() -> None:
    world = World()
    results = world.check(chosen((2,)))
    assert results["none-lost"].status is Status.PASSED


def test_needs_come_first_and_are_not_looked_at_together() -> None:
    for batch in batches(CONTRACT):
        ids = {check.id for check in batch}
        assert not any(ids & set(check.needs) for check in batch)
    for position, check in enumerate(CONTRACT):
        assert set(check.needs) <= set(IDS[:position])

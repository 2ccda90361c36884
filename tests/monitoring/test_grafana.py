"""The dashboard and the rules, judged by a real Grafana server where one is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from exotide_autoscaler.metrics import Metrics
from exotide_servicediscovery.metrics import Metrics as DiscoveryMetrics
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from exotide.check.grafana import calls, data_source, grafana_answers, rules, two_graphs
from exotide.check.ports import Page, Web
from exotide.check.scene import Options, Scene
from exotide.check.things import Server
from exotide.check.web import HttpWeb, open_client
from exotide.stack.alerting import grafana_files, monitoring_files
from exotide.stack.durations import parse_s

from .parts import Member, Sink, answers, exporter, free_port, running, served, until, webhooks

SPEED = 30.0
TOKEN = "webhook-token-of-the-test"
PASSWORD = "password-of-the-test"
UNIT = (
    Path(__file__).parents[2]
    / "terraform/userdata/monitoring/root/etc/systemd/system/grafana-server.service.d/exotide.conf"
)
NAME = re.compile(r"\b(?:exotide|node)[a-z_:]*_[a-z_:]+\b|\bup\b")
ELSEWHERE = {"up", "node_cpu_seconds_total", "exotide:stack:eur_per_hour"}
"""Of Prometheus itself, of the node exporter, and of the rules that a stack's prices make."""


def parsed(name: str, speed: float = 1) -> Any:
    return yaml.safe_load(grafana_files(speed=speed)[f"grafana/{name}"])


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(grafana_files()["grafana/dashboards/pool.json"])
    return found


def expressions() -> list[str]:
    shown = dashboard()
    panels = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    return panels + [each["expr"] for each in shown["annotations"]["list"]]


def prometheus_rules(name: str) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(monitoring_files()[f"prometheus/rules/{name}.yml"])["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_every_query_of_dashboard_and_rules_is_about_numbers_that_somebody_gives() -> None:
    given = {
        family.split()[2]
        for registry in (Metrics().registry, DiscoveryMetrics().registry)
        for family in generate_latest(registry).decode().splitlines()
        if family.startswith("# TYPE")
    }
    rules = [*prometheus_rules("pool-cpu"), *prometheus_rules("stack")]
    recorded = {rule.get("record") for rule in rules}
    app = Path(__file__).parents[2] / "slowapp/slowapp.py"
    for expression in (*expressions(), *(rule["expr"] for rule in rules)):
        for name in NAME.findall(expression):
            if name.startswith("exotide_slowapp_"):
                assert name.removeprefix("exotide_slowapp_") in app.read_text(), name
            else:
                known = given | recorded | ELSEWHERE
                assert {name, re.sub(r"_(sum|count|bucket)$", "", name)} & known, name


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": "shown", "expr": expression} for expression in expressions()]
    path = tmp_path / "shown.yml"
    path.write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}))
    command = ("promtool", "check", "rules", "--lint=none", str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_two_graphs_of_the_assignment_show_the_thresholds_of_the_two_alerts() -> None:
    panels = {str(panel["id"]): panel for panel in dashboard()["panels"]}
    rules = parsed("provisioning/alerting/rules.yaml")["groups"][0]["rules"]
    limits = {}
    for rule in rules:
        panel = panels[rule["annotations"]["__panelId__"]]
        (evaluator,) = [
            condition["evaluator"]
            for each in rule["data"]
            for condition in each["model"].get("conditions", [])
        ]
        lines = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert evaluator["params"][0] in lines
        assert panel["targets"][0]["expr"] == rule["data"][0]["model"]["expr"]
        limits[rule["labels"]["autoscale"]] = (evaluator["type"], *evaluator["params"], rule["for"])
    assert limits == {"up": ("gt", 80, "1m"), "down": ("lt", 20, "1m")}


def test_grafana_judges_the_very_series_that_prometheus_alerts_judge() -> None:
    """With the limits in percent: a number of the one is above or below where the other's is."""
    sides = {"gt": ">", "lt": "<"}
    grafanas = {
        rule["title"]: (rule["data"][0]["model"]["expr"], rule["data"][1]["model"]["conditions"])
        for rule in parsed("provisioning/alerting/rules.yaml")["groups"][0]["rules"]
    }
    for rule in prometheus_rules("pool-cpu"):
        if "alert" not in rule:
            continue
        expr, ((condition,)) = grafanas.pop(rule["alert"])
        (limit,) = condition["evaluator"]["params"]
        series = expr.removeprefix("100 * ")
        side = sides[condition["evaluator"]["type"]]
        assert rule["expr"] == f"{series} {side} {limit / 100:g}"
    assert grafanas == {}


@given(st.integers(0, 10**6))
@example(200_000)
@example(800_000)
def test_percent_and_share_are_on_the_same_side_of_a_limit(millionths: int) -> None:
    """The averages are rounded to millionths."""
    ratio = millionths / 10**6
    assert (100 * ratio > 80) == (ratio > 0.8)
    assert (100 * ratio < 20) == (ratio < 0.2)


def test_iowait_and_steal_are_shown_apart_as_parts_of_what_counts() -> None:
    (panel,) = (each for each in dashboard()["panels"] if each["title"] == "What the CPU does")
    (expr,) = (target["expr"] for target in panel["targets"])
    counted = prometheus_rules("pool-cpu")[0]["expr"]
    assert re.findall(r"mode\S\S?\"\w+\"", expr) == ['mode!="idle"']
    assert 'mode!="idle"' in counted
    coloured = [each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]]
    assert coloured == ["iowait", "steal"]


def test_the_dashboard_lists_each_alert_that_does_not_scale() -> None:
    (shown,) = (each for each in expressions() if each.startswith("ALERTS"))
    assert shown == 'ALERTS{alertstate="firing",autoscale=""}'
    assert all("labels" not in rule for rule in prometheus_rules("stack"))
    scaling = [rule for rule in prometheus_rules("pool-cpu") if "alert" in rule]
    assert all(rule["labels"]["autoscale"] for rule in scaling)


def test_missing_data_errors_and_resolved_alerts_never_scale() -> None:
    rules = parsed("provisioning/alerting/rules.yaml")["groups"][0]["rules"]
    assert {(rule["noDataState"], rule["execErrState"]) for rule in rules} == {("OK", "OK")}
    points = parsed("provisioning/alerting/contact-points.yaml")["contactPoints"]
    assert all(each["disableResolveMessage"] for point in points for each in point["receivers"])


def test_a_repeat_truly_comes_after_five_minutes() -> None:
    """Grafana looks at ticks of group_interval and wants more than repeat_interval to be over."""
    (tree,) = parsed("provisioning/alerting/policies.yaml")["policies"]
    for route in tree["routes"]:
        tick_s, repeat_s = parse_s(route["group_interval"]), parse_s(route["repeat_interval"])
        assert (repeat_s // tick_s + 1) * tick_s == 300


@pytest.mark.parametrize("speed", [1, 6, 7.3, 60])
def test_grafana_s_scheduler_can_keep_every_speed(speed: float) -> None:
    (group,) = parsed("provisioning/alerting/rules.yaml", speed)["groups"]
    assert parse_s(group["interval"]) % 10 == 0


def find_grafana() -> tuple[str, str]:
    """Give program and home; EXOTIDE_GRAFANA and EXOTIDE_GRAFANA_HOME name those of a build."""
    program = os.environ.get("EXOTIDE_GRAFANA") or shutil.which("grafana")
    home = os.environ.get("EXOTIDE_GRAFANA_HOME", "/usr/share/grafana")
    if not program or not Path(home, "conf/defaults.ini").exists():
        pytest.skip(
            "no Grafana server: install the package grafana, or set EXOTIDE_GRAFANA (program)"
            " and EXOTIDE_GRAFANA_HOME (its folder with conf/ and public/)"
        )
    return program, home


def unit_environment(*, credentials: Path) -> dict[str, str]:
    """Give what the monitoring server's unit tells Grafana."""
    text = UNIT.read_text().replace("%d", str(credentials))
    return dict(re.findall(r"\b(GF_\w+)=(\S+)", text))


@dataclass(frozen=True)
class Watched:
    member: Member
    target: str
    targets: Path
    sink: Sink
    url: str
    prometheus: str
    log: Path

    def tell(self, *targets: str) -> None:
        """List these members and no others."""
        fresh = self.targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": [each], "labels": {}} for each in targets]))
        fresh.replace(self.targets)

    def states(self) -> dict[str, str]:
        """Give the state of each rule: Normal, Pending, Alerting, with NoData or Error if so."""
        (group,) = self.get("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
        return {
            rule["name"]: "; ".join(each["state"] for each in rule.get("alerts", ()))
            for rule in group["rules"]
        }

    def frames(self, expr: str) -> list[Any]:
        """Give what a panel with this query gets."""
        query = {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": expr, "range": True}
        asked = {"queries": [query | {"intervalMs": 1000}], "from": "now-1m", "to": "now"}
        auth = ("admin", PASSWORD)
        url = f"{self.url}/api/ds/query"
        answer = httpx2.post(url, json=asked, auth=auth, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        result = answer.json()["results"]["A"]
        assert "error" not in result, (expr, result)
        frames: list[Any] = result["frames"]
        return frames

    def get(self, path: str) -> Any:
        auth = ("admin", PASSWORD)
        answer = httpx2.get(f"{self.url}{path}", auth=auth, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Prometheus and Grafana with the files as a stack gets them, thirty times faster."""
    program, home = find_grafana()
    member, sink, prometheus, grafana = Member(), Sink(), free_port(), free_port()
    with ExitStack() as stack:
        target = f"127.0.0.1:{stack.enter_context(served(exporter(member)))}"
        hooks = stack.enter_context(served(webhooks(sink)))
        targets = tmp_path / "service-discovery/config.json"
        targets.parent.mkdir()
        targets.write_text(json.dumps([{"targets": [target], "labels": {}}]))
        files = monitoring_files(speed=SPEED) | grafana_files(speed=SPEED)
        del files["alertmanager/self.json"]
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("/srv/", f"{tmp_path}/"))
        stack.enter_context(
            running(
                tmp_path / "prometheus.log",
                "prometheus",
                f"--config.file={tmp_path}/prometheus/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/prometheus/data",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            )
        )
        (tmp_path / "admin-password").write_text(PASSWORD)
        environment = unit_environment(credentials=tmp_path) | {
            "GF_PATHS_PROVISIONING": f"{tmp_path}/grafana/provisioning",
            "GF_PATHS_DATA": f"{tmp_path}/grafana/data",
            "GF_PATHS_PLUGINS": f"{tmp_path}/grafana/plugins",
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(grafana),
            # A first start tells its receivers only at the next poll.
            "GF_UNIFIED_ALERTING_ALERTMANAGER_CONFIG_POLL_INTERVAL": "10s",
            "PROMETHEUS_URL": f"http://127.0.0.1:{prometheus}",
            "WEBHOOK_BASE": f"http://127.0.0.1:{hooks}",
            "WEBHOOK_TOKEN": TOKEN,
        }
        log = tmp_path / "grafana.log"
        server = (program, "server", "--homepath", home)
        stack.enter_context(running(log, *server, env=environment))
        answers(f"http://127.0.0.1:{prometheus}/-/ready")
        answers(f"http://127.0.0.1:{grafana}/api/health", within_s=90)
        urls = (f"http://127.0.0.1:{grafana}", f"http://127.0.0.1:{prometheus}")
        yield Watched(member, target, targets, sink, *urls, log)


@dataclass(frozen=True)
class Elsewhere:
    """Adapter of the checks' port Web: a monitoring server's addresses are others here."""

    web: Web
    places: dict[str, str]

    def get(self, url: str, **options: Any) -> Page:
        for there, here in self.places.items():
            url = url.replace(there, here)
        return self.web.get(url, **options)


def seen_by_check(watched: Watched) -> dict[str, str]:
    """What `exotide check 3` sees of a real Grafana: by its looks, what each of them saw."""
    nobody: Any = None
    places = {"http://server:3000": watched.url, "http://server:9090": watched.prometheus}
    with open_client() as client:
        scene = Scene(
            account=nobody,
            load=nobody,
            programs=nobody,
            clock=nobody,
            web=Elsewhere(HttpWeb(client=client), places),
            options=Options(zone="at-vie-1", grafana_password=PASSWORD, speed=SPEED),
            server=Server(id="m", name="monitoring", ip="server"),
        )
        looks = (grafana_answers, data_source, two_graphs, calls)
        seen = {look.__name__: look(scene) for look in looks}
        # Prometheus fills no window under 5 s: these rules wait as long as at speed 12.
        scene.options = replace(scene.options, speed=12)
        seen["rules"] = rules(scene)
    assert all(each.fine for each in seen.values()), seen
    return {name: each.text for name, each in seen.items()}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_real_grafana_takes_every_file_and_calls_up_with_the_token_and_never_when_it_calms(
    watched: Watched,
) -> None:
    """In real time, as it is Grafana's own timers that are tested; about a minute and a half."""
    assert watched.get("/api/dashboards/uid/exotide")["meta"]["folderTitle"] == "Autoscaling"
    assert watched.get("/api/datasources/uid/prometheus")["isDefault"]
    (group,) = watched.get("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
    assert [rule["name"] for rule in group["rules"]] == ["CPU high", "CPU low"]

    watched.member.busy_ratio = 0.95
    watched.sink.wait_for(1, timeout_s=120)
    _, path, body, bearer = watched.sink.calls[0]
    assert (path, bearer, body["status"]) == ("/up", f"Bearer {TOKEN}", "firing")
    assert body["commonLabels"]["autoscale"] == "up"
    summary = body["alerts"][0]["annotations"]["summary"]
    assert re.fullmatch(r"The pool's average CPU is 9\d %, above 80 %", summary)

    for expr in expressions():
        watched.frames(expr)
    for name in ("exotide:pool_cpu:avg_ratio", "exotide:pool_cpu:avg_silent_busy_ratio"):
        assert len(watched.frames(f"100 * {name}")) == 1

    seen = seen_by_check(watched)
    assert seen["two_graphs"].startswith("2 graphs of the average CPU: Average CPU")
    assert seen["rules"] == "CPU high: above 80 % for 5 s; CPU low: below 20 % for 5 s"

    watched.member.busy_ratio = 0.5
    time.sleep(30)  # the alert resolves, and ticks pass in which a call would come
    calls = len(watched.sink.calls)
    time.sleep(25)
    assert len(watched.sink.calls) == calls
    assert {path for _, path, _, _ in watched.sink.calls} == {"/up"}
    assert all(body["status"] == "firing" for _, _, body, _ in watched.sink.calls)

    troubled = re.compile(r"logger=(provisioning|ngalert|accesscontrol).*level=(warn|error)")
    lines = watched.log.read_text().splitlines()
    assert [line for line in lines if troubled.search(line)] == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_real_grafana_shrinks_no_pool_whose_members_are_silent_or_gone(watched: Watched) -> None:
    """In real time, as it is Grafana's own timers that are tested; about two minutes."""
    watched.member.busy_ratio = 0.05
    with served(exporter(Member(silent=True))) as port:
        watched.tell(watched.target, f"127.0.0.1:{port}")
        time.sleep(40)  # the low average of one alone would have called by now
        assert watched.states() == {"CPU high": "Normal", "CPU low": "Normal"}
        assert watched.sink.calls == []
        watched.tell(watched.target)
        watched.sink.wait_for(1, timeout_s=60)
    assert watched.sink.calls[0][1] == "/down"

    watched.tell()
    until(lambda: "Alerting" not in watched.states()["CPU low"], timeout_s=30)
    calls = len(watched.sink.calls)
    assert watched.states() == {"CPU high": "Normal (NoData)", "CPU low": "Normal (NoData)"}
    time.sleep(25)
    assert len(watched.sink.calls) == calls

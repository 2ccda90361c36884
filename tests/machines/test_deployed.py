"""
The whole stack on machines: what Terraform renders, booted by systemd and cloud-init.

With EXOTIDE_GRAFANA_DEB, a package file, the same with Grafana instead of Alertmanager.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client

from exotide.check.ports import Loops
from exotide.check.web import HttpLoad
from exotide.stack.userdata import AgentKey

from .deployed import MAX_SIZE, PASSWORD, SPEED, Deployed, text_of
from .site import EXOTIDE, Machine, eventually, status_of

# The first start on a host builds the root file system; all else has limits of its own.
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

AGENTS = ("autoscaler", "servicediscovery")
OURS = ("exotide-bootstrap", "exotide-bootstrap-page", *(f"exotide-{agent}" for agent in AGENTS))
DEBIANS = ("prometheus", "prometheus-node-exporter")
MOST_EXPOSED = {
    "slowapp": 1.5,
    "exotide-autoscaler": 1.3,
    "exotide-servicediscovery": 1.3,
    "exotide-bootstrap-page": 1.3,
    "exotide-bootstrap": 5.0,
    "prometheus-alertmanager": 1.5,
}
"""What `systemd-analyze security` may say at most: 0 is locked up, 10 is open."""
EXPOSURE = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")


def test_all_backends_are_healthy_and_the_service_answers_exactly_ok(deployed: Deployed) -> None:
    assert len(deployed.await_healthy()) == 1
    answer = httpx2.get(f"{deployed.stack.url}/health", trust_env=False)
    assert (answer.status_code, answer.text) == (200, "OK")


def test_cloud_init_and_every_step_of_the_bootstrap_ended_without_an_error(
    deployed: Deployed,
) -> None:
    deployed.await_bootstrap()
    state = deployed.bootstrap()
    assert (state["done"], state["error"]) == (state["steps"], "")
    for machine in (deployed.monitoring, *deployed.members()):
        assert machine.finished()["errors"] == []
        assert "status: done" in machine.says("cloud-init", "status", "--long")
        assert machine.says("systemctl", "--failed", "--no-legend") == ""


def test_the_application_serves_before_cloud_init_is_at_its_last_two_stages(
    deployed: Deployed,
) -> None:
    (member, *_) = deployed.members()
    member.finished()
    moments = {
        unit: int(member.says("systemctl", "show", "--value", f"--property={moment}", unit))
        for unit, moment in (
            ("cloud-init", "ActiveEnterTimestampMonotonic"),
            ("slowapp", "ActiveEnterTimestampMonotonic"),
            ("cloud-final", "ExecMainStartTimestampMonotonic"),
        )
    }
    assert sorted(moments, key=lambda unit: moments[unit]) == list(moments)


def test_prometheus_has_all_members_and_every_part_up_and_the_status_page_answers(
    deployed: Deployed,
) -> None:
    assert len(deployed.await_scraped()) == len(deployed.members())
    jobs = {"application", "autoscaler", "members", "monitoring", "prometheus", "servicediscovery"}
    if deployed.alerting == "alertmanager":
        jobs.add("alertmanager")

    def look() -> bool | None:
        up = {line["metric"]["job"]: line["value"][1] for line in deployed.query("up")}
        return up == dict.fromkeys(jobs, "1") or None

    eventually(look, within_s=20, what="every part in Prometheus")
    page = httpx2.get(deployed.stack.autoscaler_url, trust_env=False)
    assert page.status_code == 200
    assert "<h1>Autoscaler" in page.text


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_runs_without_privileges_and_its_secret_is_in_no_environment(
    deployed: Deployed, agent: str
) -> None:
    unit, key = f"exotide-{agent}", key_of(deployed, agent)
    deployed.monitoring.says("systemctl", "is-active", unit)
    pid = deployed.monitoring.says("systemctl", "show", "--value", "--property=MainPID", unit)
    status = deployed.monitoring.says("cat", f"/proc/{pid.strip()}/status")
    shown = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in shown["Uid"].split()
    assert (shown["NoNewPrivs"], shown["Seccomp"], int(shown["CapEff"], 16)) == ("1", "2", 0)
    environment = deployed.monitoring.says("cat", f"/proc/{pid.strip()}/environ")
    assert "EXOSCALE_INSTANCEPOOL_ID=" in environment
    assert key.secret not in environment


def key_of(deployed: Deployed, agent: str) -> AgentKey:
    keys = deployed.text.keys
    assert keys is not None
    return keys.autoscaler if agent == "autoscaler" else keys.discovery


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_s_key_reads_its_pool_and_nothing_else(deployed: Deployed, agent: str) -> None:
    key = key_of(deployed, agent)
    folder = "/etc/exotide/credentials"
    shown = deployed.monitoring.says("cat", f"{folder}/{agent}-key", f"{folder}/{agent}-secret")
    assert shown == key.key + key.secret
    client = Client(key.key, key.secret, url=deployed.cloud.url)
    assert client.get_instance_pool(id=deployed.stack.pool_id)["id"] == deployed.stack.pool_id
    for refused in (client.list_security_groups, client.list_api_keys, client.list_ssh_keys):
        with pytest.raises(ExoscaleAPIAuthException):
            refused()


def test_no_server_has_the_account_s_key_on_its_disk_in_memory_files_or_environments(
    deployed: Deployed,
) -> None:
    account = [deployed.cloud.key.encode(), deployed.cloud.secret.encode()]
    agent = key_of(deployed, "autoscaler").key.encode()
    holders: dict[str, list[str]] = {}
    for machine in (deployed.monitoring, *deployed.members()):
        machine.finished()
        for where, content in readable(machine):
            assert not any(word in content for word in account), (machine.id, where)
            if agent in content:
                holders.setdefault(machine.id, []).append(where)
    found = holders.pop(deployed.monitoring.id)
    assert any(where.endswith("credentials/autoscaler-key") for where in found), found
    assert holders == {}
    keys = {each["key"]: each for each in deployed.cloud.client.list_api_keys()["api-keys"]}
    assert {keys[key_of(deployed, name).key]["name"] for name in AGENTS} == {
        deployed.settings.autoscaler_name,
        deployed.settings.discovery_name,
    }
    assert account[1].decode() not in text_of(deployed.text.member())


def readable(machine: Machine) -> Iterator[tuple[str, bytes]]:
    """Every file that a machine has beside the root file system of all, and its processes."""
    first = eventually(machine.pid_1, within_s=20, what="PID 1")
    places = [machine.disk, *(Path(f"/proc/{first}/root/{name}") for name in ("run", "tmp"))]
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()
    for folder in machine.processes():
        for name in ("environ", "cmdline"):
            try:
                yield str(folder / name), (folder / name).read_bytes()
            except OSError:
                assert not status_of(int(folder.name)), folder  # it ended meanwhile


def test_systemd_has_nothing_against_any_unit_that_runs(deployed: Deployed) -> None:
    alerting = {"alertmanager": "prometheus-alertmanager", "grafana": "grafana-server"}
    watching = (*OURS, *DEBIANS, alerting[deployed.alerting])
    (member, *_) = deployed.members()
    for machine, units in (
        (deployed.monitoring, watching),
        (member, ("slowapp", "prometheus-node-exporter")),
    ):
        verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no")
        done = machine.run(*verify, *(f"{unit}.service" for unit in units))
        assert done.stderr == ""


def test_no_unit_is_more_exposed_than_stated(deployed: Deployed) -> None:
    (member, *_) = deployed.members()
    exposed = {}
    for unit in MOST_EXPOSED:
        if unit == "prometheus-alertmanager" and deployed.alerting != "alertmanager":
            continue
        machine = member if unit == "slowapp" else deployed.monitoring
        said = machine.says("systemd-analyze", "security", "--no-pager", f"{unit}.service")
        found = EXPOSURE.search(said)
        assert found, said
        exposed[unit] = float(found[1])
    too_much = {unit: score for unit, score in exposed.items() if score > MOST_EXPOSED[unit]}
    assert too_much == {}, exposed


TROUBLED = re.compile(r"logger=(provisioning|ngalert|accesscontrol).*level=(warn|error)")


@pytest.mark.parametrize("deployed", ["grafana"], indirect=True)
def test_grafana_has_loaded_every_file_without_a_warning(deployed: Deployed) -> None:
    deployed.await_bootstrap()

    def asked(path: str) -> Any:
        url, login = f"http://{deployed.stack.monitoring_ip}:3000{path}", ("admin", PASSWORD)
        return httpx2.get(url, auth=login, trust_env=False).raise_for_status().json()

    assert asked("/api/dashboards/uid/exotide")["meta"]["folderTitle"] == "Autoscaling"
    assert asked("/api/datasources/uid/prometheus/health")["status"] == "OK"
    points = asked("/api/v1/provisioning/contact-points")
    assert {"scale-up", "scale-down", "unrouted"} <= {point["name"] for point in points}
    (group,) = asked("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
    assert [rule["name"] for rule in group["rules"]] == ["CPU high", "CPU low"]
    journal = deployed.monitoring.says(
        "journalctl", "--no-pager", "--unit=grafana-server"
    ).splitlines()
    assert [line for line in journal if TROUBLED.search(line)] == []


def test_exotide_check_finds_nothing_wrong(deployed: Deployed) -> None:
    deployed.await_bootstrap()
    environment = {
        "PATH": os.environ["PATH"],
        "EXOSCALE_API_KEY": deployed.cloud.key,
        "EXOSCALE_API_SECRET": deployed.cloud.secret,
        "EXOSCALE_API_ENDPOINT": deployed.cloud.url,
        "EXOTIDE_GRAFANA_PASSWORD": PASSWORD,
    }
    command = (EXOTIDE, "check", "all", "--look-only", "--speed", f"{SPEED:g}")
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def start_loops(deployed: Deployed) -> Iterator[Callable[[], Loops]]:
    """Loops that end with the test, however it ends."""
    with ExitStack() as stack:

        def start() -> Loops:
            loops = HttpLoad().start(f"{deployed.stack.url}/load", loops=10)
            stack.callback(loops.abandon)
            return loops

        yield start


def test_ten_loops_make_the_pool_grow_and_calm_makes_it_shrink_without_a_lost_request(
    deployed: Deployed, start_loops: Callable[[], Loops]
) -> None:
    deployed.await_bootstrap()
    slow_s = 60 if deployed.alerting == "grafana" else 0  # Grafana's own ticks, and its first poll
    with deployed.timed("ten loops until the pool has 2 members"):
        loops = start_loops()
        deployed.await_size(2, within_s=60 + 2 * slow_s)
    with deployed.timed(f"from then until it has {MAX_SIZE}"):
        deployed.await_size(MAX_SIZE, within_s=60 + slow_s)
    deployed.await_healthy()
    answers = loops.stop()
    with deployed.timed("calm until it has 1 again"):
        deployed.await_size(1, within_s=90 + 2 * slow_s)
    assert answers.keys() == {"200"}
    assert answers["200"] > 10
    changes = [
        (decision["size"], decision["wanted"])
        for decision in deployed.decisions()
        if decision["reason"] == "alert"
    ]
    assert changes == [(1, 2), (2, 3), (3, 2), (2, 1)]

"""A real Prometheus and a real Alertmanager, from a member's CPU counter to the webhook."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from exotide.stack.alerting import monitoring_files

from .parts import (
    Member,
    Prometheus,
    Sink,
    answers,
    exporter,
    free_port,
    running,
    served,
    until,
    webhooks,
)

SPEED = 30.0
REPEAT_S = 300 / SPEED
TOKEN = "a-token-of-the-test"


@dataclass(frozen=True)
class AlertPath:
    member: Member
    sink: Sink
    prometheus: Prometheus
    alertmanager: str

    def receivers(self) -> dict[str, set[str]]:
        """Give whom Alertmanager would tell, by alert."""
        found = httpx2.get(f"{self.alertmanager}/api/v2/alerts", trust_env=False).json()
        told: dict[str, set[str]] = {}
        for alert in found:
            names = {each["name"] for each in alert["receivers"]}
            told.setdefault(alert["labels"]["alertname"], set()).update(names)
        return told


@pytest.fixture
def alert_path(tmp_path: Path) -> Iterator[AlertPath]:
    """The files as the kit derives them, with only addresses and folders changed."""
    member, sink = Member(), Sink()
    prometheus, alertmanager = free_port(), free_port()
    with ExitStack() as stack:
        target = f"127.0.0.1:{stack.enter_context(served(exporter(member)))}"
        hooks = stack.enter_context(served(webhooks(sink)))
        (tmp_path / "service-discovery").mkdir()
        targets = json.dumps([{"targets": [target], "labels": {}}])
        (tmp_path / "service-discovery" / "config.json").write_text(targets)
        moved = {
            "/srv/": f"{tmp_path}/",
            "127.0.0.1:9100": target,  # the monitoring server's own exporter
            "127.0.0.1:9090": f"127.0.0.1:{prometheus}",
            "127.0.0.1:9093": f"127.0.0.1:{alertmanager}",
            "127.0.0.1:8090": f"127.0.0.1:{hooks}",
            "127.0.0.1:8091": f"127.0.0.1:{free_port()}",  # an autoscaler that is down
        }
        write(tmp_path, moved)
        args = (tmp_path / "prometheus" / "prometheus.args").read_text().split()
        stack.enter_context(
            running(
                tmp_path / "alertmanager.log",
                "prometheus-alertmanager",
                f"--config.file={tmp_path}/alertmanager/alertmanager.yml",
                f"--storage.path={tmp_path}/alertmanager/data",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            )
        )
        stack.enter_context(
            running(
                tmp_path / "prometheus.log",
                "prometheus",
                f"--config.file={tmp_path}/prometheus/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/prometheus/data",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                *args,
            )
        )
        answers(f"http://127.0.0.1:{alertmanager}/-/ready")
        answers(f"http://127.0.0.1:{prometheus}/-/ready")
        asked = Prometheus(f"http://127.0.0.1:{prometheus}")
        yield AlertPath(member, sink, asked, f"http://127.0.0.1:{alertmanager}")


def write(folder: Path, moved: dict[str, str]) -> None:
    for name, original in monitoring_files(speed=SPEED).items():
        text = original
        for before, after in moved.items():
            text = text.replace(before, after)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "alertmanager" / "webhook.token").write_text(TOKEN)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_busy_pool_calls_up_then_again_after_five_minutes_and_never_when_it_calms(
    alert_path: AlertPath,
) -> None:
    """In real time, as it is two foreign programs' timers that are tested; about 35 s."""
    path, sink = alert_path, alert_path.sink
    path.member.busy_ratio = 0.95
    sink.wait_for(1, timeout_s=30)
    assert path.prometheus.fires("CPU high")
    sink.wait_for(2, timeout_s=REPEAT_S * 1.5)

    (first_at, first_path, body, bearer), (again_at, again_path, _, _) = sink.calls
    assert (first_path, again_path) == ("/up", "/up")
    assert bearer == f"Bearer {TOKEN}"
    assert body["status"] == "firing"
    assert body["commonLabels"] == {"alertname": "CPU high", "autoscale": "up"}
    assert again_at - first_at == pytest.approx(REPEAT_S, abs=1.0)

    path.member.busy_ratio = 0.5
    until(lambda: not path.prometheus.query('ALERTS{alertname="CPU high"}'), timeout_s=15)
    until(lambda: "Program down" in path.receivers(), timeout_s=20)
    time.sleep(3 * 60 / SPEED)  # group_interval ticks in which a resolved call would come
    assert path.receivers()["Program down"] == {"unrouted"}
    assert len(sink.calls) == 2

    monitoring = path.prometheus.query("exotide_monitoring_cpu_seconds_total")
    assert {item["metric"]["job"] for item in monitoring} == {"monitoring"}
    contract = path.prometheus.query("sum by (job) (node_cpu_seconds_total)")
    assert [item["metric"]["job"] for item in contract] == ["members"]

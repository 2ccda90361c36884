"""A real Prometheus on its bad days: time-outs, lists that go, a death with data in its hands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from exotide.stack.alerting import grafana_files, monitoring_files

from .parts import (
    Member,
    Process,
    Prometheus,
    answers,
    exporter,
    free_port,
    running,
    served,
    until,
)

SPEED = 30.0
"""Scrapes each second, patience for 2.5 s, a window and a pending time of 5 s."""


@dataclass
class Watch:
    """Prometheus with the files as the kit derives them, and the members that it is told of."""

    folder: Path
    stack: ExitStack
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def prometheus(self) -> Prometheus:
        return Prometheus(f"http://127.0.0.1:{self.port}")

    def add(self, member: Member) -> str:
        return f"127.0.0.1:{self.stack.enter_context(served(exporter(member)))}"

    def tell(self, *targets: str) -> None:
        self.write(json.dumps([{"targets": [each], "labels": {}} for each in targets]))

    def write(self, text: str) -> None:
        path = self.folder / "service-discovery/config.json"
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    def start(self) -> None:
        for name, text in monitoring_files(speed=SPEED).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("/srv/", f"{self.folder}/"))
        self.process = self.stack.enter_context(
            running(
                self.folder / "prometheus.log",
                "prometheus",
                f"--config.file={self.folder}/prometheus/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/prometheus/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *(self.folder / "prometheus/prometheus.args").read_text().split(),
            )
        )
        answers(f"{self.prometheus.url}/-/ready")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    with ExitStack() as stack:
        yield Watch(tmp_path, stack)


def grafanas_verdicts(watch: Watch, *, at: float) -> dict[str, bool]:
    """Judge as Grafana does: the expression of its file, asked of Prometheus, and its threshold."""
    text = grafana_files(speed=SPEED)["grafana/provisioning/alerting/rules.yaml"]
    verdicts = {}
    for rule in yaml.safe_load(text)["groups"][0]["rules"]:
        asked, judged = (part["model"] for part in rule["data"])
        ((kind, limit),) = (
            (each["evaluator"]["type"], each["evaluator"]["params"][0])
            for each in judged["conditions"]
        )
        values = [float(each["value"][1]) for each in watch.prometheus.query(asked["expr"], at=at)]
        met = [value > limit if kind == "gt" else value < limit for value in values]
        assert len(met) <= 1  # Grafana would make an alert of each line
        verdicts[rule["title"]] = met == [True]
    return verdicts


def prometheus_verdicts(watch: Watch, *, at: float) -> dict[str, bool]:
    """Give what the conditions of Prometheus' own alerts say at the same moment."""
    text = monitoring_files(speed=SPEED)["prometheus/rules/pool-cpu.yml"]
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    return {
        rule["alert"]: bool(watch.prometheus.query(rule["expr"], at=at))
        for rule in rules
        if "alert" in rule
    }


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_members_too_busy_to_be_scraped_hold_the_pool_until_they_leave_its_list(
    watch: Watch,
) -> None:
    """In real time, as it is Prometheus' time-outs that are tested; about 35 s."""
    idle, hanging = Member(busy_ratio=0.05), [Member(silent=True), Member(silent=True)]
    targets = [watch.add(member) for member in (idle, *hanging)]
    watch.tell(*targets)
    watch.start()
    silent_busy = "exotide:pool_cpu:avg_silent_busy_ratio"
    until(lambda: (watch.prometheus.value(silent_busy) or 0) > 0.6, timeout_s=20)
    time.sleep(8)  # more than the alert would need
    assert watch.prometheus.value(silent_busy) == pytest.approx(2.05 / 3, abs=0.02)
    assert watch.prometheus.value("exotide:pool_cpu:avg_ratio") == pytest.approx(0.05, abs=0.02)
    assert not watch.prometheus.has_fired("CPU low", within="1m")

    idle.answers_each_second_time = True
    watch.tell(targets[0])
    until(lambda: watch.prometheus.fires("CPU low"), timeout_s=25)
    seen = time.time()
    for second in range(25):
        verdicts = grafanas_verdicts(watch, at=seen - second)
        assert verdicts == prometheus_verdicts(watch, at=seen - second)
    assert grafanas_verdicts(watch, at=seen)["CPU low"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_prometheus_that_was_killed_in_calm_judges_nothing_by_what_it_knew(watch: Watch) -> None:
    """In real time, as it is Prometheus' memory that is tested; about 30 s."""
    target = watch.add(Member(busy_ratio=0.05))
    watch.tell(target)
    watch.start()
    until(lambda: watch.prometheus.fires("CPU low"), timeout_s=30)
    watch.kill()
    (watch.folder / "service-discovery/config.json").unlink()
    watch.start()
    restarted = time.monotonic()
    for text in ("", "[]", "[{", '[{"targets": []}]'):
        time.sleep(2)
        watch.write(text)
    time.sleep(2)
    since = f"{int(time.monotonic() - restarted)}s"
    assert not watch.prometheus.has_fired("CPU low", within=since)
    assert watch.prometheus.value("exotide:pool_cpu:avg_silent_busy_ratio") is None
    assert watch.prometheus.query('ALERTS{alertname="No member listed"}')  # so it judges again

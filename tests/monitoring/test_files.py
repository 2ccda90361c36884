"""The files the monitoring server reads, as they stand and at other speeds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exotide.stack.alerting import FILES, monitoring_files
from exotide.stack.durations import parse_s

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
SPEEDS = [1, 2, 6, 7.3, 60, 1000]


def run(*command: str | Path, cwd: Path = MONITORING) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(folder: Path, speed: float) -> Path:
    for name, text in monitoring_files(speed=speed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def parsed(name: str, speed: float = 1) -> Any:
    return yaml.safe_load(monitoring_files(speed=speed)[name])


def alerts(speed: float = 1) -> dict[str, Any]:
    rules = parsed("prometheus/rules/pool-cpu.yml", speed)["groups"][0]["rules"]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def beside() -> list[dict[str, Any]]:
    """Give the alerts that are no business of the autoscaler."""
    (group,) = parsed("prometheus/rules/stack.yml")["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_promtool_agrees_with_every_rule_test() -> None:
    tests = sorted((MONITORING / "prometheus" / "tests").glob("*.test.yml"))
    assert tests
    assert "SUCCESS" in run("promtool", "test", "rules", *tests)


@pytest.mark.parametrize("speed", SPEEDS)
def test_prometheus_accepts_its_files_at_every_speed(speed: float, tmp_path: Path) -> None:
    run("promtool", "check", "config", "prometheus/prometheus.yml", cwd=written(tmp_path, speed))


@pytest.mark.parametrize("speed", SPEEDS)
def test_alertmanager_accepts_its_file_at_every_speed(speed: float, tmp_path: Path) -> None:
    run("amtool", "check-config", "alertmanager/alertmanager.yml", cwd=written(tmp_path, speed))


def test_at_speed_1_a_server_reads_the_committed_files_verbatim() -> None:
    files = monitoring_files(speed=1)
    assert all(files[name] == (MONITORING / name).read_text() for name in FILES)


def test_every_rule_test_still_holds_after_a_round_trip_through_another_speed(
    tmp_path: Path,
) -> None:
    """Speed 1.0000001 rounds to the same durations, but takes the path of derived files."""
    written(tmp_path, 1.0000001)
    shutil.copytree(MONITORING / "prometheus" / "tests", tmp_path / "prometheus" / "tests")
    tests = tmp_path / "prometheus" / "tests"
    run("promtool", "test", "rules", *sorted(tests.glob("*.test.yml")), cwd=tests)


def test_the_alerts_bear_the_names_and_labels_of_grafanas() -> None:
    assert {name: rule["labels"] for name, rule in alerts().items()} == {
        "CPU high": {"autoscale": "up"},
        "CPU low": {"autoscale": "down"},
    }


@pytest.mark.parametrize(
    ("speed", "window", "patience", "pending"),
    [
        pytest.param(1, "1m", "30s", "1m", id="the-assignment"),
        pytest.param(6, "10s", "5s", "10s", id="the-demo"),
        pytest.param(60, "5s", "2s500ms", "5s", id="the-floor"),
    ],
)
def test_window_patience_and_pending_time_shrink_with_the_speed_down_to_a_floor(
    speed: float, window: str, patience: str, pending: str
) -> None:
    text = monitoring_files(speed=speed)["prometheus/rules/pool-cpu.yml"]
    assert re.findall(r"\[(\d\w*)\]", text) == [window, window, patience]
    assert re.findall(r"offset (\w+)", text) == [patience]
    assert {rule["for"] for rule in alerts(speed).values()} == {pending}


@pytest.mark.parametrize("speed", SPEEDS)
def test_patience_and_what_prometheus_remembers_are_over_before_an_alert_fires(
    speed: float,
) -> None:
    """Else the pool would shrink before a silent member counts, or by the average of before."""
    text = monitoring_files(speed=speed)["prometheus/rules/pool-cpu.yml"]
    pending_s, scrape_s = (
        parse_s(alerts(speed)["CPU low"]["for"]),
        parse_s(parsed("prometheus/prometheus.yml", speed)["global"]["scrape_interval"]),
    )
    (patience,) = set(re.findall(r"(?:offset |time\(exotide\S+\[)(\w+)", text))
    assert 2 * scrape_s < parse_s(patience) <= pending_s / 2 + 0.001
    arguments = monitoring_files(speed=speed)["prometheus/prometheus.args"].splitlines()
    (lookback,) = (word.partition("lookback-delta=")[2] for word in arguments if "look" in word)
    assert 4 * scrape_s < parse_s(lookback) < pending_s + scrape_s


def test_every_time_of_the_other_alerts_shrinks_with_the_speed() -> None:
    """A number in an expression would stay as it is, so there is none but nought and one."""
    texts = [monitoring_files(speed=speed)["prometheus/rules/stack.yml"] for speed in (1, 60)]
    times = [re.findall(r"(?:\[|offset |for: )(\w+)", text) for text in texts]
    assert times[0] == ["15m", "15m", "5m", "5m", "5m", "5m", "5m", "11m", "5m"]
    assert times[1] == ["15s", "15s", "5s", "5s", "5s", "5s", "5s", "11s", "5s"]
    for rule in beside():
        assert set(re.findall(r"(?<![\w.])\d+(?!\w)", rule["expr"])) <= {"0", "1"}


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_scrape_never_outlasts_its_interval_and_a_window_holds_several(speed: float) -> None:
    settings = parsed("prometheus/prometheus.yml", speed)["global"]
    interval_s = parse_s(settings["scrape_interval"])
    assert 1 <= parse_s(settings["scrape_timeout"]) <= interval_s
    assert parse_s(alerts(speed)["CPU high"]["for"]) >= 5 * interval_s


@pytest.mark.parametrize("speed", SPEEDS)
def test_repeats_come_at_five_minutes_of_the_assignments_time(speed: float) -> None:
    """A repeat waits for the first group_interval tick after *more than* repeat_interval."""
    for route in parsed("alertmanager/alertmanager.yml", speed)["route"]["routes"]:
        tick_s, repeat_s = parse_s(route["group_interval"]), parse_s(route["repeat_interval"])
        assert 4 * tick_s < repeat_s < 5 * tick_s
        assert 5 * tick_s == pytest.approx(300 / speed, abs=0.003)
        assert parse_s(route["group_wait"]) == 0


def test_only_the_two_conditions_call_and_only_while_they_fire() -> None:
    config = parsed("alertmanager/alertmanager.yml")
    receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
    assert receivers[config["route"]["receiver"]] == {"name": config["route"]["receiver"]}
    hooks = {name: receivers[name]["webhook_configs"] for name in ("scale-up", "scale-down")}
    assert [hook["url"] for (hook,) in hooks.values()] == [
        "http://127.0.0.1:8090/up",
        "http://127.0.0.1:8090/down",
    ]
    assert all(hook["send_resolved"] is False for (hook,) in hooks.values())


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=CPU high", "autoscale=up"), "scale-up"),
        (("alertname=CPU low", "autoscale=down"), "scale-down"),
        (("alertname=DiskFull",), "unrouted"),
        (("alertname=CPU low", "autoscale=DOWN"), "unrouted"),
        (("alertname=CPU low", "autoscale=down-not"), "unrouted"),
    ],
)
def test_alertmanager_routes_by_the_autoscale_label(labels: tuple[str, ...], receiver: str) -> None:
    config = "--config.file=alertmanager/alertmanager.yml"
    assert run("amtool", "config", "routes", "test", config, *labels).strip() == receiver


def test_what_a_person_should_look_at_reaches_no_receiver() -> None:
    config = "--config.file=alertmanager/alertmanager.yml"
    assert len(beside()) == 7
    for rule in beside():
        labels = {"alertname": rule["alert"], "job": "members", "instance": "192.0.2.7:9100"}
        assert "labels" not in rule
        words = [f"{name}={value}" for name, value in labels.items()]
        assert run("amtool", "config", "routes", "test", config, *words).strip() == "unrouted"


def test_what_a_person_should_look_at_says_what_is_and_what_to_do() -> None:
    for rule in beside():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert all(len(text) < 110 for text in rule["annotations"].values())


def test_no_secret_is_written_into_a_file() -> None:
    config = json.dumps(parsed("alertmanager/alertmanager.yml"))
    assert "credentials_file" in config
    assert '"credentials"' not in config


def test_every_job_but_those_of_the_members_looks_only_at_this_server() -> None:
    jobs = {job["job_name"]: job for job in parsed("prometheus/prometheus.yml")["scrape_configs"]}
    for name in ("members", "application"):
        found = jobs.pop(name)["file_sd_configs"][0]["files"]
        assert found == ["/srv/service-discovery/config.json"]
    (found,) = jobs.pop("alertmanager")["file_sd_configs"][0]["files"]
    (alertmanager,) = json.loads(monitoring_files()[found.removeprefix("/srv/")])
    targets = {job["static_configs"][0]["targets"][0] for job in jobs.values()}
    for target in (*targets, *alertmanager["targets"]):
        assert target.startswith("127.0.0.1:")

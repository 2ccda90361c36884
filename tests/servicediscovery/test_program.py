"""The installed program: exit codes, signals, metrics, memory, log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from .api import POOL_ID, FakeApi, Fault
from .conftest import SECRET

Process = subprocess.Popen[str]


@pytest.fixture
def start(api: FakeApi, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def begin(before: tuple[str, ...] = (), **changes: str) -> Process:
        environ = {
            "PATH": os.environ["PATH"],
            "EXOSCALE_KEY": "EXOkey",
            "EXOSCALE_SECRET": SECRET,
            "EXOSCALE_ZONE": "at-vie-1",
            "EXOSCALE_ZONE_ID": "4da1b188-dcd6-4ff5-b7fd-bde984055548",
            "EXOSCALE_INSTANCEPOOL_ID": POOL_ID,
            "TARGET_PORT": "9100",
            "EXOSCALE_API_ENDPOINT": api.endpoint,
            "EXOTIDE_TARGETS_FILE": str(tmp_path / "sd" / "config.json"),
            "EXOTIDE_METRICS_ADDRESS": "127.0.0.1",
            "EXOTIDE_METRICS_PORT": "0",
            "EXOTIDE_REFRESH_S": "0.2",
            **changes,
        }
        command = [*before, sys.executable, "-W", "error", "-m", "exotide_servicediscovery"]
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def next_event(process: Process, event: str) -> dict[str, Any]:
    assert process.stderr is not None
    for line in process.stderr:
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"it ended without {event}")


def test_it_writes_serves_metrics_and_ends_0_on_term(
    start: Callable[..., Process], api: FakeApi, tmp_path: Path
) -> None:
    process = start()
    port = next_event(process, "started")["metrics_port"]
    next_event(process, "refreshed")
    groups = json.loads((tmp_path / "sd" / "config.json").read_bytes())
    assert groups[0]["targets"] == ["198.51.100.1:9100"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert "exotide_discovery_targets 1.0" in answer.read().decode()
    resident_kib = int(
        Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
    )
    assert resident_kib < 60 * 1024
    began = time.monotonic()
    process.terminate()
    assert process.wait(5) == 0
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hanging_api_does_not_delay_the_end(
    start: Callable[..., Process], api: FakeApi, number: signal.Signals
) -> None:
    api.fault = Fault(hang=True)
    process = start()
    next_event(process, "started")
    end = time.monotonic() + 10
    while not api.requests and time.monotonic() < end:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(5) == 0
    assert time.monotonic() - began < 1


def test_a_wrong_key_is_said_clearly_and_it_keeps_trying(
    start: Callable[..., Process], api: FakeApi
) -> None:
    api.fault = Fault(status=403, body=b'{"message": "Invalid request signature"}')
    process = start()
    for _ in range(2):
        line = next_event(process, "refresh_failed")
        assert line["error"].startswith("Unauthorized: get-instance-pool: 403 ")
        assert "Invalid request signature; check EXOSCALE_KEY" in line["error"]
    api.fault = None
    next_event(process, "refreshed")


def test_wrong_settings_end_it_with_2_and_all_names(start: Callable[..., Process]) -> None:
    process = start(EXOSCALE_KEY="", TARGET_PORT="x", EXOTIDE_REFRESH_S="-1")
    _, text = process.communicate(timeout=10)
    assert process.returncode == 2
    assert text.startswith("error: 3 settings are missing or wrong\n")
    for name in ("EXOSCALE_KEY", "TARGET_PORT", "EXOTIDE_REFRESH_S"):
        assert name in text


def test_a_metrics_port_in_use_is_named(start: Callable[..., Process]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(EXOTIDE_METRICS_PORT=str(port))
        _, text = process.communicate(timeout=10)
    assert process.returncode == 2
    assert f"127.0.0.1 port {port}" in text
    assert "EXOTIDE_METRICS_PORT" in text


def test_no_secret_is_in_the_log_or_the_process_list(
    start: Callable[..., Process], api: FakeApi
) -> None:
    api.fault = Fault(status=403)
    process = start()
    next_event(process, "refresh_failed")
    assert SECRET not in Path(f"/proc/{process.pid}/cmdline").read_text()
    process.terminate()
    _, text = process.communicate(timeout=5)
    assert SECRET not in text


def test_help_names_the_settings(start: Callable[..., Process]) -> None:
    command = [sys.executable, "-m", "exotide_servicediscovery", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "EXOSCALE_INSTANCEPOOL_ID" in shown.stdout


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_that_an_ordinary_user_may_not_write_to_is_told_and_tried_again(
    start: Callable[..., Process],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
        process = start(nobody, EXOTIDE_TARGETS_FILE=str(folder / "config.json"))
        line = next_event(process, "refresh_failed")
        assert line["error"] == (
            f"TargetsNotWritten: {folder / 'config.json'} cannot be written: Permission denied"
        )
        assert line["level"] == "error"
        folder.chmod(0o777)
        assert next_event(process, "refreshed")["after_failures"] >= 1
        assert json.loads((folder / "config.json").read_bytes())
        assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_an_api_that_lies_breaks_off_and_hangs_in_turn_never_ends_it(
    start: Callable[..., Process], api: FakeApi, tmp_path: Path
) -> None:
    process = start()
    next_event(process, "refreshed")
    faults = [
        Fault(body=b" " * (8 * 1024 * 1024 + 1)),
        Fault(body=b"[" * 200_000),
        Fault(drop=True),
        Fault(status=500, body=b"\xff" * 100_000),
        Fault(status=302, headers={"Location": "/v2/"}),
    ]
    for fault in faults:
        api.fault = fault
        next_event(process, "refresh_failed")
    api.fault = None
    api.scale(3)
    while next_event(process, "refreshed")["targets"] != 3:
        pass
    assert len(json.loads((tmp_path / "sd" / "config.json").read_bytes())) == 3
    assert process.poll() is None

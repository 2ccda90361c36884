"""Runs the real program as a child process, and talks to it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fake_api import POOL_ID, FakeApi

JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.02)


@dataclass(slots=True)
class Agent:
    """A running autoscaler."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    read_port: int

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=15)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def hook(self, path: str, body: bytes | None = None, **headers: str) -> int:
        return self.request("GET" if body is None else "POST", path, body, headers)[0]

    def decisions(self) -> list[dict[str, Any]]:
        _, text = self.request("GET", "/decisions?limit=1000", port=self.read_port)
        found: list[dict[str, Any]] = json.loads(text)["decisions"]
        return found

    def reasons(self, intent: str | None = None) -> list[str]:
        return [item["reason"] for item in self.decisions() if intent in {None, item["intent"]}]

    def metric(self, name: str) -> float | None:
        _, text = self.request("GET", "/metrics")
        for line in text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return None

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line.get("event") == event]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> tuple[int, float]:
        """Returns the exit code and the seconds that the end took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10), time.monotonic() - began


def environment(api: FakeApi, folder: Path, **settings: object) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "EXOSCALE_KEY": "EXOtestkey000000000000000",
        "EXOSCALE_SECRET": "testsecret",
        "EXOSCALE_ZONE": "at-vie-1",
        "EXOSCALE_ZONE_ID": "70e5f8b1-0b2c-4457-a5e0-88bcf1f3db68",
        "EXOSCALE_INSTANCEPOOL_ID": POOL_ID,
        "EXOSCALE_API_ENDPOINT": api.endpoint,
        "TARGET_PORT": "9100",
        "EXOTIDE_LISTEN_ADDRESS": "127.0.0.1",
        "EXOTIDE_JOURNAL": str(folder / "journal.sqlite"),
        "EXOTIDE_INTERVAL_S": "1.5",
        **{name: str(value) for name, value in settings.items()},
    }


@contextmanager
def running(api: FakeApi, folder: Path, **settings: object) -> Iterator[Agent]:
    """Start the program, wait until it is ready, and kill it in the end if it still runs."""
    port = free_port()
    log = folder / f"agent-{port}.log"
    environ = environment(api, folder, LISTEN_PORT=port, **settings)
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "exotide_autoscaler"], env=environ, stderr=stderr
        )
    agent = Agent(process, port, log, int(environ.get("EXOTIDE_METRICS_PORT", port)))
    try:
        wait_until(agent.is_ready)
        yield agent
    finally:
        if process.poll() is None:
            agent.kill()

"""What the alert paths have in common: a member, a place for webhooks, programs that run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

SILENCE_S = 1.3
"""Longer than a scrape may take at the tests' speed."""


@dataclass
class Member:
    """An exporter whose CPU is as busy as the test says."""

    busy_ratio: float = 0.5
    started_at: float = field(default_factory=time.monotonic)
    busy_s: float = 0.0
    read_at: float = field(default_factory=time.monotonic)
    silent: bool = False
    """Too busy to answer before the scrape is given up."""
    answers_each_second_time: bool = False
    asked: int = 0

    def keeps_waiting(self) -> bool:
        self.asked += 1
        return self.silent or (self.answers_each_second_time and self.asked % 2 == 0)

    def metrics(self) -> str:
        now = time.monotonic()
        self.busy_s += (now - self.read_at) * self.busy_ratio
        self.read_at = now
        idle_s = now - self.started_at - self.busy_s
        modes = dict.fromkeys(("iowait", "irq", "nice", "softirq", "steal", "system"), 0.0)
        lines = (
            f'node_cpu_seconds_total{{cpu="0",mode="{mode}"}} {time_s}\n'
            for mode, time_s in (modes | {"user": self.busy_s, "idle": idle_s}).items()
        )
        return "# TYPE node_cpu_seconds_total counter\n" + "".join(lines)


@dataclass
class Sink:
    """Stands where the autoscaler's webhooks are."""

    calls: list[tuple[float, str, dict[str, Any], str]] = field(default_factory=list)

    def wait_for(self, count: int, *, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while len(self.calls) < count:
            assert time.monotonic() < until, f"{count} calls expected, got {self.calls}"
            time.sleep(0.05)


Process = subprocess.Popen[bytes]


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def exporter(member: Member) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if member.keeps_waiting():
                time.sleep(SILENCE_S)
                self.close_connection = True
                return
            body = member.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def webhooks(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bearer = self.headers.get("Authorization", "")
            sink.calls.append((time.monotonic(), self.path, body, bearer))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(log: Path, *command: str, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    environment = os.environ | (env or {})
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as child,
    ):
        try:
            yield child
        finally:
            child.terminate()


def answers(url: str, *, within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while True:
        try:
            if httpx2.get(url, trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < until, url
        time.sleep(0.05)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that can be asked."""

    url: str

    def query(self, expr: str, *, at: float | None = None) -> list[dict[str, Any]]:
        asked = {"query": expr} | ({} if at is None else {"time": str(at)})
        answer = httpx2.get(f"{self.url}/api/v1/query", params=asked, trust_env=False).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expr: str) -> float | None:
        result = self.query(expr)
        return float(result[0]["value"][1]) if result else None

    def fires(self, alert: str) -> bool:
        return bool(self.query(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    def has_fired(self, alert: str, *, within: str) -> bool:
        chosen = f'ALERTS{{alertname="{alert}",alertstate="firing"}}[{within}]'
        return bool(self.query(f"count_over_time({chosen})"))


def until(met: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.1)

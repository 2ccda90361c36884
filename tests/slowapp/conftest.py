"""Runs the slow application as members do: as a program with an environment."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "slowapp" / "slowapp.py"


def run_program(*, file_limit: int | None = None, **environ: str) -> subprocess.Popen[str]:
    limited = [] if file_limit is None else ["prlimit", f"--nofile={file_limit}"]
    return subprocess.Popen(
        [*limited, sys.executable, "-W", "error", str(PROGRAM)],
        env={"PATH": os.environ["PATH"], "LISTEN_ADDRESS": "127.0.0.1", **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "this did not become true in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class SlowApp:
    """A running copy of the application."""

    process: subprocess.Popen[str]
    port: int

    def get(self, target: str, method: str = "GET", timeout_s: float = 30) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def timed(self, target: str) -> tuple[float, str]:
        began = time.monotonic()
        _, text = self.get(target)
        return time.monotonic() - began, text

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def talk(self, sent: bytes) -> bytes:
        """Send these bytes and return all that comes back until the other side ends."""
        with self.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def in_flight(self, path: str) -> int:
        _, text = self.get("/metrics")
        name = f'exotide_slowapp_requests_in_flight{{path="{path}"}} '
        return int(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def cpu_s(self) -> float:
        """CPU time of the program and its workers so far."""
        ticks = 0
        for pid in [self.process.pid, *self.workers()]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def term(self) -> None:
        """Ask it to end, and wait until it has heard."""
        assert self.process.stderr is not None
        self.process.send_signal(signal.SIGTERM)
        line = self.process.stderr.readline()
        assert '"stopping"' in line, line

    def ended(self, timeout_s: float = 20) -> int:
        return self.process.wait(timeout_s)


@pytest.fixture
def start() -> Iterator[Callable[..., SlowApp]]:
    """Start the application with more environment; it is gone after the test."""
    running: list[SlowApp] = []

    def begin(*, file_limit: int | None = None, **environ: str) -> SlowApp:
        port = free_port()
        environ = {"LISTEN_PORT": str(port), "LOAD_SECONDS": "1", **environ}
        process = run_program(file_limit=file_limit, **environ)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert '"started"' in line, line + process.stderr.read()
        running.append(SlowApp(process=process, port=port))
        return running[-1]

    yield begin
    for app in running:
        app.process.kill()
        app.process.communicate()


@pytest.fixture
def app(start: Callable[..., SlowApp]) -> SlowApp:
    return start()

"""The real generator, in its own process, against a small server: real seconds, on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exotide.loadtest.control import Control, write_control
from exotide.loadtest.results import Second, Tail

LOCUSTFILE = Path(__file__).parents[2] / "src/exotide/loadtest/locustfile.py"


class Slow(BaseHTTPRequestHandler):
    """Answers /slow after two seconds, /bad with 503, all else at once."""

    def do_GET(self) -> None:
        time.sleep(2.0 if self.path == "/slow" else 0.0)
        self.send_response(503 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@pytest.fixture
def server() -> Iterator[int]:
    server = Server(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def seconds_of_load(
    folder: Path, port: int, path: str, *, needed: int = 4
) -> tuple[list[Second], int]:
    """Run the generator until it has reported so many seconds; then take its control file away."""
    control, results = folder / "control.json", folder / "results.jsonl"
    write_control(control, Control(rate_rps=20.0, path=path))
    environment = os.environ | {
        "EXOTIDE_LOAD_CONTROL": str(control),
        "EXOTIDE_LOAD_RESULTS": str(results),
    }
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--users", "1"]
    command += ["--host", f"http://127.0.0.1:{port}", "--loglevel", "ERROR", "--only-summary"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        seconds: list[Second] = []
        tail, end = Tail(results), time.monotonic() + 40
        while len(seconds) < needed and time.monotonic() < end and process.poll() is None:
            time.sleep(0.2)
            seconds += tail.read()
        control.unlink()
        return seconds, process.wait(timeout=20)
    finally:
        process.kill()
        process.wait()


def test_slow_answers_do_not_hold_back_the_arrivals(server: int, tmp_path: Path) -> None:
    seconds, code = seconds_of_load(tmp_path, server, "/slow", needed=5)
    assert sum(second.arrivals for second in seconds) > 50
    assert max(second.in_flight for second in seconds) > 20
    assert all(second.p50_s >= 2.0 for second in seconds if second.p50_s is not None)
    assert code == 0


def test_bad_answers_are_counted_and_are_no_latency(server: int, tmp_path: Path) -> None:
    seconds, _ = seconds_of_load(tmp_path, server, "/bad")
    assert sum(second.failed for second in seconds) > 10
    assert all(second.completed == 0 and second.p95_s is None for second in seconds)

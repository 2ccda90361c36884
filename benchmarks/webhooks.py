"""
How fast the autoscaler acknowledges webhooks, each of them on the disk before its answer.

Starts a fake cloud and the real program, then sends `/up` over 50 connections: with wrk if it is
installed, else with this interpreter (which then is the limit). Prints one JSON object.

    .venv/bin/python benchmarks/webhooks.py [--seconds 5] [--connections 50]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.autoscaler.agent import Agent, running
from tests.autoscaler.fake_api import FakeApi, serving


def with_wrk(agent: Agent, connections: int, seconds: int) -> dict[str, float]:
    """Returns requests per second and the 99th percentile in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{agent.port}/up"], check=True, capture_output=True, text=True
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate
    assert slowest
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[slowest[2]]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return {
        "requests_per_s": float(rate[1]),
        "p99_ms": float(slowest[1]) * scale,
        "failed": float(failed[1]) if failed else 0.0,
    }


def with_threads(agent: Agent, connections: int, seconds: int) -> dict[str, float]:
    """The same by this interpreter."""
    latencies: list[float] = []
    failed: list[int] = []
    ends_at = time.monotonic() + seconds

    def send() -> None:
        connection = HTTPConnection("127.0.0.1", agent.port)
        while (began := time.monotonic()) < ends_at:
            connection.request("GET", "/up")
            answer = connection.getresponse()
            answer.read()
            latencies.append(time.monotonic() - began)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "requests_per_s": len(latencies) / seconds,
        "p99_ms": 1000 * sorted(latencies)[int(len(latencies) * 0.99)],
        "failed": float(len(failed)),
    }


def rss_mb(agent: Agent) -> float:
    """Resident memory of the program in megabytes (10^6 bytes)."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=50)
    arguments = parser.parse_args()
    send = with_wrk if shutil.which("wrk") else with_threads
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(FakeApi()) as api,
        running(api, Path(folder), EXOTIDE_INTERVAL_S=60) as agent,
    ):
        idle_mb = rss_mb(agent)
        figures = send(agent, arguments.connections, arguments.seconds)
        memory = {"rss_idle_mb": idle_mb, "rss_loaded_mb": rss_mb(agent)}
        print(json.dumps({"sender": send.__name__, **figures, **memory}, indent=2))


if __name__ == "__main__":
    main()

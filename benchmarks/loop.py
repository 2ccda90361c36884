"""
How fast the local cloud is: from a scale call to a member that serves, and to its first sample.

Run as root from the repository: .venv/bin/python benchmarks/loop.py
"""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from exoscale.api.v2 import Client

from exotide.cloud.directory import RUN_DIR
from exotide.stack import Stack, StackSettings, create, destroy

BIN = Path(sys.executable).parent
ZONE = "at-vie-1"
ROUNDS = 5


def until(look: Callable[[], bool], *, limit_s: float = 60.0) -> float:
    """Poll at 50 Hz; give the time that it took, in seconds."""
    started_at = time.monotonic()
    while not look():
        if time.monotonic() - started_at > limit_s:
            raise TimeoutError(f"not seen within {limit_s:g} s")
        time.sleep(0.02)
    return time.monotonic() - started_at


def healthy(client: Client, stack: Stack) -> int:
    """Members that the load balancer sends traffic to."""
    service = client.get_load_balancer(id=stack.nlb_id)["services"][0]
    return sum(s["status"] == "success" for s in service.get("healthcheck-status", []))


def sampled(stack: Stack) -> int:
    """Members with a sample in Prometheus."""
    answer = httpx2.get(
        f"{stack.prometheus_url}/api/v1/query", params={"query": 'up{pool_id!=""} == 1'}
    )
    return len(answer.json()["data"]["result"])


def rss_mib(program: str) -> float | None:
    """Resident memory of the running agent of this name, if there is one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f"bin/{program}" in command:
                status = (folder / "status").read_text()
                return int(status.split("VmRSS:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            continue
    return None


def measure(client: Client, stack: Stack) -> dict[str, Any]:
    """Scale 1 to 2 and back, several times."""
    to_serving, to_sample = [], []
    for _ in range(ROUNDS):
        until(lambda: sampled(stack) == 1)
        started_at = time.monotonic()
        client.scale_instance_pool(id=stack.pool_id, size=2)
        until(lambda: healthy(client, stack) == 2)
        to_serving.append(time.monotonic() - started_at)
        until(lambda: sampled(stack) == 2)
        to_sample.append(time.monotonic() - started_at)
        until(lambda: client.get_instance_pool(id=stack.pool_id)["state"] == "running")
        client.scale_instance_pool(id=stack.pool_id, size=1)
        until(lambda: healthy(client, stack) == 1)
        until(lambda: client.get_instance_pool(id=stack.pool_id)["state"] == "running")
    return {
        "scale_to_serving_s": [round(value, 2) for value in to_serving],
        "scale_to_serving_median_s": round(statistics.median(to_serving), 2),
        "scale_to_first_sample_s": [round(value, 2) for value in to_sample],
        "scale_to_first_sample_max_s": round(max(to_sample), 2),
        "autoscaler_rss_mib": rss_mib("exotide-autoscaler"),
        "servicediscovery_rss_mib": rss_mib("exotide-servicediscovery"),
    }


def main() -> None:
    """Start a cloud, build the stack, measure, tear down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    cloud = subprocess.Popen([BIN / "exotide", "cloud", "--port", str(port), "--speed", "6"])
    try:
        said: dict[str, Any] = {}

        def ready() -> bool:
            for file in RUN_DIR.glob("*/cloud.json"):
                content = json.loads(file.read_text())
                if content["port"] == port:
                    said.update(content)
            return bool(said)

        until(ready)
        settings = StackSettings(
            key=said["key"],
            secret=said["secret"],
            endpoint=f"http://127.0.0.1:{port}/z/{ZONE}/v2",
            agent_endpoint=f"http://{said['fabric_ip']}:{port}/z/{ZONE}/v2",
            http_port=said["http_port"],
            # No alert may interfere: nothing fires within the benchmark at the longest interval.
            speed=6,
            max_size=2,
            interval_s=86400,
        )
        stack = create(settings)
        client = Client(settings.key, settings.secret, url=settings.api_url)
        print(json.dumps(measure(client, stack), indent=2))
        destroy(settings)
    finally:
        cloud.send_signal(signal.SIGTERM)
        cloud.wait(60)


if __name__ == "__main__":
    main()

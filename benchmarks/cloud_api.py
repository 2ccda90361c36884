"""
Requests per second and latency of the local cloud's API: signed reads of a pool of ten members.

The server runs in a process of its own on fake drivers, so that the figures are the API's alone.
Run: python benchmarks/cloud_api.py
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.testing import running_cloud

KEY, SECRET, ZONE = "EXObenchmark", "benchmark", "at-vie-1"
REQUESTS = 4_000


def serve(pipe: Connection) -> None:
    """Serve until the other end closes; tell port and, at the end, resident memory."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    with running_cloud(key=KEY, secret=SECRET, zone=ZONE) as cloud:
        pipe.send(cloud.access.port)
        pipe.recv()
        status = Path("/proc/self/status").read_text()
        pipe.send(int(status.partition("VmRSS:")[2].split()[0]) / 1024)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> Any:
    """Send one signed request and give the answer."""
    expires = str(int(time.time()) + 600)
    request = SignedRequest(method=method, path=path, body=body)
    signature = sign(request, secret=SECRET, query_args=(), expires=expires)
    header = f"EXO2-HMAC-SHA256 credential={KEY},expires={expires},signature={signature}"
    connection.request(method, path, body=body or None, headers={"Authorization": header})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status == 200, content
    return content


def read_often(port: int, pool: str, count: int) -> list[float]:
    """Read a pool over one kept connection; give the seconds of each request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        shown = ask(connection, "GET", f"/z/{ZONE}/v2/instance-pool/{pool}")
        took.append(time.perf_counter() - began)
        assert shown["size"] == 10
    connection.close()
    return took


def make_pool(port: int) -> str:
    """Make a pool of ten and wait until it runs."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    template = next(key for key, each in TEMPLATES.items() if each.zone == ZONE)
    order = {
        "name": "web",
        "size": 10,
        "instance-type": {"id": next(iter(INSTANCE_TYPES))},
        "template": {"id": template},
        "disk-size": 10,
    }
    operation = ask(connection, "POST", f"/z/{ZONE}/v2/instance-pool", json.dumps(order).encode())
    while ask(connection, "GET", f"/z/{ZONE}/v2/operation/{operation['id']}")["state"] == "pending":
        time.sleep(0.01)
    connection.close()
    return str(operation["reference"]["id"])


def measure(port: int, pool: str, clients: int) -> dict[str, float]:
    """Let so many processes read at once."""
    each = REQUESTS // clients
    with ProcessPoolExecutor(clients, mp_context=multiprocessing.get_context("spawn")) as workers:
        list(workers.map(read_often, [port] * clients, [pool] * clients, [20] * clients))
        began = time.perf_counter()
        results = workers.map(read_often, [port] * clients, [pool] * clients, [each] * clients)
        took = [seconds for result in results for seconds in result]
        wall_s = time.perf_counter() - began
    percentiles = statistics.quantiles(took, n=100)
    return {
        "clients": clients,
        "requests_per_s": round(len(took) / wall_s),
        "p50_ms": round(percentiles[49] * 1000, 2),
        "p99_ms": round(percentiles[98] * 1000, 2),
    }


def main() -> None:
    """Print the figures as JSON, one line each."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,))
    server.start()
    port = here.recv()
    pool = make_pool(port)
    for clients in (1, 10):
        sys.stdout.write(json.dumps(measure(port, pool, clients)) + "\n")
    here.send("end")
    sys.stdout.write(json.dumps({"server_rss_mib": round(here.recv(), 1)}) + "\n")
    server.join()


if __name__ == "__main__":
    main()

"""
Requests per second and latency of the local cloud's API, beside moto's server in the same run.

Reads: a signed read of a pool of ten members; of moto, a description of an Auto Scaling group of
ten, which it does not authenticate. Writes: a new description of a load balancer, without and with
a state folder (then each answer is on the disk). Each server runs in a process of its own, ours on
fake drivers, so that the figures are the API's alone; clients are processes with kept connections.
Run: python benchmarks/cloud_api.py
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import structlog

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.state.store import Store
from exotide.cloud.testing import running_cloud

KEY, SECRET, ZONE = "EXObenchmark", "benchmark", "at-vie-1"
REQUESTS, WRITES, MOTO_REQUESTS = 4_000, 1_500, 1_000
GOAL_RATIO = 3
AWS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/autoscaling/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "Content-Type": "application/x-www-form-urlencoded",
}
Ask = Callable[[http.client.HTTPConnection], None]


def serve(pipe: Connection, state: str | None) -> None:
    """Serve until the other end says so; tell port and, at the end, resident memory."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    with ExitStack() as stack:
        store = stack.enter_context(Store(Path(state))) if state else None
        cloud = stack.enter_context(running_cloud(key=KEY, secret=SECRET, zone=ZONE, store=store))
        pipe.send(cloud.access.port)
        pipe.recv()
        status = Path("/proc/self/status").read_text()
        pipe.send(int(status.partition("VmRSS:")[2].split()[0]) / 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A local cloud in a process of its own."""

    port: int
    pipe: Connection

    def rss_mib(self) -> float:
        """End it; give its resident memory."""
        self.pipe.send("end")
        return round(float(self.pipe.recv()), 1)


@contextmanager
def our_server(state: str | None = None) -> Iterator[Ours]:
    """Start a local cloud, kept in a folder or not."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, state))
    server.start()
    yield Ours(port=here.recv(), pipe=here)
    server.join()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> Any:
    """Send one signed request and give the answer."""
    expires = str(int(time.time()) + 600)
    path = f"/z/{ZONE}/v2{path}"
    request = SignedRequest(method=method, path=path, body=body)
    signature = sign(request, secret=SECRET, query_args=(), expires=expires)
    header = f"EXO2-HMAC-SHA256 credential={KEY},expires={expires},signature={signature}"
    connection.request(method, path, body=body or None, headers={"Authorization": header})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status == 200, content
    return content


def order(port: int, path: str, **wanted: object) -> str:
    """Make something and wait until it is there; give its id."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    operation = ask(connection, "POST", path, json.dumps(wanted).encode())
    while ask(connection, "GET", f"/operation/{operation['id']}")["state"] == "pending":
        time.sleep(0.01)
    connection.close()
    return str(operation["reference"]["id"])


def make_pool(port: int) -> str:
    """Make a pool of ten."""
    template = next(key for key, each in TEMPLATES.items() if each.zone == ZONE)
    kind = {"instance-type": {"id": next(iter(INSTANCE_TYPES))}, "template": {"id": template}}
    return order(port, "/instance-pool", name="web", size=10, **kind, **{"disk-size": 10})


def read_pool(pool: str, connection: http.client.HTTPConnection) -> None:
    """Read a pool once."""
    assert ask(connection, "GET", f"/instance-pool/{pool}")["size"] == 10


def describe_balancer(nlb: str, connection: http.client.HTTPConnection) -> None:
    """Change a load balancer once."""
    body = json.dumps({"description": str(time.time_ns())}).encode()
    ask(connection, "PUT", f"/load-balancer/{nlb}", body)


def ask_moto(connection: http.client.HTTPConnection, action: str, **fields: object) -> str:
    """Send one query of the Auto Scaling API; give its XML."""
    body = urlencode({"Action": action, "Version": "2011-01-01", **fields})
    connection.request("POST", "/", body=body, headers=AWS)
    answer = connection.getresponse()
    content = answer.read().decode()
    assert answer.status == 200, content
    return content


def read_group(connection: http.client.HTTPConnection) -> None:
    """Read moto's group once."""
    shown = ask_moto(
        connection, "DescribeAutoScalingGroups", **{"AutoScalingGroupNames.member.1": "web"}
    )
    assert shown.count("<InstanceId>") == 10


@contextmanager
def moto_server() -> Iterator[int]:
    """Start moto's server with an Auto Scaling group of ten; give its port."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", "0"]
    with (
        tempfile.NamedTemporaryFile() as log,  # it logs each request, as it comes
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        while not (found := re.search(r"http://[0-9.]+:([0-9]+)", Path(log.name).read_text())):
            time.sleep(0.05)
        port = int(found[1])
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            launch = {"LaunchConfigurationName": "l", "ImageId": "ami-1", "InstanceType": "t3.nano"}
            ask_moto(connection, "CreateLaunchConfiguration", **launch)
            size = {"MinSize": 10, "MaxSize": 10, "DesiredCapacity": 10}
            where = {"AvailabilityZones.member.1": "us-east-1a", "LaunchConfigurationName": "l"}
            ask_moto(
                connection, "CreateAutoScalingGroup", AutoScalingGroupName="web", **size, **where
            )
            yield port
        finally:
            process.terminate()


def often(port: int, request: Ask, count: int) -> list[float]:
    """Ask again and again over one connection; give the seconds of each request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        request(connection)
        took.append(time.perf_counter() - began)
    connection.close()
    return took


def measure(name: str, port: int, request: Ask, *, clients: int, count: int) -> float:
    """Let so many processes ask at once; print the figures, give requests per second."""
    ports, requests = [port] * clients, [request] * clients
    with ProcessPoolExecutor(clients, mp_context=multiprocessing.get_context("spawn")) as workers:
        list(workers.map(often, ports, requests, [20] * clients))
        began = time.perf_counter()
        results = list(workers.map(often, ports, requests, [count // clients] * clients))
        wall_s = time.perf_counter() - began
    took = [seconds for result in results for seconds in result]
    percentiles = statistics.quantiles(took, n=100)
    say(
        what=name,
        clients=clients,
        requests_per_s=round(len(took) / wall_s),
        p50_ms=round(percentiles[49] * 1000, 2),
        p99_ms=round(percentiles[98] * 1000, 2),
    )
    return len(took) / wall_s


def say(**figures: object) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the figures as JSON, one line each."""
    reads, writes, described = {}, {}, {}
    with our_server() as ours:
        read = partial(read_pool, make_pool(ours.port))
        write = partial(describe_balancer, order(ours.port, "/load-balancer", name="lb"))
        for clients in (1, 10):
            reads[clients] = measure("read", ours.port, read, clients=clients, count=REQUESTS)
        for clients in (1, 10):
            writes[clients] = measure("write", ours.port, write, clients=clients, count=WRITES)
        say(server_rss_mib=ours.rss_mib())
    with tempfile.TemporaryDirectory() as folder, our_server(f"{folder}/state") as ours:
        read = partial(read_pool, make_pool(ours.port))
        write = partial(describe_balancer, order(ours.port, "/load-balancer", name="lb"))
        for clients in (1, 10):
            rate = measure("kept: read", ours.port, read, clients=clients, count=REQUESTS)
            say(clients=clients, kept_reads_per_reads=round(rate / reads[clients], 2))
        for clients in (1, 10):
            rate = measure("kept: write", ours.port, write, clients=clients, count=WRITES)
            say(clients=clients, kept_writes_per_writes=round(rate / writes[clients], 2))
        ours.rss_mib()
    with moto_server() as port:
        for clients in (1, 10):
            described[clients] = measure(
                "moto: read", port, read_group, clients=clients, count=MOTO_REQUESTS
            )
    for clients in (1, 10):
        ratio = reads[clients] / described[clients]
        say(clients=clients, times_moto=round(ratio, 1), goal_reached=ratio >= GOAL_RATIO)


if __name__ == "__main__":
    main()

"""
Count the requests that are lost while members join and leave a load balancer under load.

    sudo .venv/bin/python benchmarks/join_without_loss.py [REQUESTS]

Eight closed loops, each request on a connection of its own, go through the real balancer to real
servers. Members join one after the other, then leave one after the other, until all requests
are done. Prints one JSON object; exit code 0 if none was lost.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.firewall import OPEN
from exotide.cloud.ports import HealthCheck, ServerSpec, ServiceSpec
from exotide.cloud.servers.processes import ProcessServers

STUB = Path(__file__).resolve().parents[1] / "tests" / "cloud_machine" / "stub_app.py"
MOST_MEMBERS = 4
WEB = ServiceSpec(
    id=str(uuid.uuid4()),
    name="web",
    port=80,
    target_port=8080,
    strategy="round-robin",
    protocol="tcp",
    healthcheck=HealthCheck(
        mode="http", port=8080, interval_s=10.0, timeout_s=2.0, retries=2, uri="/health"
    ),
)


@dataclass
class Load:
    """Closed loops that share a number of requests."""

    ip: str
    requests: int
    served: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tickets = iter(range(self.requests))
        self.threads = [threading.Thread(target=self.loop) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def loop(self) -> None:
        for _ in self.tickets:
            try:
                connection = http.client.HTTPConnection(self.ip, 80, timeout=30)
                connection.request("GET", "/", headers={"Connection": "close"})
                self.served[connection.getresponse().read().decode()] += 1
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)


@dataclass
class Stand:
    """A cloud with one balancer whose members come and go."""

    servers: ProcessServers
    balancers: HaproxyBalancers
    nlb_id: str
    members: list[ServerSpec] = field(default_factory=list)
    join_s: list[float] = field(default_factory=list)
    names: itertools.count[int] = field(default_factory=itertools.count)

    async def set_members(self) -> None:
        ips = [spec.ip for spec in self.members]
        await self.balancers.set_members(self.nlb_id, WEB.id, ips)

    async def join(self) -> None:
        began_s = time.monotonic()
        spec = ServerSpec(
            id=str(uuid.uuid4()),
            name=f"member-{next(self.names)}",
            ip=self.servers.reserve_ip(),
            vcpus=1,
            memory_bytes=512 << 20,
            firewall=OPEN,
        )
        await self.servers.start(spec)
        self.members.append(spec)
        await self.set_members()
        while not self.balancers.health(self.nlb_id, WEB.id)[spec.ip]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self.join_s.append(time.monotonic() - began_s)

    async def leave(self) -> None:
        spec = self.members.pop(0)
        await self.set_members()
        await self.balancers.wait_drained(self.nlb_id, WEB.id, spec.ip, within_s=30.0)
        await self.servers.stop(spec.id)
        self.servers.release_ip(spec.ip)


async def measure(stand: Stand, ip: str, requests: int) -> dict[str, object]:
    await stand.join()
    began_s = time.monotonic()
    load = Load(ip, requests)
    moves = 0
    for grow in itertools.cycle([True] * (MOST_MEMBERS - 1) + [False] * (MOST_MEMBERS - 1)):
        if not load.running:
            break
        await (stand.join() if grow else stand.leave())
        moves += 1
        await asyncio.sleep(0.5)
    took_s = time.monotonic() - began_s
    return {
        "requests": requests,
        "lost": len(load.lost),
        "first_losses": load.lost[:3],
        "joins_and_leaves": moves,
        "requests_per_s": round(requests / took_s),
        "join_s_median": round(statistics.median(stand.join_s), 3),
        "join_s_max": round(max(stand.join_s), 3),
    }


async def main() -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(prefix="exo-") as name:
        run_dir, cloud_id = Path(name), uuid.uuid4().hex[:6]
        command = f"exec {sys.executable} -I -S {STUB} 8080"
        servers = ProcessServers(cloud_id=cloud_id, run_dir=run_dir, command=command)
        await servers.open()
        balancers = HaproxyBalancers(servers.network, run_dir, cloud_id)
        try:
            ip = servers.reserve_ip()
            stand = Stand(servers, balancers, str(uuid.uuid4()))
            await balancers.create(stand.nlb_id, ip)
            await balancers.put_service(stand.nlb_id, WEB)
            result = await measure(stand, ip, requests)
        finally:
            await balancers.close()
            await servers.close()
    print(json.dumps(result, indent=2))
    return 0 if result["lost"] == 0 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

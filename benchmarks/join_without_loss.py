"""
Count the requests that are lost while members join and leave a load balancer under load.

    sudo .venv/bin/python benchmarks/join_without_loss.py [REQUESTS [SPEED]]

Eight closed loops, each request on a connection of its own, go through the real balancer to real
servers. First, members that do nothing about TERM join one after the other, then leave one after
the other, until all requests are done. Then a pool of the stack's own members shrinks from 3 to 1
through the API: with both kinds of balancers, and with members that drain and that do not, at
SPEED times (5) the assignment's pace. Prints one JSON object; exit code 0 if none was lost where
members are drained by their balancer or by themselves.
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
from typing import Any

import structlog
from exoscale.api.v2 import Client

from exotide.cloud.api.world import Pace
from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.balancer_config import Manner
from exotide.cloud.daemon import Settings, opened
from exotide.cloud.directory import Entry
from exotide.cloud.firewall import OPEN
from exotide.cloud.ports import HealthCheck, ServerSpec, ServiceSpec
from exotide.cloud.servers.processes import ProcessServers
from exotide.stack import StackSettings
from exotide.stack.create import HEALTHCHECK
from exotide.stack.userdata import member_user_data

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
    """Closed loops that share a number of requests, or go on until they are told to end."""

    ip: str
    requests: int | None = None
    target: str = "/"
    port: int = 80
    served: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self.tickets = itertools.count() if self.requests is None else iter(range(self.requests))
        self.threads = [threading.Thread(target=self.loop) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def loop(self) -> None:
        for _ in self.tickets:
            if self.ended.is_set():
                return
            try:
                connection = http.client.HTTPConnection(self.ip, self.port, timeout=30)
                connection.request("GET", self.target, headers={"Connection": "close"})
                self.served[connection.getresponse().read().decode()] += 1
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


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


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """The stack's members behind a balancer on a local cloud, to be made fewer."""

    client: Any
    pool_id: str
    nlb_id: str

    @classmethod
    def create(cls, client: Any, user_data: str) -> Shrinking:
        group = done(client, client.create_security_group(name="web"))
        ports = {"start_port": 8080, "end_port": 8080, "protocol": "tcp"}
        rule = {"flow_direction": "ingress", "network": "0.0.0.0/0", **ports}
        done(client, client.add_rule_to_security_group(id=group, **rule))
        kinds = client.list_instance_types()["instance-types"]
        pool = client.create_instance_pool(
            name="web",
            size=3,
            instance_type={"id": next(kind["id"] for kind in kinds if kind["size"] == "micro")},
            template={"id": client.list_templates()["templates"][0]["id"]},
            disk_size=10,
            labels={"role": "member"},
            security_groups=[{"id": group}],
            user_data=user_data,
        )
        pool_id = done(client, pool)
        nlb_id = done(client, client.create_load_balancer(name="lb"))
        service = client.add_service_to_load_balancer(
            id=nlb_id,
            name="http",
            instance_pool={"id": pool_id},
            protocol="tcp",
            strategy="round-robin",
            port=80,
            target_port=8080,
            healthcheck=HEALTHCHECK,
        )
        done(client, service)
        return cls(client=client, pool_id=pool_id, nlb_id=nlb_id)

    def await_healthy(self, count: int) -> str:
        """Wait until the balancer has noticed, in its own time; gives its address."""
        while True:
            balancer = self.client.get_load_balancer(id=self.nlb_id)
            statuses = balancer["services"][0]["healthcheck-status"]
            if [each["status"] for each in statuses] == ["success"] * count:
                return str(balancer["ip"])
            time.sleep(0.1)

    def evict_oldest(self) -> None:
        members = self.client.get_instance_pool(id=self.pool_id)["instances"]
        oldest = [members[0]["id"]]
        evicted = self.client.evict_instance_pool_members(id=self.pool_id, instances=oldest)
        done(self.client, evicted)


def done(client: Any, operation: dict[str, Any]) -> str:
    while operation["state"] == "pending":
        time.sleep(0.05)
        operation = client.get_operation(id=operation["id"])
    if operation["state"] != "success":
        raise RuntimeError(operation)
    return str(operation["reference"]["id"])


def shrink(entry: Entry, user_data: str) -> dict[str, Any]:
    client = Client(entry.access.key, entry.access.secret, url=entry.access.endpoint)
    pool = Shrinking.create(client, user_data)
    ip = pool.await_healthy(3)
    load = Load(ip, target="/work?cpu_s=0.002", port=entry.character.http_port)
    began_s = time.monotonic()
    for left in (2, 1):
        time.sleep(1.0)
        pool.evict_oldest()
        pool.await_healthy(left)
    load.end()
    client.http_client.close()
    return {
        "served": load.served.pop("Work done.", 0),
        "lost": len(load.lost) + load.served.total(),
        "first_losses": [*load.lost, *load.served][:2],
        "took_s": round(time.monotonic() - began_s, 1),
    }


async def scale_in(balancer: Manner, drain_s: float, speed: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="exo-") as name:
        cloud = Settings(port=0, run_dir=Path(name), pace=Pace(speed=speed), balancer=balancer)
        async with opened(cloud) as entry:
            settings = StackSettings(key="EXO", secret="-", speed=speed, drain_s=drain_s)
            user_data = member_user_data(settings)
            result = await asyncio.to_thread(shrink, entry, user_data)
    return {"balancer": balancer, "drain_s": drain_s / speed} | result


async def join_and_leave(requests: int) -> dict[str, object]:
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
            return await measure(stand, ip, requests)
        finally:
            await balancers.close()
            await servers.close()


async def main() -> int:
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
    )
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    speed = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    joins = await join_and_leave(requests)
    cases: list[tuple[Manner, float]] = [
        ("attentive", 0.0),
        ("attentive", 20.0),
        ("plain", 0.0),
        ("plain", 20.0),
    ]
    shrinks = [await scale_in(balancer, drain_s, speed) for balancer, drain_s in cases]
    print(json.dumps({**joins, "speed": speed, "scale_in": shrinks}, indent=2))
    drained = [case for case in shrinks if case["balancer"] == "attentive" or case["drain_s"]]
    return 0 if joins["lost"] == 0 and not any(case["lost"] for case in drained) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

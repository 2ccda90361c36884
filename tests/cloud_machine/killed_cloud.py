"""
A cloud for tests to kill: opens, starts a server and a balancer, says so, and waits.

    python killed_cloud.py RUN_DIR CLOUD_ID STUB [loopback]
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

import structlog

from exotide.cloud.balancer import HaproxyBalancers
from exotide.cloud.firewall import OPEN
from exotide.cloud.ports import HealthCheck, ServerSpec, ServiceSpec
from exotide.cloud.servers.loopback.underlay import Loopback
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.processes import ProcessServers


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    run_dir, cloud_id = Path(sys.argv[1]), sys.argv[2]
    command = f"exec {sys.executable} -I -S {sys.argv[3]} 8080"
    underlay = Loopback(run_dir) if "loopback" in sys.argv[4:] else Namespaces(cloud_id)
    servers = ProcessServers(cloud_id=cloud_id, run_dir=run_dir, command=command, underlay=underlay)
    await servers.open()
    spec = ServerSpec(
        id=str(uuid.uuid4()),
        name="doomed",
        ip=servers.reserve_ip(),
        vcpus=1,
        memory_bytes=1 << 29,
        firewall=OPEN,
    )
    await servers.start(spec)
    balancers = HaproxyBalancers(servers.network, run_dir, cloud_id, groups=underlay.groups)
    nlb_id, nlb_ip = str(uuid.uuid4()), servers.reserve_ip()
    await balancers.create(nlb_id, nlb_ip)
    check = HealthCheck(mode="tcp", port=8080, interval_s=1.0, timeout_s=0.5, retries=1)
    service = ServiceSpec(
        id=str(uuid.uuid4()),
        name="web",
        port=80,
        target_port=8080,
        strategy="round-robin",
        protocol="tcp",
        healthcheck=check,
    )
    await balancers.put_service(nlb_id, service)
    await balancers.set_members(nlb_id, service.id, [spec.ip])
    where = f"{nlb_ip}:{servers.network.served_port(80)}"
    print("ready", where, flush=True)  # noqa: T201 - the test waits for it
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())

"""
How long one change of a rule takes until 100 servers filter by it.

Run as root from the repository: .venv/bin/python benchmarks/rule_change.py
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from exotide.cloud.api.security_groups.filtering import AT_ONCE
from exotide.cloud.firewall import Firewall, Traffic
from exotide.cloud.servers.firewall import Firewalls
from exotide.cloud.servers.network import Network
from exotide.cloud.servers.processes import ProcessServers

SERVERS = 100
ROUNDS = 5


async def change_all(firewalls: Firewalls, ids: list[str], firewall: Firewall) -> float:
    """Give the time in ms until all have the filter."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def change(server_id: str) -> None:
        async with limit:
            await firewalls.change(server_id, firewall)

    began_s = time.monotonic()
    await asyncio.gather(*map(change, ids))
    return (time.monotonic() - began_s) * 1000


async def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="exo-") as run_dir:
        servers = ProcessServers(cloud_id=uuid.uuid4().hex[:6], run_dir=Path(run_dir))
        print(json.dumps(await measure(servers), indent=2))


async def measure(servers: ProcessServers) -> dict[str, int]:
    """Make namespaces without programs, change their filters, remove them."""
    await servers.open()
    try:
        assert isinstance(servers.network, Network)
        firewalls, ids, ips = Firewalls(), [], []
        for _ in range(SERVERS):
            ids.append(str(uuid.uuid4()))
            ips.append(servers.reserve_ip())
            guard = functools.partial(firewalls.raise_in, ids[-1])
            await servers.network.attach(ids[-1], ips[-1], guard=guard)
        members = tuple(f"{ip}/32" for ip in ips)
        times_ms = [
            await change_all(
                firewalls,
                ids,
                Firewall(ingress=(Traffic(protocol="tcp", ports=(1, last), networks=members),)),
            )
            for last in range(1, ROUNDS + 1)
        ]
        one_ms = [await change_all(firewalls, ids[:1], Firewall()) for _ in range(ROUNDS)]
    finally:
        await servers.close()
    return {
        "servers": SERVERS,
        "all_median_ms": round(statistics.median(times_ms)),
        "one_median_ms": round(statistics.median(one_ms)),
    }


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("error: servers need root for their namespaces")
    asyncio.run(main())

"""
A large local cloud: memory and list latency with 200 servers, and how fast servers are made.

Run: python benchmarks/cloud_scale.py [processes]

Without a word: `exotide cloud --servers none`, 5 pools of 40 members each. With `processes` (as
root): one pool of 40 real servers. The cloud runs in a process of its own, as users start it.
"""

from __future__ import annotations

import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.directory import Entry, living

POOLS, MEMBERS, READS = 5, 40, 200
GOAL_MB = 150
USER_DATA = b64encode(b"#cloud-config\n" + b"# as long as a real one\n" * 100).decode()


@contextmanager
def running(*options: str) -> Iterator[Entry]:
    """Start a cloud by its command; end it by TERM."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        command = [sys.executable, "-c", "from exotide.cli import main; main()", "cloud"]
        words = ["--port", "0", "--run-dir", folder, "--quota.instance", "250", *options]
        with subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (found,) = living(Path(folder))
            try:
                yield found
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


class Client:
    """One kept connection that signs."""

    def __init__(self, cloud: Entry) -> None:
        self._access = cloud.access
        self._connection = http.client.HTTPConnection("127.0.0.1", cloud.access.port)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send one request and give the answer."""
        sent = b"" if body is None else json.dumps(body).encode()
        path, expires = f"/v2{path}", str(int(time.time()) + 600)
        request = SignedRequest(method=method, path=path, body=sent)
        signature = sign(request, secret=self._access.secret, query_args=(), expires=expires)
        credential = f"credential={self._access.key},expires={expires},signature={signature}"
        headers = {"Authorization": f"EXO2-HMAC-SHA256 {credential}"}
        self._connection.request(method, path, body=sent or None, headers=headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        assert answer.status == 200, content
        return content

    def pool(self, name: str, size: int, **more: object) -> str:
        """Order a pool; give its operation."""
        template = next(key for key, each in TEMPLATES.items() if each.zone == self._access.zone)
        order = {
            "name": name,
            "size": size,
            "instance-type": {"id": next(iter(INSTANCE_TYPES))},
            "template": {"id": template},
            "disk-size": 10,
            **more,
        }
        return str(self.ask("POST", "/instance-pool", order)["id"])

    def wait(self, operation: str) -> None:
        """Look 50 times a second until the operation has succeeded."""
        while (shown := self.ask("GET", f"/operation/{operation}"))["state"] == "pending":
            time.sleep(0.02)
        assert shown["state"] == "success", shown


def resident_mb(pid: int) -> float:
    """Memory of a process in MB of a million bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


def latency_ms(client: Client, path: str) -> dict[str, float]:
    """Time many reads of one path."""
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        client.ask("GET", path)
        took.append((time.perf_counter() - began) * 1000)
    return {"p50": round(statistics.median(took), 1), "p99": round(sorted(took)[-3], 1)}


def many() -> dict[str, object]:
    """Measure a cloud of 200 emulated servers."""
    with running("--servers", "none") as cloud:
        client = Client(cloud)
        empty_mb = resident_mb(cloud.pid)
        for number in range(POOLS):
            client.wait(client.pool(f"pool-{number}", MEMBERS, **{"user-data": USER_DATA}))
        listed = len(client.ask("GET", "/instance")["instances"])
        instances = latency_ms(client, "/instance")
        pools = latency_ms(client, "/instance-pool")
        full_mb = resident_mb(cloud.pid)
    return {
        "servers": listed,
        "memory_mb": {"empty": round(empty_mb, 1), "full": round(full_mb, 1), "goal": GOAL_MB},
        "goal_reached": full_mb < GOAL_MB,
        "list_instances_ms": instances,
        "list_instance_pools_ms": pools,
    }


def real() -> dict[str, object]:
    """Measure how fast real servers are made and removed."""
    with running("--vcpu-cores", "0.02") as cloud:
        client = Client(cloud)
        began = time.perf_counter()
        client.wait(client.pool("web", MEMBERS, labels={"role": "member"}))
        made_s = time.perf_counter() - began
        (pool,) = client.ask("GET", "/instance-pool")["instance-pools"]
        began = time.perf_counter()
        client.wait(client.ask("DELETE", f"/instance-pool/{pool['id']}")["id"])
        removed_s = time.perf_counter() - began
    return {
        "servers": MEMBERS,
        "made_per_s": round(MEMBERS / made_s, 1),
        "removed_per_s": round(MEMBERS / removed_s, 1),
    }


def main() -> None:
    """Print the figures as JSON."""
    figures = real() if sys.argv[1:] == ["processes"] else many()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

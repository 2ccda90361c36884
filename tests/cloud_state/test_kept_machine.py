"""Real servers outlive their cloud, killed or ended, and the next start adopts them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from exoscale.api.v2 import Client

from exotide.cloud.directory import Entry, living, resting
from tests.sdk import done

EXOTIDE = [sys.executable, "-c", "from exotide.cli import main; main()", "cloud"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: servers need root; run as root"),
]
RULES: list[dict[str, Any]] = [
    {"flow_direction": "ingress", "protocol": "tcp", "start_port": 1, "end_port": 65535}
    | {"network": "0.0.0.0/0"}
]


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Look at 20 Hz: other processes tell nobody when they are done."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


class Kept:
    """A cloud on one state folder, started and ended as a user does."""

    def __init__(self, folder: Path) -> None:
        self.run_dir, self.state = folder / "run", folder / "state"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Entry:
        words = ["--port", "0", "--run-dir", str(self.run_dir), "--state", str(self.state)]
        options = ["--vcpu-cores", "0.1", "--servers", "processes", "--ca-dir"]
        ca = str(self.run_dir.parent / "ca")
        with (self.run_dir.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*EXOTIDE, *words, *options, ca], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "is ready" in line, (self.run_dir.parent / "log").read_text()[-3000:]
        (found,) = living(self.run_dir)
        return found

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def down(self) -> subprocess.CompletedProcess[str]:
        words = ["down", "--run-dir", str(self.run_dir), "--state", str(self.state)]
        return subprocess.run(
            [*EXOTIDE, *words], check=False, capture_output=True, text=True, timeout=60
        )

    def pid_1(self, instance: str) -> int:
        """The process of the host that holds a server's PID 1."""
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.pids(instance)}
        (found,) = (pid for pid, line in lines.items() if b"unshare\0" in line)
        return found

    def pids(self, instance: str) -> list[int]:
        group, *_ = Path("/sys/fs/cgroup").glob(f"cpu*/exotide-*/{instance[:8]}")
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A short path, since Unix sockets lie below."""
    folder = Path(tempfile.mkdtemp(prefix="exo-"))
    cloud = Kept(folder)
    yield cloud
    cloud.end(signal.SIGKILL)
    if cloud.state.exists():
        cloud.down()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def client_of(cloud: Entry) -> Iterator[Any]:
    client = Client(cloud.access.key, cloud.access.secret, url=cloud.access.endpoint)
    yield client
    client.http_client.close()


def make_stack(client: Any, size: int) -> tuple[str, str]:
    """A pool of members behind a balancer; gives the pool and the balancer's address."""
    group = done(client, client.create_security_group(name="open"))
    for rule in RULES:
        done(client, client.add_rule_to_security_group(id=group, **rule))
    types = client.list_instance_types()["instance-types"]
    micro = next(kind["id"] for kind in types if kind["size"] == "micro")
    pool = done(
        client,
        client.create_instance_pool(
            name="web",
            size=size,
            instance_type={"id": micro},
            template={"id": client.list_templates()["templates"][0]["id"]},
            disk_size=10,
            labels={"role": "member"},
            security_groups=[{"id": group}],
        ),
    )
    nlb = done(client, client.create_load_balancer(name="lb"))
    added = client.add_service_to_load_balancer(
        id=nlb,
        name="http",
        instance_pool={"id": pool},
        protocol="tcp",
        strategy="round-robin",
        port=80,
        target_port=8080,
        healthcheck={"mode": "http", "port": 8080, "uri": "/health", "interval": 5},
    )
    done(client, added)
    ip = client.get_load_balancer(id=nlb)["ip"]
    until(lambda: statuses(client, nlb) == ["success"] * size)
    return pool, ip


def statuses(client: Any, nlb: str) -> list[str]:
    (service,) = client.get_load_balancer(id=nlb)["services"]
    return [each["status"] for each in service["healthcheck-status"]]


class Traffic:
    """One request after the other, each on a connection of its own."""

    def __init__(self, ip: str) -> None:
        self.good, self.bad = 0, list[str]()
        self._url, self._end = f"http://{ip}/health", threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def await_more(self, count: int) -> None:
        served = self.good
        until(lambda: self.good > served + count)

    def _run(self) -> None:
        while not self._end.wait(0.01):
            try:
                with urllib.request.urlopen(self._url, timeout=5) as answer:
                    answer.read()
                self.good += 1
            except OSError as error:
                self.bad.append(repr(error))


def members(client: Any, pool: str) -> list[str]:
    return [each["id"] for each in client.get_instance_pool(id=pool)["instances"]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_members_serve_on_without_their_cloud_and_are_adopted_as_they_are(
    kept: Kept, number: signal.Signals
) -> None:
    first = kept.start()
    with client_of(first) as client:
        pool, ip = make_stack(client, 2)
        before = client.get_instance_pool(id=pool)
        balancers = client.list_load_balancers()
        pids = {member: kept.pid_1(member) for member in members(client, pool)}
    with Traffic(ip) as traffic:
        kept.end(number)
        served = traffic.good
        until(lambda: traffic.good > served + 50)
        assert resting(kept.run_dir) == [(first.cloud_id, kept.state)]
        second = kept.start()
        served = traffic.good
        until(lambda: traffic.good > served + 50)
    assert traffic.bad == []
    assert second.access == first.access
    assert (second.cloud_id, second.fabric_ip) == (first.cloud_id, first.fabric_ip)
    with client_of(second) as client:
        assert client.get_instance_pool(id=pool) == before
        until(lambda: client.list_load_balancers() == balancers)
        assert {member: kept.pid_1(member) for member in members(client, pool)} == pids
        exporter = f"http://{client.get_instance(id=next(iter(pids)))['public-ip']}:9100/metrics"
        until(lambda: "node_cpu_seconds_total" in fetched(exporter))
        done(client, client.scale_instance_pool(id=pool, size=3))
        assert members(client, pool)[:2] == list(pids)
        done(client, client.scale_instance_pool(id=pool, size=1))
        # Adopted servers are children of the host's first process, which buries them in its time.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()))


def test_an_adopted_balancer_that_dies_takes_along_only_what_it_had_in_hand(kept: Kept) -> None:
    with client_of(kept.start()) as client:
        _, ip = make_stack(client, 1)
        (nlb,) = client.list_load_balancers()["load-balancers"]
    kept.end(signal.SIGKILL)
    kept.start()
    with Traffic(ip) as traffic:
        for _ in range(3):
            (haproxy,) = kept.pids(nlb["id"])
            os.kill(haproxy, signal.SIGKILL)
            traffic.await_more(20)
    assert len(traffic.bad) <= 3
    assert not any("refused" in each for each in traffic.bad)


def test_a_balancer_with_another_configuration_hands_its_port_to_a_fresh_one(kept: Kept) -> None:
    with client_of(kept.start()) as client:
        pool, ip = make_stack(client, 2)
        (nlb,) = client.list_load_balancers()["load-balancers"]
    with Traffic(ip) as traffic:
        kept.end(signal.SIGKILL)
        (config,) = kept.run_dir.glob(f"*/nlb-{nlb['id'][:8]}/*.cfg")
        (before,) = kept.pids(nlb["id"])
        # As if the cloud had been killed between the order to change the service and the change.
        config.write_text(config.read_text().replace("timeout client 10m", "timeout client 9m"))
        with client_of(kept.start()) as client:
            until(lambda: statuses(client, nlb["id"]) == ["success"] * 2)
            until(lambda: before not in kept.pids(nlb["id"]))
            served = traffic.good
            until(lambda: traffic.good > served + 50)
            assert client.get_instance_pool(id=pool)["size"] == 2
    assert traffic.bad == []


def fetched(url: str) -> str:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return str(answer.read().decode())
    return ""


def test_while_no_cloud_lives_the_exporter_fails_and_its_counters_go_on_after(kept: Kept) -> None:
    cloud = kept.start()
    with client_of(cloud) as client:
        pool, _ = make_stack(client, 1)
        (member,) = members(client, pool)
        exporter = f"http://{client.get_instance(id=member)['public-ip']}:9100/metrics"
    until(lambda: seconds(exporter) > 0)
    before = seconds(exporter)
    kept.end(signal.SIGKILL)
    until(lambda: seconds(exporter) == 0)
    kept.start()
    until(lambda: seconds(exporter) > 0)
    assert seconds(exporter) > before


def seconds(exporter: str) -> float:
    """CPU seconds of all modes; 0 if it does not tell."""
    lines = fetched(exporter).splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("node_cpu_seconds"))


def test_a_member_killed_meanwhile_is_replaced_and_a_reused_number_is_not_taken_for_it(
    kept: Kept,
) -> None:
    with client_of(kept.start()) as client:
        pool, ip = make_stack(client, 2)
        lost, other = members(client, pool)
    kept.end(signal.SIGKILL)
    os.kill(kept.pid_1(lost), signal.SIGKILL)
    until(lambda: kept.pids(lost) == [])
    # As if the number had been given out again, to somebody else.
    (record,) = kept.run_dir.glob(f"*/{lost[:8]}/pid-1.json")
    record.write_text(f'{{"pid": {os.getpid()}, "began": ["boot", 1]}}')
    with client_of(kept.start()) as client:
        until(lambda: client.get_instance_pool(id=pool)["size"] == 2)
        until(
            lambda: all(
                client.get_instance(id=each)["state"] == "running" for each in members(client, pool)
            )
        )
        fresh = members(client, pool)
        assert fresh[0] == other
        assert lost not in fresh
        until(lambda: fetched(f"http://{ip}/health") != "")
    assert not list(kept.run_dir.glob(f"*/{lost[:8]}"))


@pytest.mark.parametrize("runs", [True, False])
def test_down_takes_the_servers_and_the_state_whether_the_cloud_runs_or_rests(
    kept: Kept, runs: bool
) -> None:
    cloud = kept.start()
    with client_of(cloud) as client:
        make_stack(client, 1)
    if not runs:
        kept.end(signal.SIGTERM)
    ended = kept.down()
    assert ended.stdout == f"cloud {cloud.cloud_id} is gone\n", ended.stderr
    if runs:
        kept.end(signal.SIGTERM)
    assert not kept.state.exists()
    assert living(kept.run_dir) == []
    assert resting(kept.run_dir) == []
    assert not list(Path("/run/netns").glob(f"exotide-{cloud.cloud_id}*"))
    assert not list(Path("/sys/fs/cgroup").glob(f"cpu*/exotide-{cloud.cloud_id}"))

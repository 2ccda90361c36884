"""Machines: each boots Debian and runs its user-data with cloud-init; driven as a user would."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from exoscale.api.v2 import Client

# The first test of a host builds the root file system, which takes a minute or two.
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

T = TypeVar("T")
ZONE = "at-vie-1"
EXOTIDE = str(Path(sys.executable).with_name("exotide"))
BUILD_WITHIN_S = 400.0
BURN = "systemd-run --quiet sh -c 'while :; do :; done'"
WEB = "systemd-run --quiet --unit=web /usr/bin/python3 -m http.server 8080"


def eventually(look: Callable[[], T | None], *, within_s: float, what: str) -> T:
    """Machines boot in real time: look four times a second."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if (found := look()) is not None:
            return found
        time.sleep(0.25)
    pytest.fail(f"{what} did not happen within {within_s:g} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


@dataclass(kw_only=True)
class Cloud:
    """`exotide cloud --servers machines` in a process of its own."""

    process: subprocess.Popen[bytes]
    run_dir: Path
    cloud_id: str
    client: Client
    fabric_ip: str

    def create(self, name: str, cloud_config: str = "#cloud-config\n") -> Machine:
        """Start a server that is open to all; returns when the API says `running`."""
        types = self.client.list_instance_types()["instance-types"]
        template = self.client.list_templates(visibility="public")["templates"][0]
        operation = self.client.create_instance(
            name=name,
            instance_type={"id": next(t["id"] for t in types if t["size"] == "micro")},
            template={"id": template["id"]},
            disk_size=10,
            security_groups=[{"id": self._open_group()}],
            user_data=base64.b64encode(cloud_config.encode()).decode(),
        )
        done = self.client.wait(operation["id"])
        return Machine(cloud=self, id=done["reference"]["id"])

    def _open_group(self) -> str:
        groups = self.client.list_security_groups()["security-groups"]
        for group in groups:
            if group["name"] == "open":
                return str(group["id"])
        made = self.client.wait(self.client.create_security_group(name="open")["id"])
        group_id = str(made["reference"]["id"])
        rule = self.client.add_rule_to_security_group(
            id=group_id,
            flow_direction="ingress",
            protocol="tcp",
            network="0.0.0.0/0",
            start_port=1,
            end_port=65535,
        )
        self.client.wait(rule["id"])
        return group_id


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One server, seen by the API and from the host."""

    cloud: Cloud
    id: str

    def shown(self) -> dict[str, Any]:
        return dict(self.cloud.client.get_instance(id=self.id))

    @property
    def ip(self) -> str:
        return str(self.shown()["public-ip"])

    def pid_1(self) -> int | None:
        """The host's number of the machine's first process, once that is systemd."""
        group = f"exotide-{self.cloud.cloud_id}/{self.id[:8]}"
        files = [*Path("/sys/fs/cgroup").glob(f"cpu*/{group}/cgroup.procs")]
        files += [*Path("/sys/fs/cgroup").glob(f"{group}/**/cgroup.procs")]
        for pid in {int(word) for file in files for word in file.read_text().split()}:
            lines = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            if lines["Name"] == "systemd" and lines["NSpid"].split()[-1:] == ["1"]:
                return pid
        return None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        first = eventually(self.pid_1, within_s=20, what="the machine's PID 1")
        return subprocess.run(
            ("nsenter", f"--target={first}", "--all", "--", *command),
            check=False,
            capture_output=True,
            text=True,
        )

    def finished(self) -> dict[str, Any]:
        """Wait for the end of cloud-init and give its own account."""

        def look() -> dict[str, Any] | None:
            done = self.run("cat", "/run/cloud-init/result.json")
            return dict(json.loads(done.stdout)["v1"]) if done.returncode == 0 else None

        return eventually(look, within_s=60, what="the end of cloud-init")

    def delete(self) -> None:
        self.cloud.client.wait(self.cloud.client.delete_instance(id=self.id)["id"])


Begin = Callable[..., Cloud]


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    """Starts clouds; kills those that still run in the end, and lets one sweep up."""
    made: list[Cloud] = []
    run_dir = Path(tempfile.mkdtemp(prefix="exo-"))

    def start(*arguments: str, folder: Path = run_dir) -> Cloud:
        port = free_port()
        with (run_dir / f"{port}.log").open("wb") as log:
            process = subprocess.Popen(
                (
                    *(EXOTIDE, "cloud", "--servers", "machines"),
                    *("--port", str(port), "--run-dir", str(folder), *arguments),
                ),
                stdout=log,
                stderr=log,
                cwd="/",
            )
        cloud = eventually(
            lambda: _running(process, folder, port, run_dir / f"{port}.log"),
            within_s=BUILD_WITHIN_S,
            what="the start of a cloud",
        )
        made.append(cloud)
        return cloud

    yield start
    for cloud in made:
        if cloud.process.poll() is None:
            cloud.process.send_signal(signal.SIGTERM)
            assert cloud.process.wait(60) == 0
    shutil.rmtree(run_dir, ignore_errors=True)


def _running(process: subprocess.Popen[bytes], run_dir: Path, port: int, log: Path) -> Cloud | None:
    assert process.poll() is None, log.read_text()
    for file in run_dir.glob("*/cloud.json"):
        said = json.loads(file.read_text())
        if said["port"] == port:
            return Cloud(
                process=process,
                run_dir=run_dir,
                cloud_id=file.parent.name,
                client=Client(
                    said["key"], said["secret"], url=f"http://127.0.0.1:{port}/z/{ZONE}/v2"
                ),
                fabric_ip=said["fabric_ip"],
            )
    return None


@pytest.fixture(scope="module")
def cloud(begin: Begin) -> Cloud:
    return begin()


def test_a_machine_runs_its_user_data_with_real_cloud_init(cloud: Cloud) -> None:
    machine = cloud.create(
        "first",
        "#cloud-config\n"
        "write_files: [{path: /opt/note, content: hello, permissions: '0640'}]\n"
        f"runcmd: [{WEB}]\n",
    )
    assert machine.finished()["errors"] == []
    assert machine.run("cloud-init", "schema", "--system").returncode == 0
    assert machine.run("stat", "-c", "%a %s", "/opt/note").stdout == "640 5\n"
    assert machine.run("hostname").stdout.strip() == "first"
    eventually(lambda: fetch(f"http://{machine.ip}:8080/"), within_s=10, what="the web server")
    shown = machine.run("cloud-init", "query", "ds.meta_data")
    assert machine.id in shown.stdout
    machine.delete()


def test_user_data_that_fails_is_told_by_cloud_init(cloud: Cloud) -> None:
    machine = cloud.create("failing", "#cloud-config\nruncmd: ['exit 3']\n")
    (error,) = machine.finished()["errors"]
    assert "scripts" in error.lower()
    status = machine.run("cloud-init", "status", "--long")
    assert "status: error" in status.stdout
    assert status.returncode == 1
    machine.delete()


def test_a_machine_is_limited_once_it_is_set_up_and_its_exporter_tells_the_truth(
    cloud: Cloud,
) -> None:
    machine = cloud.create(
        "busy",
        f"#cloud-config\nruncmd: [systemctl start prometheus-node-exporter, {BURN}]\n",
    )
    machine.finished()
    group = f"exotide-{cloud.cloud_id}/{machine.id[:8]}"

    def quota() -> float | None:
        for file in Path("/sys/fs/cgroup").glob(f"cpu*/{group}/cpu.cfs_quota_us"):
            value = int(file.read_text())
            return value / 100_000 if value > 0 else None
        for file in Path("/sys/fs/cgroup").glob(f"{group}/cpu.max"):
            word = file.read_text().split()[0]
            return None if word == "max" else int(word) / 100_000
        return None

    cores = eventually(quota, within_s=5, what="the CPU limit")
    assert 0 < cores < 1

    def idle_s() -> float:
        text = eventually(
            lambda: fetch(f"http://{machine.ip}:9100/metrics"), within_s=20, what="metrics"
        )
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("node_cpu_seconds_total") and 'mode="idle"' in line
        )

    before_s, began_s = idle_s(), time.monotonic()
    time.sleep(6)  # a rate needs a window, and here it is the window that is tested
    idle = (idle_s() - before_s) / (time.monotonic() - began_s)
    assert idle < 0.1, "a machine that burns all it has is not idle"
    assert machine.run("cat", "/run/vproc/uptime").stdout.split()[0] != "0"
    machine.delete()


@pytest.mark.parametrize("by", ["API", "itself"])
def test_a_reboot_keeps_disk_and_address_and_runs_no_user_data_again(cloud: Cloud, by: str) -> None:
    machine = cloud.create("again", "#cloud-config\nruncmd: ['echo x >> /root/runs']\n")
    machine.finished()
    machine.run("sh", "-c", "echo kept > /root/disk")
    first, ip = machine.pid_1(), machine.ip
    if by == "API":
        cloud.client.wait(cloud.client.reboot_instance(id=machine.id)["id"])
    else:
        machine.run("systemctl", "reboot")
    eventually(
        lambda: machine.pid_1() not in {None, first} or None, within_s=30, what="another PID 1"
    )
    machine.finished()
    assert machine.run("cat", "/root/disk", "/root/runs").stdout == "kept\nx\n"
    assert (machine.ip, machine.shown()["state"]) == (ip, "running")
    machine.delete()


def test_a_machine_can_crash_freeze_and_thaw(cloud: Cloud) -> None:
    machine = cloud.create("broken", f"#cloud-config\nruncmd: [{WEB}]\n")
    url = f"http://{machine.ip}:8080/"
    eventually(lambda: fetch(url), within_s=20, what="the web server")

    def control(*words: str) -> None:
        subprocess.run(
            (
                *(EXOTIDE, "cloud", *words),
                *("--run-dir", str(cloud.run_dir)),
            ),
            check=True,
            capture_output=True,
        )

    control("hang", machine.id)
    assert fetch(url) is None
    control("resume", machine.id)
    assert eventually(lambda: fetch(url), within_s=5, what="an answer after the thaw")
    control("kill", machine.id)
    eventually(
        lambda: machine.shown()["state"] == "stopped" or None,
        within_s=10,
        what="the end in the API",
    )
    machine.delete()


def test_nothing_is_left_of_a_deleted_machine(cloud: Cloud) -> None:
    machine = cloud.create("gone")
    machine.finished()
    assert traces(machine.id[:8])
    machine.delete()
    assert traces(machine.id[:8]) == []


def test_a_killed_cloud_leaves_nothing_after_the_next_start(begin: Begin, tmp_path: Path) -> None:
    doomed = begin(folder=tmp_path)
    machine = doomed.create("orphan")
    first = eventually(machine.pid_1, within_s=20, what="PID 1")
    doomed.process.send_signal(signal.SIGKILL)
    doomed.process.wait()
    eventually(
        lambda: not Path(f"/proc/{first}").exists() or None, within_s=5, what="the machine's end"
    )
    after = begin(folder=tmp_path)
    assert traces(doomed.cloud_id) == []
    after.process.send_signal(signal.SIGTERM)
    assert after.process.wait(30) == 0
    assert traces(after.cloud_id) == []


def traces(mark: str) -> list[str]:
    """Everything on this host that carries the mark."""
    found = [str(path) for path in Path("/run/netns").glob(f"*{mark}*")]
    found += [str(path) for path in Path("/sys/class/net").glob(f"*{mark}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{mark}*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if mark in line]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in words and "pytest" not in words:
            found.append(words)
    return found

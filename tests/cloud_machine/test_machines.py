"""Machines: each boots Debian and runs its user-data with cloud-init; driven as a user would."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from exotide.cloud.servers.cage import FIRST_ID, IDS
from tests.machines.site import EXOTIDE, Begin, Cloud, clouds, eventually, fetch, traces

# The first test of a host builds the root file system, which takes a minute or two.
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

BURN = "systemd-run --quiet sh -c 'while :; do :; done'"
WEB = "systemd-run --quiet --unit=web /usr/bin/python3 -m http.server 8080"


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    with clouds() as begin:
        yield begin


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


HARMLESS = {
    "change a file of the host",  # it makes one of its own, under the same name
    "make a network",
    "make the file system writable",
}
"""What a machine's root may do to the machine."""


def test_no_attack_from_inside_a_machine_gets_out(cloud: Cloud) -> None:
    attacker = b64encode(Path(__file__).with_name("attacker.py").read_bytes()).decode()
    machine = cloud.create(
        "hostile",
        "#cloud-config\n"
        f"write_files: [{{path: /root/attacker.py, encoding: b64, content: {attacker}}}]\n",
    )
    machine.finished()
    secret = Path("/etc") / f"exotide-test-{uuid.uuid4().hex[:8]}"
    secret.touch(mode=0o600)
    secret.write_text("secret of the host")
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    try:
        machine.run("python3", "/root/attacker.py", "/root/told", str(secret), "/run/none.sock")
        told = json.loads(machine.run("cat", "/root/told").stdout)
        assert secret.read_text() == "secret of the host"
    finally:
        secret.unlink()
    assert told.pop("user") == "0"
    assert {name for name, how in told.items() if how == "DONE"} <= HARMLESS
    assert len(told) > 20
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    users = Path(f"/proc/{machine.pid_1()}/uid_map").read_text().split()
    assert users == ["0", str(FIRST_ID), str(IDS)]
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
        cloud.change("reboot_instance", id=machine.id)
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

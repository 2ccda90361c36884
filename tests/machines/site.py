"""`exotide cloud --servers machines` as a process, and its servers seen from the host."""

from __future__ import annotations

import base64
import gzip
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from exoscale.api.v2 import Client

T = TypeVar("T")
ZONE = "at-vie-1"
EXOTIDE = str(Path(sys.executable).with_name("exotide"))
PLAIN_BYTES = 24_576
"""User-data may be longer only when it is zipped."""
BUILD_WITHIN_S = 400.0
"""The first start on a host makes the root file system, which takes a minute or two."""


def eventually(
    look: Callable[[], T | None], *, within_s: float, what: str, pause_s: float = 0.25
) -> T:
    """Machines boot in real time: look four times a second."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if (found := look()) is not None:
            return found
        time.sleep(pause_s)
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
    fabric_ip: str
    port: int
    key: str
    secret: str = field(repr=False)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.key, self.secret, url=self.url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/z/{ZONE}/v2"

    @property
    def agent_url(self) -> str:
        """The API as servers reach it."""
        return f"http://{self.fabric_ip}:{self.port}/z/{ZONE}/v2"

    def change(self, operation: str, **arguments: Any) -> str:
        """Carry out an operation and give the id of what it was about; the SDK asks each 3 s."""
        started = getattr(self.client, operation)(**arguments)
        ended = eventually(
            lambda: self._ended(started["id"]), within_s=60, what=operation, pause_s=0.05
        )
        assert ended["state"] == "success", ended
        return str(ended["reference"]["id"])

    def _ended(self, operation_id: str) -> dict[str, Any] | None:
        operation = self.client.get_operation(id=operation_id)
        return None if operation["state"] == "pending" else dict(operation)

    def end(self) -> None:
        """End it as Ctrl-C would; its own sweep is judged by its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0

    def create(self, name: str, cloud_config: str = "#cloud-config\n") -> Machine:
        """Start a server that is open to all; returns when the API says `running`."""
        data = cloud_config.encode()
        if len(data) > PLAIN_BYTES:
            data = gzip.compress(data)
        types = self.client.list_instance_types()["instance-types"]
        template = self.client.list_templates(visibility="public")["templates"][0]
        made = self.change(
            "create_instance",
            name=name,
            instance_type={"id": next(t["id"] for t in types if t["size"] == "micro")},
            template={"id": template["id"]},
            disk_size=10,
            security_groups=[{"id": self._open_group()}],
            user_data=base64.b64encode(data).decode(),
        )
        return Machine(cloud=self, id=made)

    def _open_group(self) -> str:
        groups = self.client.list_security_groups()["security-groups"]
        for group in groups:
            if group["name"] == "open":
                return str(group["id"])
        group_id = self.change("create_security_group", name="open")
        self.change(
            "add_rule_to_security_group",
            id=group_id,
            flow_direction="ingress",
            protocol="tcp",
            network="0.0.0.0/0",
            start_port=1,
            end_port=65535,
        )
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
            lines = status_of(pid)
            if lines.get("Name") == "systemd" and lines["NSpid"].split()[-1:] == ["1"]:
                return pid
        return None

    @property
    def disk(self) -> Path:
        """Everything that is on its disk beside the root file system of all machines."""
        return self.cloud.run_dir / self.cloud.cloud_id / self.id[:8] / "up"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        first = eventually(self.pid_1, within_s=20, what="the machine's PID 1")
        return subprocess.run(
            ("nsenter", f"--target={first}", "--all", "--", *command),
            check=False,
            capture_output=True,
            text=True,
        )

    def says(self, *command: str) -> str:
        """Run a command inside that must succeed; gives what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self) -> Iterator[Path]:
        """The folder in /proc of each of its processes, as the host sees them."""
        first = eventually(self.pid_1, within_s=20, what="the machine's PID 1")
        space = Path(f"/proc/{first}/ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns/pid").readlink() == space:
                    yield folder

    def finished(self) -> dict[str, Any]:
        """Wait for the end of cloud-init and give its own account."""

        def look() -> dict[str, Any] | None:
            done = self.run("cat", "/run/cloud-init/result.json")
            return dict(json.loads(done.stdout)["v1"]) if done.returncode == 0 else None

        return eventually(look, within_s=60, what="the end of cloud-init")

    def delete(self) -> None:
        self.cloud.change("delete_instance", id=self.id)


Begin: TypeAlias = "Callable[..., Cloud]"


@contextmanager
def clouds() -> Iterator[Begin]:
    """Starts clouds; ends those that still run in the end."""
    made: list[Cloud] = []
    started: list[subprocess.Popen[bytes]] = []
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
        started.append(process)
        cloud = eventually(
            lambda: _running(process, folder, port, run_dir / f"{port}.log"),
            within_s=BUILD_WITHIN_S,
            what="the start of a cloud",
        )
        made.append(cloud)
        return cloud

    try:
        yield start
    finally:
        for cloud in made:
            cloud.end()
        for process in started:
            if process.poll() is None:  # one that never was ready
                process.kill()
                process.wait()
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
                fabric_ip=said["fabric_ip"],
                port=port,
                key=said["key"],
                secret=said["secret"],
            )
    return None


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status by field; nothing of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


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

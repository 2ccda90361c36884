"""What the tests of the machine half share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from exotide.cloud.firewall import OPEN, Firewall
from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers.loopback.underlay import Loopback
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.underlay import Underlay


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("NOT TESTED: network namespaces and control groups need root; run as root")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path, since Unix sockets lie below."""
    path = Path(tempfile.mkdtemp(prefix="exo-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def cloud_id() -> str:
    return uuid.uuid4().hex[:6]


@pytest.fixture
def driver() -> str:
    """What servers are made of; modules that hold for several drivers give others."""
    return "processes"


Stand = Callable[[str], Underlay]


@pytest.fixture
def underlay(driver: str, run_dir: Path) -> Stand:
    """Makes what servers stand on, by the cloud's id."""
    made: dict[str, Stand] = {
        "processes": Namespaces,
        "loopback": lambda _: Loopback(run_dir),
        "shared": lambda _: Loopback(run_dir, own_mounts=False),
    }
    return made[driver]


@pytest.fixture
async def servers(run_dir: Path, cloud_id: str, underlay: Stand) -> AsyncIterator[ProcessServers]:
    """An open cloud without a server; two cores give each member 0.2."""
    opened = ProcessServers(
        cloud_id=cloud_id, run_dir=run_dir, cores_per_vcpu=0.2, underlay=underlay(cloud_id)
    )
    await opened.open()
    yield opened
    await opened.close(grace_s=0.5)


class Tools:
    """What tests do again and again; a class, since test modules cannot import each other."""

    stub = Path(__file__).with_name("stub_app.py")

    def spec(
        self,
        servers: ProcessServers,
        *,
        role: str | None = None,
        user_data: bytes = b"",
        boot_delay_s: float = 0.0,
        firewall: Firewall = OPEN,
    ) -> ServerSpec:
        """One small server with an address of its own, open to all."""
        identifier = str(uuid.uuid4())
        return ServerSpec(
            id=identifier,
            name=f"pool-{identifier[:4]}",
            ip=servers.reserve_ip(),
            vcpus=1,
            memory_bytes=512 << 20,
            labels={"role": role} if role else {},
            user_data=user_data,
            boot_delay_s=boot_delay_s,
            firewall=firewall,
        )

    def fetch(self, url: str, timeout_s: float = 2.0) -> str:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return str(answer.read().decode())

    def answers(self, url: str) -> bool:
        try:
            self.fetch(url)
        except OSError:
            return False
        return True

    def names(self, folder: Path) -> list[str]:
        return [entry.name for entry in folder.iterdir()]

    def traces(self, cloud_id: str, run_dir: Path) -> list[str]:
        """Everything on this host that carries the cloud's id."""
        folders = (Path("/run/netns"), Path("/sys/class/net"), run_dir)
        found = [
            f"{folder}/{name}"
            for folder in folders
            if folder.exists()
            for name in self.names(folder)
            if cloud_id in name
        ]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/exotide-{cloud_id}*")]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"exotide-{cloud_id}*")]
        return found + [line for line in self.processes() if f"/{cloud_id}/" in line]

    def processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found

    async def eventually(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        """Look at 50 Hz, in a thread, since the condition may ask over the network."""
        deadline_s = time.monotonic() + within_s
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline_s, f"not within {within_s} s"
            await asyncio.sleep(0.02)


@pytest.fixture
def tools() -> Tools:
    return Tools()

"""What the tests of the machine half share."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers.processes import ProcessServers

STUB = Path(__file__).with_name("stub_app.py")


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
async def servers(run_dir: Path, cloud_id: str) -> AsyncIterator[ProcessServers]:
    """An open cloud without a server; two cores give each member 0.2."""
    opened = ProcessServers(cloud_id=cloud_id, run_dir=run_dir, cores_per_vcpu=0.2)
    await opened.open()
    yield opened
    await opened.close(grace_s=0.5)


def spec(
    servers: ProcessServers,
    *,
    role: str | None = None,
    user_data: bytes = b"",
    boot_delay_s: float = 0.0,
) -> ServerSpec:
    """One small server with an address of its own."""
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
    )


def fetch(url: str, timeout_s: float = 2.0) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return str(answer.read().decode())


def answers(url: str) -> bool:
    try:
        fetch(url)
    except (urllib.error.URLError, OSError):
        return False
    return True


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Look at 50 Hz, in a thread, since the condition may ask over the network."""
    deadline_s = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline_s, f"not within {within_s} s"
        await asyncio.sleep(0.02)

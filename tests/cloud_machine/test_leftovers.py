"""A cloud killed at any moment is removed by the next start; nobody else is touched."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exotide.cloud.servers import cgroups, leftovers
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.processes import ProcessServers

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.root, pytest.mark.anyio]

CLOUD = Path(__file__).with_name("killed_cloud.py")


class Doomed:
    """A cloud in a process of its own, killed at the end of the test at the latest."""

    def __init__(self, run_dir: Path, tools: Tools, cloud_id: str) -> None:
        self.cloud_id = cloud_id
        self.process = subprocess.Popen(
            [sys.executable, str(CLOUD), str(run_dir), cloud_id, str(tools.stub)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    async def ready(self) -> str:
        """Wait until it runs and give its load balancer's address."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        return line.removeprefix("ready ").strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Begin = Callable[[], Doomed]


@pytest.fixture
async def begin(run_dir: Path, tools: Tools) -> AsyncIterator[Begin]:
    made: list[Doomed] = []

    def start() -> Doomed:
        made.append(Doomed(run_dir, tools, uuid.uuid4().hex[:6]))
        return made[-1]

    yield start
    groups = cgroups.detect()
    for doomed in made:
        doomed.kill()
        await leftovers.remove(doomed.cloud_id, groups)


@pytest.fixture
def stranger() -> Iterator[str]:
    """A namespace and a link that look a little like ours and are not."""
    name = f"exotide-{uuid.uuid4().hex[:5]}z"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "link", "add", name[8:], "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)
    subprocess.run(["ip", "link", "del", name[8:]], check=True)


async def test_a_killed_cloud_is_removed_beside_a_living_one_and_strangers(
    servers: ProcessServers, run_dir: Path, tools: Tools, stranger: str, begin: Begin
) -> None:
    neighbour = tools.spec(servers, role="member")
    await servers.start(neighbour)
    (run_dir / "notes").mkdir()

    doomed = begin()
    nlb_ip = await doomed.ready()
    await tools.eventually(lambda: tools.answers(f"http://{nlb_ip}/"))
    doomed.kill()
    assert any("haproxy" in line for line in tools.traces(doomed.cloud_id, run_dir))

    third = ProcessServers(cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir)
    await third.open()
    try:
        assert tools.traces(doomed.cloud_id, run_dir) == []
        assert third.network_number != servers.network_number
        assert tools.fetch(f"http://{neighbour.ip}:8080/health") == "OK"
        assert stranger in tools.names(Path("/run/netns"))
        assert stranger[8:] in tools.names(Path("/sys/class/net"))
        assert (run_dir / "notes").is_dir()
    finally:
        await third.close()
    assert tools.traces(third.cloud_id, run_dir) == []


async def test_a_cloud_killed_at_any_moment_of_its_start_is_removed(
    run_dir: Path, tools: Tools, begin: Begin
) -> None:
    rng = random.Random(3)
    all_doomed = []
    for _ in range(6):
        doomed = begin()
        all_doomed.append(doomed.cloud_id)
        await tools.eventually((run_dir / doomed.cloud_id).exists)
        await asyncio.sleep(rng.uniform(0.0, 0.25))
        doomed.kill()
    after = ProcessServers(cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir)
    await after.open()
    try:
        assert [trace for cloud in all_doomed for trace in tools.traces(cloud, run_dir)] == []
    finally:
        await after.close()


async def test_servers_end_by_themselves_when_their_cloud_is_killed(
    run_dir: Path, tools: Tools, begin: Begin
) -> None:
    doomed = begin()
    await doomed.ready()
    doomed.kill()
    await tools.eventually(
        lambda: not any("init.py" in line for line in tools.traces(doomed.cloud_id, run_dir))
    )
    after = ProcessServers(cloud_id=doomed.cloud_id, run_dir=run_dir)  # its id is free again
    await after.open()
    await after.close()
    assert tools.traces(doomed.cloud_id, run_dir) == []


async def test_an_id_that_could_match_a_stranger_is_refused(run_dir: Path) -> None:
    with pytest.raises(HostUnsuitable, match="got: net"):
        await ProcessServers(cloud_id="net", run_dir=run_dir).open()

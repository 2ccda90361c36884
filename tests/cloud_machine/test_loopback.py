"""Servers on loopback addresses: what is theirs, beside what test_servers has for all drivers."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exotide.cloud.ports import ServerFailed
from exotide.cloud.servers.loopback.governor import Governor
from exotide.cloud.servers.loopback.housing import LoopbackHousing
from exotide.cloud.servers.loopback.network import LoopbackNetwork
from exotide.cloud.servers.loopback.underlay import Loopback
from exotide.cloud.servers.machine import Machine
from exotide.cloud.servers.namespaces import parse_listening
from exotide.cloud.servers.processes import ProcessServers

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = pytest.mark.anyio

CLOUD = Path(__file__).with_name("killed_cloud.py")


@pytest.fixture(params=["loopback", "shared"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def second(run_dir: Path, tools: Tools) -> AsyncIterator[ProcessServers]:
    """A cloud beside `servers`."""
    opened = ProcessServers(
        cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir, underlay=Loopback(run_dir)
    )
    await opened.open()
    yield opened
    await opened.close(grace_s=0.5)
    assert tools.traces(opened.cloud_id, run_dir) == []


async def test_two_clouds_run_side_by_side(
    servers: ProcessServers, second: ProcessServers, tools: Tools
) -> None:
    clouds = [servers, second]
    specs = [tools.spec(cloud, role="member") for cloud in clouds]
    for cloud, spec in zip(clouds, specs, strict=True):
        await cloud.start(spec)
    assert servers.network_number != second.network_number
    urls = [f"http://{spec.ip}:8080/health" for spec in specs]
    await tools.eventually(lambda: all(map(tools.answers, urls)))
    await second.close(grace_s=0.5)
    assert tools.fetch(urls[0]) == "OK"


async def test_a_stopped_server_leaves_no_process_even_of_those_that_hid(
    run_dir: Path, cloud_id: str, tools: Tools, driver: str
) -> None:
    hide = "(setsid sh -c 'sleep 3600 & sleep 3601' &)"
    command = f"{hide}; exec {sys.executable} -I -S {tools.stub} 8080"
    servers = ProcessServers(
        cloud_id=cloud_id,
        run_dir=run_dir,
        command=command,
        underlay=Loopback(run_dir, own_mounts=None if driver == "loopback" else False),
    )
    await servers.open()
    try:
        spec = tools.spec(servers)
        await servers.start(spec)
        await tools.eventually(lambda: sum("sleep 360" in line for line in tools.processes()) >= 2)
        pids = servers._ready_groups.pids(servers._group(spec))
        await servers.stop(spec.id, grace_s=0.2)
        await tools.eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    finally:
        await servers.close(grace_s=0.5)


async def test_nothing_runs_on_when_the_cloud_is_killed(run_dir: Path, tools: Tools) -> None:
    cloud_id = uuid.uuid4().hex[:6]
    words = [sys.executable, str(CLOUD), str(run_dir), cloud_id, str(tools.stub), "loopback"]
    doomed = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=DEVNULL)
    try:
        assert doomed.stdout is not None
        line = (await doomed.stdout.readline()).decode()
        url = f"http://{line.removeprefix('ready ').strip()}/"
        await tools.eventually(lambda: tools.answers(url))
        pids = [pid for name in ("haproxy", "init.py") for pid in processes(name, cloud_id)]
        assert len(pids) >= 2
    finally:
        doomed.kill()
        await doomed.wait()
    await tools.eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not [line for line in tools.processes() if f"/{cloud_id}/" in line]
    after = ProcessServers(
        cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir, underlay=Loopback(run_dir)
    )
    await after.open()
    await after.close()
    assert not (run_dir / cloud_id).exists()


async def test_a_cloud_of_another_kind_is_left_alone(run_dir: Path) -> None:
    foreign = run_dir / "0f0f0f"
    foreign.mkdir()
    (foreign / "lock").write_text("processes")
    cloud = ProcessServers(cloud_id="0a0a0a", run_dir=run_dir, underlay=Loopback(run_dir))
    await cloud.open()
    await cloud.close()
    assert foreign.exists()


async def test_the_death_of_the_first_process_takes_all_others_along(
    servers: ProcessServers, tools: Tools
) -> None:
    deaths: list[str] = []
    servers.on_death(lambda server_id, _: deaths.append(server_id))
    spec = tools.spec(servers, role="member")
    await servers.start(spec)
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:8080/health"))
    machine = servers._servers[spec.id].machine
    assert isinstance(machine, Machine)
    process = machine._process
    assert process is not None
    pids = servers._ready_groups.pids(servers._group(spec))
    process.send_signal(signal.SIGKILL)
    await tools.eventually(lambda: bool(deaths))
    await tools.eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert servers._ready_groups.pids(servers._group(spec)) == []


async def test_a_port_that_a_program_of_the_host_took_is_named(
    servers: ProcessServers, tools: Tools
) -> None:
    spec = tools.spec(servers)
    taken = socket.create_server((spec.ip, 9100))
    with taken, pytest.raises(ServerFailed, match=r"port 9100 at 127\.77\.\d+\.\d+: .* stop it"):
        await servers.start(spec)
    await servers.start(spec)


@pytest.mark.parametrize(
    ("first_free", "port", "served"),
    [(1024, 80, 8080), (1024, 443, 8443), (1024, 1024, 1024), (1, 80, 80), (80, 80, 80)],
)
def test_low_ports_are_served_at_8000_and_more(first_free: int, port: int, served: int) -> None:
    assert LoopbackNetwork(first_free_port=first_free).served_port(port) == served


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("http://127.0.0.1:9090/x", "http://127.77.3.2:9090/x"),
        ("--web.listen-address=0.0.0.0:9100", "--web.listen-address=127.77.3.2:9100"),
        ("targets: [localhost:9093]", "targets: [127.77.3.2:9093]"),
        ("allow 0.0.0.0/0 and 10.127.0.0.1", "allow 0.0.0.0/0 and 10.127.0.0.1"),
        ("localhost.example.com mylocalhost", "localhost.example.com mylocalhost"),
        ("/srv/a.env:/srv", "/run/c/srv/a.env:/run/c/srv"),
        ("http://host/srv/x /srvs ./srv", "http://host/srv/x /srvs ./srv"),
    ],
)
def test_what_was_written_for_a_machine_of_its_own_fits(text: str, fitted: str) -> None:
    def housing(*, own_mounts: bool) -> LoopbackHousing:
        return LoopbackHousing(
            name="pool-1",
            ip="127.77.3.2",
            folder=Path("/run/c"),
            group="exotide-0a0a0a/1",
            groups=Governor(Path("/run")),
            own_mounts=own_mounts,
        )

    assert housing(own_mounts=False).fit(text) == fitted
    assert housing(own_mounts=True).fit(text) == fitted.replace("/run/c/srv", "/srv")


def test_only_ports_of_the_servers_own_address_count_as_its() -> None:
    table = """  sl  local_address rem_address   st
   0: 02034D7F:1F90 00000000:0000 0A
   1: 0100007F:2382 00000000:0000 0A
   2: 02034D7F:238C 00000000:0000 01
"""
    assert parse_listening(table, ip="127.77.3.2") == {8080}
    assert parse_listening(table) == {8080, 9090}


def processes(program: str, cloud_id: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text()
        except OSError:
            continue
        if program in words and cloud_id in words:
            found.append(int(folder.name))
    return found

"""Servers as processes, with real namespaces, limits and exporters."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exotide.cloud.ports import OutOfAddresses, ServerFailed, ServerSpec
from exotide.cloud.servers.cgroups import CgroupsV1
from exotide.cloud.servers.errors import CloudIdTaken, HostUnsuitable, UnknownServer
from exotide.cloud.servers.loopback.governor import Governor
from exotide.cloud.servers.machine import Machine
from exotide.cloud.servers.network import mac_of
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.underlay import Underlay

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.anyio]

DRIVERS = [
    pytest.param("processes", marks=pytest.mark.root),
    "loopback",
    "shared",
]
"""`loopback` has mounts of its own where this user may make them, `shared` never."""

IDLE = re.compile(r'^node_cpu_seconds_total\{cpu="0",mode="idle"\} (\S+)$', re.MULTILINE)
BURN = """
import sys, time
duty, period = float(sys.argv[1]), 0.1
while True:
    end, used = time.monotonic() + period, time.process_time()
    while time.process_time() - used < duty * period:
        pass
    time.sleep(max(0.0, end - time.monotonic()))
"""


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """What holds for servers holds for all of them."""
    return str(request.param)


@dataclass(frozen=True)
class Scrape:
    at_s: float
    idle_s: float
    used_s: float
    """What the kernel says about the server's group."""


def scrape(servers: ProcessServers, spec: ServerSpec, tools: Tools) -> Scrape:
    text = tools.fetch(f"http://{spec.ip}:9100/metrics")
    found = IDLE.search(text)
    assert found
    used_s = servers._ready_groups.usage_s(servers._group(spec))
    return Scrape(at_s=time.monotonic(), idle_s=float(found.group(1)), used_s=used_s)


async def busy_and_truth(
    servers: ProcessServers, spec: ServerSpec, tools: Tools, *, cores: float, window_s: float
) -> tuple[float, float]:
    before = await asyncio.to_thread(scrape, servers, spec, tools)
    await asyncio.sleep(window_s)
    after = await asyncio.to_thread(scrape, servers, spec, tools)
    passed_s = after.at_s - before.at_s
    truth = (after.used_s - before.used_s) / cores / passed_s
    return 1 - (after.idle_s - before.idle_s) / passed_s, truth


def pid_1_of(servers: ProcessServers, spec: ServerSpec) -> int:
    """Host's process id of a server's first process."""
    machine = servers._servers[spec.id].machine
    assert isinstance(machine, Machine)
    process = machine._process
    assert process is not None
    if "init.py" in Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[3]:
        return process.pid
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def cores_of(servers: ProcessServers, spec: ServerSpec) -> float | None:
    """A server's limit as it is in force; None: it has none."""
    groups, group = servers._ready_groups, servers._group(spec)
    if isinstance(groups, Governor):
        return groups._groups[group].cores
    root, name = (
        (groups.cpu, "cpu.cfs_quota_us")
        if isinstance(groups, CgroupsV1)
        else (Path("/sys/fs/cgroup"), "cpu.max")
    )
    quota_us = (root / group / name).read_text().split()[0]
    return None if quota_us in {"-1", "max"} else int(quota_us) / 100_000


@pytest.fixture
async def burning(
    run_dir: Path, cloud_id: str, underlay: Callable[[str], Underlay]
) -> AsyncIterator[Callable[[float], ProcessServers]]:
    """Clouds whose servers burn a part of a core."""
    made: list[ProcessServers] = []

    def make(duty: float) -> ProcessServers:
        command = f"exec {sys.executable} -I -S -c {shlex.quote(BURN)} {duty}"
        own_id = f"{len(made)}{cloud_id[1:]}"
        made.append(
            ProcessServers(
                cloud_id=own_id,
                run_dir=run_dir,
                cores_per_vcpu=0.2,
                command=command,
                underlay=underlay(own_id),
            )
        )
        return made[-1]

    yield make
    for servers in made:
        await servers.close(grace_s=0.5)


@pytest.mark.parametrize(
    ("duty", "expected"), [pytest.param(0.1, 0.5, id="half"), pytest.param(1.0, 1.0, id="full")]
)
async def test_the_exporter_reports_the_load_of_its_server(
    burning: Callable[[float], ProcessServers], tools: Tools, duty: float, expected: float
) -> None:
    servers = burning(duty)
    await servers.open()
    spec = tools.spec(servers)
    await servers.start(spec)
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:9100/"))
    await tools.eventually(lambda: not servers._servers[spec.id].booting)
    await asyncio.sleep(0.5)  # the burst while its limit was lifted
    busy, truth = await busy_and_truth(servers, spec, tools, cores=0.2, window_s=5.0)
    assert busy == pytest.approx(min(1.0, truth), abs=0.03)
    # The share is a promise where the host has room: beside other work there may be less.
    assert expected - 0.25 < busy < expected + 0.08


async def test_a_member_serves_the_application_and_its_metrics(
    servers: ProcessServers, tools: Tools, driver: str
) -> None:
    spec = tools.spec(servers, role="member")
    await servers.start(spec)
    await servers.start(spec)  # idempotent
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:8080/health"))
    assert tools.fetch(f"http://{spec.ip}:8080/health") == "OK"
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:9100/"))
    metrics = tools.fetch(f"http://{spec.ip}:9100/metrics")
    if driver != "shared":
        assert f'nodename="{spec.name}"' in metrics
    assert "node_memory_MemTotal_bytes 5.36870912e+08" in metrics
    assert 'node_scrape_collector_success{collector="cpu"} 1' in metrics


async def test_the_limit_is_lifted_during_the_boot_only(
    servers: ProcessServers, tools: Tools
) -> None:
    spec = tools.spec(servers, role="member")
    await servers.start(spec)
    assert cores_of(servers, spec) is None
    await tools.eventually(lambda: cores_of(servers, spec) == 0.2)


async def test_a_stale_procfs_stops_the_exporter_until_it_is_fresh_again(
    servers: ProcessServers, tools: Tools
) -> None:
    spec = tools.spec(servers)
    await servers.start(spec)
    url = f"http://{spec.ip}:9100/"
    await tools.eventually(lambda: tools.answers(url))
    servers._meters.stop()
    await tools.eventually(lambda: not tools.answers(url), within_s=4.0)
    servers._meters.start()
    await tools.eventually(lambda: tools.answers(url), within_s=4.0)


async def test_the_death_of_pid_1_is_reported_and_the_server_can_be_started_again(
    servers: ProcessServers, tools: Tools
) -> None:
    deaths: list[tuple[str, str]] = []
    servers.on_death(lambda server_id, reason: deaths.append((server_id, reason)))
    spec = tools.spec(servers, role="member")
    await servers.start(spec)
    os.kill(pid_1_of(servers, spec), signal.SIGKILL)
    await tools.eventually(lambda: bool(deaths))
    assert deaths[0][0] == spec.id
    assert "PID 1 ended" in deaths[0][1]
    assert not tools.answers(f"http://{spec.ip}:8080/health")
    await servers.start(spec)
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:8080/health"))


async def test_a_stop_lets_requests_in_flight_finish_and_is_no_death(
    servers: ProcessServers, tools: Tools
) -> None:
    deaths: list[str] = []
    servers.on_death(lambda server_id, _: deaths.append(server_id))
    spec = tools.spec(servers, role="member")
    await servers.start(spec)
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:8080/health"))
    work = asyncio.create_task(
        asyncio.to_thread(tools.fetch, f"http://{spec.ip}:8080/work?cpu_s=0.3", 20.0)
    )
    await asyncio.sleep(0.3)
    assert not work.done()
    await servers.stop(spec.id)
    await work
    await servers.stop(spec.id)  # idempotent
    assert deaths == []


async def test_a_monitoring_server_runs_what_user_data_configured_with_a_larger_share(
    servers: ProcessServers, tools: Tools, driver: str
) -> None:
    data = b"""#cloud-config
write_files:
- path: /srv/prometheus/prometheus.yml
  content: |
    scrape_configs:
    - job_name: node
      scrape_interval: 1s
      static_configs: [{targets: ["127.0.0.1:9100"]}]
- path: /srv/prometheus/prometheus.args
  content: "--log.level=warn"
- path: /srv/alertmanager/alertmanager.yml
  content: "{route: {receiver: none}, receivers: [{name: none}]}"
"""
    spec = tools.spec(servers, role="monitoring", user_data=data)
    await servers.start(spec)
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:9090/-/ready"))
    await tools.eventually(lambda: 9093 in servers._servers[spec.id].machine.listening())
    # For the server itself only, where it has a network of its own.
    assert tools.answers(f"http://{spec.ip}:9093/") == (driver != "processes")
    await tools.eventually(lambda: cores_of(servers, spec) == 0.75)


async def test_a_reboot_keeps_address_and_files(servers: ProcessServers, tools: Tools) -> None:
    data = b"#cloud-config\nwrite_files:\n- {path: /srv/slowapp/slowapp.env, content: 'A=b'}\n"
    spec = tools.spec(servers, role="member", user_data=data)
    await servers.start(spec)
    srv = servers._servers[spec.id].machine.folder.srv
    (srv / "kept").write_text("yes")
    await servers.reboot(spec.id)
    assert (srv / "kept").read_text() == "yes"
    assert (srv / "slowapp/slowapp.env").read_text() == "A=b"
    await tools.eventually(lambda: tools.answers(f"http://{spec.ip}:8080/health"))
    with pytest.raises(UnknownServer):
        await servers.reboot("00000000-0000-0000-0000-000000000000")


async def test_four_servers_boot_at_once_and_see_their_own_srv(
    run_dir: Path, cloud_id: str, tools: Tools, underlay: Callable[[str], Underlay]
) -> None:
    look = "cat /srv/who > /srv/seen; printenv EXOTIDE_SERVER_NAME >> /srv/seen"
    command = f"{look}; exec {sys.executable} -I -S {tools.stub} 8080"
    servers = ProcessServers(
        cloud_id=cloud_id, run_dir=run_dir, command=command, underlay=underlay(cloud_id)
    )
    await servers.open()
    try:
        data = "#cloud-config\nwrite_files:\n- {{path: /srv/who, content: {}}}\n"
        specs = [tools.spec(servers, user_data=data.format(number).encode()) for number in range(4)]
        await asyncio.gather(*(servers.start(spec) for spec in specs))
        for number, spec in enumerate(specs):
            url = f"http://{spec.ip}:8080/"
            await tools.eventually(functools.partial(tools.answers, url))
            assert tools.fetch(url) == spec.name
            seen = servers._servers[spec.id].machine.folder.srv / "seen"
            assert seen.read_text() == f"{number}{spec.name}\n"
    finally:
        await servers.close(grace_s=0.5)
    assert tools.traces(cloud_id, run_dir) == []


@pytest.mark.parametrize("text", ["write_files: 7", "write_files: [{path: x}]", "\0", "a: b: c"])
async def test_user_data_that_is_not_understood_has_no_effect(
    servers: ProcessServers, tools: Tools, text: str
) -> None:
    spec = tools.spec(servers, user_data=f"#cloud-config\n{text}\n".encode())
    await servers.start(spec)
    assert tools.names(servers._servers[spec.id].machine.folder.srv) == []


async def test_a_server_that_cannot_start_leaves_nothing(
    servers: ProcessServers, run_dir: Path, tools: Tools, tmp_path: Path
) -> None:
    before = tools.traces(servers.cloud_id, run_dir)
    files = tools.names(run_dir / servers.cloud_id)
    servers._kit = replace(servers._kit, slowapp=tmp_path / "slowapp.py")
    spec = tools.spec(servers, role="member")
    with pytest.raises(ServerFailed, match="slowapp is not at"):
        await servers.start(spec)
    assert tools.traces(servers.cloud_id, run_dir) == before
    assert tools.names(run_dir / servers.cloud_id) == files


async def test_a_stop_ends_a_boot_that_is_under_way(servers: ProcessServers, tools: Tools) -> None:
    spec = tools.spec(servers, boot_delay_s=60.0)
    boot = asyncio.create_task(servers.start(spec))
    await asyncio.sleep(0.05)
    await servers.stop(spec.id)
    with pytest.raises(ServerFailed, match="stopped while it booted"):
        await boot


async def test_servers_reach_a_socket_in_the_fabric_and_the_host_reaches_it_too(
    servers: ProcessServers, driver: str
) -> None:
    with servers.fabric_socket(0) as listener:
        ip, port = listener.getsockname()
        network = "198.18" if driver == "processes" else "127.77"
        assert ip == servers.fabric_ip == f"{network}.{servers.network_number}.1"
        _, writer = await asyncio.open_connection(ip, port)
        assert writer.get_extra_info("sockname")[0] == servers.host_ip
        writer.close()
        await writer.wait_closed()


async def test_addresses_run_out_and_come_back_last(servers: ProcessServers) -> None:
    given = [servers.reserve_ip() for _ in range(252)]
    assert len(set(given)) == 252
    with pytest.raises(OutOfAddresses, match="all 252"):
        servers.reserve_ip()
    servers.release_ip(given[7])
    servers.release_ip(given[7])
    assert servers.reserve_ip() == given[7]
    with pytest.raises(OutOfAddresses):
        servers.reserve_ip()


async def test_a_share_of_nothing_is_refused(run_dir: Path) -> None:
    with pytest.raises(HostUnsuitable, match="above 0, got: 0"):
        ProcessServers(cloud_id="0a0a0a", run_dir=run_dir, cores_per_vcpu=0)


async def test_a_living_cloud_keeps_its_id(servers: ProcessServers, run_dir: Path) -> None:
    second = ProcessServers(cloud_id=servers.cloud_id, run_dir=run_dir, underlay=servers.underlay)
    with pytest.raises(CloudIdTaken, match=servers.cloud_id):
        await second.open()
    assert (run_dir / servers.cloud_id / "lock").exists()


def test_a_mac_address_follows_from_the_address() -> None:
    assert mac_of("198.18.0.254") == "02:77:c6:12:00:fe"

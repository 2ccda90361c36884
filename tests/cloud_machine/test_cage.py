"""What a hostile server can do to its host: nothing. Attacks run inside real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers import cage, roles
from exotide.cloud.servers.cage import FIRST_ID, IDS, MOST_TASKS, Cage
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.machine import EVENTS, FIELDS, MOST_EVENTS_PER_S, parse_event
from exotide.cloud.servers.processes import ProcessServers

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.anyio]

ATTACKER = Path(__file__).with_name("attacker.py").read_bytes()
AS_PROGRAM = "PYTHONPATH=/srv/evil\nLD_LIBRARY_PATH=/srv/evil\nPORT=8080\n"
SITE = b"""
import os, sys, subprocess
if not os.path.exists("/srv/began"):
    open("/srv/began", "w").close()
    subprocess.run([sys.executable, "-I", "-S", "/srv/attacker.py", *os.environ["ARGS"].split()])
"""


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file of the host that root alone may read."""
    path = Path("/etc") / f"exotide-test-{uuid.uuid4().hex[:8]}"
    path.touch(mode=0o600)
    path.write_text("secret of the host")
    yield path
    assert path.read_text() == "secret of the host"
    path.unlink()


@pytest.fixture
def host_socket() -> Iterator[Path]:
    """A socket that every user of the host may connect to."""
    path = Path("/run") / f"exotide-test-{uuid.uuid4().hex[:8]}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        yield path
    path.unlink()


def user_data(**files: bytes) -> bytes:
    entries = [
        {"path": f"/srv/{name.replace('__', '/')}", "encoding": "b64", "content": encoded(content)}
        for name, content in files.items()
    ]
    return b"#cloud-config\n" + json.dumps({"write_files": entries}).encode()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def outcome(servers: ProcessServers, spec: ServerSpec, tools: Tools) -> dict[str, str]:
    result = servers._servers[spec.id].machine.folder.srv / "result.json"
    await tools.eventually(result.exists, within_s=20)
    told: dict[str, str] = json.loads(result.read_text())
    return told


@pytest.mark.root
async def test_no_attack_from_inside_a_server_gets_out(
    servers: ProcessServers, tools: Tools, secret: Path, host_socket: Path
) -> None:
    attack = f"{sys.executable} -I -S /srv/attacker.py /srv/result.json {secret} {host_socket}"
    servers._kit = replace(servers._kit, command=f"{attack}; sleep 60")
    spec = tools.spec(servers, user_data=user_data(**{"attacker.py": ATTACKER}))
    await servers.start(spec)
    told = await outcome(servers, spec, tools)
    assert FIRST_ID <= int(told.pop("user")) < FIRST_ID + IDS
    assert {name: how for name, how in told.items() if how == "DONE"} == {}
    assert len(told) > 20


@pytest.mark.root
async def test_a_python_path_in_an_environment_file_runs_as_nobody_of_the_host(
    servers: ProcessServers, tools: Tools, secret: Path, host_socket: Path
) -> None:
    arguments = f"ARGS='/srv/result.json {secret} {host_socket}'\n"
    files = {
        "slowapp__slowapp.env": (AS_PROGRAM + arguments).encode(),
        "evil__sitecustomize.py": SITE,
        "attacker.py": ATTACKER,
    }
    spec = tools.spec(servers, role="member", user_data=user_data(**files))
    await servers.start(spec)
    told = await outcome(servers, spec, tools)
    assert int(told.pop("user")) >= FIRST_ID
    assert {name: how for name, how in told.items() if how == "DONE"} == {}


GREEDY = r"""
import json, os, threading, time
threading.stack_size(64 << 10)
told, count = {}, 0
try:
    while count < 5_000:
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        count += 1
except RuntimeError as error:
    told["threads"] = str(error)
try:
    open("/srv/large", "w").truncate((1 << 30) + 1)
except OSError as error:
    told["file"] = error.strerror
with open("/srv/result.new", "w") as file:
    file.write(json.dumps({"count": str(count), **told}))
os.rename("/srv/result.new", "/srv/result.json")
time.sleep(60)
"""


@pytest.mark.root
async def test_a_greedy_server_gets_neither_all_processes_nor_the_disk_by_one_file(
    servers: ProcessServers, tools: Tools
) -> None:
    servers._kit = replace(
        servers._kit, command=f"exec {sys.executable} -I -S -c {shlex.quote(GREEDY)}"
    )
    spec = tools.spec(servers)
    await servers.start(spec)
    told = await outcome(servers, spec, tools)
    assert "start new thread" in told["threads"]
    assert int(told["count"]) < MOST_TASKS
    assert told["file"] == "File too large"


@pytest.mark.root
async def test_no_two_servers_share_a_user(servers: ProcessServers, tools: Tools) -> None:
    specs = [tools.spec(servers) for _ in range(2)]
    for spec in specs:
        await servers.start(spec)
    owners = {servers._servers[spec.id].machine.folder.srv.stat().st_uid for spec in specs}
    assert len(owners) == 2
    assert min(owners) >= FIRST_ID


@pytest.mark.root
async def test_links_of_a_server_lead_its_cloud_nowhere(
    servers: ProcessServers, tools: Tools, secret: Path
) -> None:
    link = f"ln -sf {secret} /srv/prometheus/prometheus.args; touch /srv/done; sleep 60"
    servers._kit = replace(servers._kit, command=link)
    files = {"prometheus__prometheus.yml": b"scrape_configs: []\n"}
    spec = tools.spec(servers, user_data=user_data(**files))
    await servers.start(spec)
    srv = servers._servers[spec.id].machine.folder.srv
    await tools.eventually((srv / "done").exists)
    (prometheus,) = roles.monitoring(srv)
    assert prometheus.name == "prometheus"
    assert "secret" not in " ".join(prometheus.argv)


NONSENSE = r"""
import ctypes, json, os, time
pipe = ctypes.CDLL(None).syscall(438, os.pidfd_open(os.getppid()), 1, 0)  # pidfd_getfd
if pipe < 0:
    pipe = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY)
os.set_blocking(pipe, True)
for text in ("[1]", "7", "{", "[" * 3000, "x" * 200_000, chr(0), "{}"):
    os.write(pipe, text.encode() + b"\n")
for extra in ({"server": "a"}, {"event": []}, {"log": 1}, {"reason": {"a": 1}}, {"self": 1}):
    os.write(pipe, json.dumps({"event": "program_ended", **extra}).encode() + b"\n")
for _ in range(1000):
    os.write(pipe, b'{"event": "program_ended", "program": "forged"}\n')
open("/srv/done", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("driver", [pytest.param("processes", marks=pytest.mark.root), "loopback"])
async def test_nonsense_on_the_first_process_s_pipe_ends_no_supervision(
    servers: ProcessServers, tools: Tools
) -> None:
    servers._kit = replace(
        servers._kit, command=f"exec {sys.executable} -I -S -c {shlex.quote(NONSENSE)}"
    )
    deaths: list[str] = []
    servers.on_death(lambda server_id, _: deaths.append(server_id))
    spec = tools.spec(servers)
    with capture_logs() as logs:
        await servers.start(spec)
        machine = servers._servers[spec.id].machine
        await tools.eventually((machine.folder.srv / "done").exists)
        await asyncio.sleep(0.2)
    assert not machine.ended.is_set()
    assert sum(entry.get("program") == "forged" for entry in logs) <= 2 * MOST_EVENTS_PER_S
    await servers.crash(spec.id)
    await tools.eventually(lambda: deaths == [spec.id])


STUBBORN = r"""
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    os.fork()
os.kill(1, signal.SIGSTOP)
open("/srv/done", "w").close()
while True:
    time.sleep(1)
"""


@pytest.mark.root
async def test_a_server_that_will_not_end_is_deleted_in_time(
    servers: ProcessServers, tools: Tools, cloud_id: str
) -> None:
    servers._kit = replace(
        servers._kit, command=f"exec {sys.executable} -I -S -c {shlex.quote(STUBBORN)}"
    )
    spec = tools.spec(servers)
    await servers.start(spec)
    srv = servers._servers[spec.id].machine.folder.srv
    await tools.eventually((srv / "done").exists)
    began_s = time.monotonic()
    await servers.stop(spec.id, grace_s=0.5)
    assert time.monotonic() - began_s < 6.0
    assert not any(f"/{cloud_id}/{spec.id[:8]}" in line for line in tools.processes())


@given(st.binary(max_size=200))
def test_whatever_a_server_says_is_an_event_or_nothing(line: bytes) -> None:
    event, values = parse_event(line)
    assert event is None or event in EVENTS
    assert set(values) <= set(FIELDS)


@pytest.mark.parametrize("line", [b"[1]", b"[" * 4000, b'{"event": []}', b'{"event": "server"}'])
def test_what_no_first_process_would_say_is_nothing(line: bytes) -> None:
    assert parse_event(line) == (None, {})


def test_each_address_has_a_user_of_its_own(tmp_path: Path) -> None:
    ids = {
        Cage(name="x", ip=f"198.18.{net}.{host}", folder=tmp_path).user_id
        for net in range(256)
        for host in range(256)
    }
    assert (min(ids), max(ids), len(ids)) == (FIRST_ID, FIRST_ID + IDS - 1, IDS)


def test_a_host_without_the_servers_users_says_so() -> None:
    cage.check("0 0 4294967295\n")
    with pytest.raises(HostUnsuitable, match=str(FIRST_ID)):
        cage.check("0 100000 65536\n")


def test_the_topmost_folder_that_is_closed_to_others_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    for folder in (tmp_path / "a", tmp_path / "a/b"):
        folder.chmod(0o755)
    around = cage.closed_above(tmp_path / "a")
    (tmp_path / "a/b").chmod(0o700)
    assert cage.closed_above(deep) == (around or tmp_path / "a/b")


def test_paths_with_spaces_are_mounted_as_they_are() -> None:
    assert cage._quoted(Path("/a b\\c")) == "/a\\040b\\134c"

"""How a cloud is started, found and ended from the command line."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from exotide.cloud import command, drivers
from exotide.cloud.directory import Entry, find, living, publish
from exotide.cloud.drivers import Character
from exotide.cloud.errors import NoCloud, PortInUse, ProgramsMissing
from exotide.cloud.service import Access, listen

EXOTIDE = [sys.executable, "-c", "from exotide.cli import main; main()"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="servers need root")


def entry(cloud_id: str, port: int) -> Entry:
    access = Access(port=port, key="EXOkey", secret="it's hush")
    return Entry(
        cloud_id=cloud_id,
        pid=os.getpid(),
        access=access,
        fabric_ip="198.18.3.1",
        character=Character(servers="loopback", limits=("no magic",)),
    )


class Clouds:
    """A run folder with clouds that live as long as their locks are held."""

    def __init__(self, folder: Path, locks: ExitStack) -> None:
        self.folder, self._locks = folder, locks

    def add(self, cloud_id: str, port: int, *, lives: bool = True) -> Path:
        folder = self.folder / cloud_id
        folder.mkdir()
        lock = self._locks.enter_context((folder / "lock").open("w"))
        if lives:
            fcntl.flock(lock, fcntl.LOCK_EX)
        publish(folder, entry(cloud_id, port))
        return folder


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[Clouds]:
    with ExitStack() as locks:
        yield Clouds(tmp_path, locks)


def test_only_the_owner_may_read_how_a_cloud_is_reached(clouds: Clouds) -> None:
    file = clouds.add("aaaaaa", 8480) / "cloud.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = json.loads(file.read_text())
    assert said["agent_endpoint"] == "http://198.18.3.1:8480/v2"
    assert said["endpoint"] == "http://127.0.0.1:8480/z/at-vie-1/v2"


def test_a_cloud_is_read_back_as_it_was_written_and_dead_ones_are_passed_over(
    clouds: Clouds,
) -> None:
    clouds.add("aaaaaa", 8480)
    clouds.add("bbbbbb", 8481, lives=False)
    (clouds.add("cccccc", 8482) / "cloud.json").write_text("{")
    assert living(clouds.folder) == [entry("aaaaaa", 8480)]
    assert living(clouds.folder / "nothing") == []


def test_the_only_cloud_is_meant_and_of_several_the_one_on_the_port(clouds: Clouds) -> None:
    with pytest.raises(NoCloud, match=r"no local cloud runs \(looked in"):
        find(None, run_dir=clouds.folder)
    clouds.add("aaaaaa", 8480)
    assert find(None, run_dir=clouds.folder).cloud_id == "aaaaaa"
    clouds.add("bbbbbb", 8481)
    assert find(8481, run_dir=clouds.folder).cloud_id == "bbbbbb"
    with pytest.raises(NoCloud, match=r"choose one with --port, one of: 8480, 8481"):
        find(None, run_dir=clouds.folder)
    with pytest.raises(NoCloud, match="no local cloud runs on port 1 "):
        find(1, run_dir=clouds.folder)


@pytest.mark.root
@needs_root
def test_a_cloud_that_another_user_made_up_is_not_believed(clouds: Clouds) -> None:
    os.chown(clouds.add("aaaaaa", 8480) / "cloud.json", 65534, 65534)
    assert living(clouds.folder) == []


def test_status_tells_all_clouds_and_no_secret(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.status(run_dir=clouds.folder) == 1
    assert capsys.readouterr().out == "no local cloud runs\n"
    clouds.add("aaaaaa", 8480)
    assert command.status(run_dir=clouds.folder) == 0
    said = capsys.readouterr().out
    assert "cloud aaaaaa: http://127.0.0.1:8480/z/at-vie-1/v2" in said
    assert said.splitlines()[1:] == ["  servers: loopback", "  limit: no magic"]
    assert command.status(json=True, run_dir=clouds.folder) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["clouds"][0]["port"] == 8480
    assert "hush" not in said
    assert "hush" not in repr(living(clouds.folder))


@pytest.mark.parametrize(
    ("servers", "fate"),
    [
        ("processes", "run on when it ends"),
        ("none", "run on when it ends"),
        ("loopback", "end with it, and its pools then make new ones"),
        ("machines", "end with it, and its pools then make new ones"),
    ],
)
def test_status_tells_what_becomes_of_the_servers_of_a_kept_cloud(
    servers: str, fate: str, clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = replace(
        entry("aaaaaa", 8480), character=Character(servers=servers), state=Path("/srv/kept")
    )
    publish(clouds.add("aaaaaa", 8480), kept)
    assert command.status(run_dir=clouds.folder) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"  kept in: /srv/kept, until: exotide cloud down; its servers {fate}"


def test_without_a_cloud_env_and_down_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.env(run_dir=tmp_path) == 2
    assert command.down(run_dir=tmp_path) == 2
    assert capsys.readouterr().err.count("start: exotide cloud") == 2


def test_all_missing_programs_are_named_at_once() -> None:
    text = str(ProgramsMissing(["haproxy is not installed", "ip is not installed"]))
    assert text.splitlines()[1:] == ["  haproxy is not installed", "  ip is not installed"]


def test_a_port_in_use_is_an_error_that_names_the_option() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} is in use .* --port"):
            listen("127.0.0.1", port)


def ca_in(folder: Path) -> tuple[str, str]:
    """Options that keep the tests from making an authority for this machine."""
    return "--ca-dir", str(folder / "ca")


def start(*options: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *EXOTIDE, "cloud", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_cloud_does_not_start_on_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = start(
            "--port",
            str(taken.getsockname()[1]),
            "--run-dir",
            str(tmp_path / "s"),
            *ca_in(tmp_path),
        )
    assert ended.returncode == 2
    assert "is in use by another program" in ended.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.root
@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv drops the capabilities")
def test_without_capabilities_process_servers_say_what_they_need(tmp_path: Path) -> None:
    prefix = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    options = [
        "--port",
        "0",
        "--run-dir",
        str(tmp_path / "s"),
        "--servers",
        "processes",
        *ca_in(tmp_path),
    ]
    ended = start(*options, prefix=prefix)
    assert ended.returncode == 2
    assert "CAP_NET_ADMIN and CAP_SYS_ADMIN" in ended.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "option",
    [("--port", "70000"), ("--speed", "0"), ("--servers", "magic"), ("--balancer", "magic")],
)
def test_a_wrong_option_is_refused_by_name(option: tuple[str, str]) -> None:
    ended = start(*option)
    assert ended.returncode != 0
    assert option[0] in ended.stdout + ended.stderr


def test_a_plain_balancer_is_told_to_who_asks_and_refused_where_nobody_answers(
    tmp_path: Path,
) -> None:
    wanted = drivers.Wanted(cloud_id="0a1b2c", run_dir=tmp_path, balancer="plain")
    assert drivers.PLAIN in drivers.make("loopback", wanted).character.limits
    attentive = drivers.make("loopback", replace(wanted, balancer="attentive"))
    assert drivers.PLAIN not in attentive.character.limits
    ended = start("--servers", "none", "--balancer", "plain", "--run-dir", str(tmp_path / "s"))
    assert ended.returncode == 2
    assert "--balancer plain needs members that can be checked" in ended.stderr
    assert not (tmp_path / "s").exists()


def test_without_capabilities_a_cloud_chooses_loopback_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    options = ["cloud", "--port", "0", "--run-dir", str(tmp_path), *ca_in(tmp_path)]
    with subprocess.Popen(
        [*prefix, *EXOTIDE, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert "is ready" in process.stdout.readline()
            assert "servers: loopback; chosen since" in process.stdout.readline()
            assert command.status(run_dir=tmp_path) == 0
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    said = capsys.readouterr().out
    assert "lacks CAP_NET_ADMIN and CAP_SYS_ADMIN" in said
    for limit in ("80 is at 8080", "security groups", "source-hash", "169.254.169.254"):
        assert f"{limit}" in said


DRIVERS = [
    pytest.param("processes", marks=[pytest.mark.root, needs_root]),
    pytest.param("loopback"),
]


@pytest.mark.parametrize("servers", DRIVERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_cloud_serves_host_and_fabric_and_a_signal_ends_it_with_0(
    number: signal.Signals, servers: str, tmp_path: Path
) -> None:
    options = [
        "cloud",
        "--port",
        "0",
        "--run-dir",
        str(tmp_path),
        "--servers",
        servers,
        *ca_in(tmp_path),
    ]
    with subprocess.Popen(
        [*EXOTIDE, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = process.stdout.readline()
            (cloud,) = living(tmp_path)
            assert f"is ready: {cloud.access.endpoint}" in ready
            assert cloud.pid == process.pid
            for host in ("127.0.0.1", cloud.fabric_ip):
                zones = httpx2.get(f"http://{host}:{cloud.access.port}/v2/zone").json()["zones"]
                assert zones[0]["api-endpoint"].startswith(f"http://{host}:")
        finally:
            process.send_signal(number)
            said = process.stdout.read() + process.stderr.read()
        assert process.wait(30) == 0, said
    asked = f'eval "$(exotide cloud env --port {cloud.access.port} --run-dir {tmp_path})"'
    assert f"to use it: {asked}" in said
    assert cloud.access.secret not in ready + said
    assert living(tmp_path) == []


@pytest.mark.parametrize("servers", DRIVERS)
def test_down_ends_a_cloud_and_leaves_nothing(
    servers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "cloud",
        "--port",
        "0",
        "--run-dir",
        str(tmp_path),
        "--servers",
        servers,
        *ca_in(tmp_path),
    ]
    with subprocess.Popen(
        [*EXOTIDE, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (cloud,) = living(tmp_path)
        assert command.down(port=cloud.access.port, run_dir=tmp_path) == 0
        assert process.wait(10) == 0
    assert capsys.readouterr().out == f"cloud {cloud.cloud_id} is gone\n"
    assert not (tmp_path / cloud.cloud_id).exists()
    assert not Path(f"/run/netns/exotide-{cloud.cloud_id}").exists()

"""Both agents speak one language: the same files for the same work, the same words for errors."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import exotide_autoscaler
import exotide_servicediscovery
import exotide_servicediscovery.errors
import pytest
from exotide_autoscaler import errors
from exotide_autoscaler.settings import read_settings as autoscaler_settings
from exotide_servicediscovery.settings import read_settings as discovery_settings

from .agent import free_port

AGENTS = {
    "autoscaler": Path(str(exotide_autoscaler.__file__)).parent,
    "servicediscovery": Path(str(exotide_servicediscovery.__file__)).parent,
}
SHARED = ("client.py", "credentials.py", "network.py", "reader.py")
WRONG = {
    "EXOSCALE_SECRET": "two words",
    "EXOSCALE_ZONE": "evil.example/",
    "EXOSCALE_INSTANCEPOOL_ID": "web",
    "EXOSCALE_API_ENDPOINT": "http://user:password@host/v2",
    "EXOTIDE_METRICS_PORT": "-1",
    "TARGET_PORT": "9100",
}


@pytest.mark.parametrize("name", SHARED)
def test_what_stands_in_both_agents_is_the_same(name: str) -> None:
    ours, theirs = (folder / name for folder in AGENTS.values())
    assert ours.read_bytes() == theirs.read_bytes()


def test_errors_that_both_know_have_the_same_names_and_the_same_kind() -> None:
    used = ast.parse((AGENTS["autoscaler"] / "client.py").read_text())
    names = {
        alias.name
        for node in ast.walk(used)
        if isinstance(node, ast.ImportFrom) and node.module == "errors"
        for alias in node.names
    }
    assert names >= {"CloudError", "Unauthorized", "PoolNotFound", "CloudUnavailable"}
    for name in names | {"SettingsError", "ListenError"}:
        ours = getattr(errors, name)
        theirs = getattr(exotide_servicediscovery.errors, name)
        assert issubclass(ours, errors.CloudError) == issubclass(
            theirs, exotide_servicediscovery.errors.CloudError
        )


def test_the_same_mistake_is_told_in_the_same_words() -> None:
    with pytest.raises(errors.SettingsError) as raised:
        autoscaler_settings(WRONG)
    with pytest.raises(exotide_servicediscovery.errors.SettingsError) as also:
        discovery_settings(WRONG)
    ours, theirs = dict(raised.value.problems), dict(also.value.problems)
    common = {*WRONG, "EXOSCALE_KEY"} - {"TARGET_PORT", "EXOTIDE_METRICS_PORT"}
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}
    assert "password" not in ours["EXOSCALE_API_ENDPOINT"].removesuffix("without a password")
    assert "two words" not in ours["EXOSCALE_SECRET"]


@pytest.mark.parametrize("agent", AGENTS)
def test_wrong_settings_and_a_taken_port_end_either_with_2(agent: str) -> None:
    good = {
        "PATH": os.environ["PATH"],
        "EXOSCALE_KEY": "EXOkey",
        "EXOSCALE_SECRET": "hidden",
        "EXOSCALE_ZONE": "ch-dk-2",
        "EXOSCALE_INSTANCEPOOL_ID": "6e1a1ac6-9d93-43ae-a250-43392d8a90d4",
        "TARGET_PORT": "9100",
        "LISTEN_PORT": str(free_port()),
        "EXOTIDE_LISTEN_ADDRESS": "127.0.0.1",
        "EXOTIDE_JOURNAL": os.devnull,
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for changes in ({"EXOSCALE_KEY": ""}, {"EXOTIDE_METRICS_PORT": port}):
            done = subprocess.run(
                (sys.executable, "-m", f"exotide_{agent}"),
                env=good | changes,
                check=False,
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith("error: ")
            assert next(iter(changes)) in done.stderr


SILENT_NAMES = """
import os, socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
"""
IN_A_SILENT_NETWORK = """
ip link set lo up
mount --bind "$1" /etc/resolv.conf
"$2" -c "$3" &
exec "$2" -m "$4"
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
@pytest.mark.parametrize("agent", AGENTS)
def test_a_name_server_that_is_silent_does_not_delay_the_end(agent: str, tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    arguments = (str(resolver), sys.executable, SILENT_NAMES, f"exotide_{agent}")
    environ = {
        "PATH": os.environ["PATH"],
        "EXOSCALE_KEY": "EXOkey",
        "EXOSCALE_SECRET": "hidden",
        "EXOSCALE_ZONE": "ch-dk-2",
        "EXOSCALE_INSTANCEPOOL_ID": "6e1a1ac6-9d93-43ae-a250-43392d8a90d4",
        "TARGET_PORT": "9100",
        "LISTEN_PORT": "8090",
        "EXOTIDE_INTERVAL_S": "1",
        "EXOTIDE_API_TIMEOUT_S": "1",
        "EXOTIDE_JOURNAL": str(tmp_path / "journal.sqlite"),
        "EXOTIDE_TARGETS_FILE": str(tmp_path / "config.json"),
    }
    with subprocess.Popen(
        ("unshare", "-n", "-m", "sh", "-e", "-c", IN_A_SILENT_NETWORK, "sh", *arguments),
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "no whole answer within" in line:
                break
        began = time.monotonic()
        process.terminate()
        assert process.wait(10) == 0, lines
        assert time.monotonic() - began < 2

"""No request leaves the machine: with the cloud up, with the cloud down, whatever is asked for."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from exotide.cloud.directory import Entry, publish
from exotide.cloud.drivers import Character
from exotide.cloud.proxy.environment import environment
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell
from exotide.realtools.terraform import Workspace

from .conftest import EXAMPLES, cell_or_skip
from .outside import Outside, outside

SCRIPT = """
import os
from exoscale.api.v2 import Client
client = Client(os.environ["EXOSCALE_API_KEY"], os.environ["EXOSCALE_API_SECRET"], zone="de-fra-1")
print(len(client.list_zones()["zones"]), client.list_instance_pools()["instance-pools"])
"""
SDK = (sys.executable, "-c", SCRIPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cell with an internet in it, and a cloud."""

    cell: Cell
    outside: Outside
    cloud: RunningCloud
    variables: Mapping[str, str]
    """Of proxy mode, without the direct endpoint: everything has to go through the proxy."""

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        kept = {key: each for key, each in self.variables.items() if more.get(key) != ""}
        return subprocess.Popen(
            self.cell.command(*words),
            env=kept | {key: each for key, each in more.items() if each},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def nothing_left(self) -> None:
        assert self.outside.names == []
        assert self.outside.connections == 0


@pytest.fixture
def place(tls: Tls, tmp_path: Path) -> Iterator[Place]:
    with (
        cell_or_skip() as own,
        outside(own) as seen,
        running_cloud(tls=tls, more_sockets=lambda port: [own.listen(port)]) as cloud,
    ):
        variables = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
        del variables["EXOSCALE_API_ENDPOINT"]
        variables |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        yield Place(cell=own, outside=seen, cloud=cloud, variables=variables)


def tools(place: Place, folder: Path) -> dict[str, tuple[str, ...]]:
    """Each tool that is here, and what it is to do."""
    found: dict[str, tuple[str, ...]] = {"sdk": SDK}
    try:
        found["exo"] = (str(programs.exo()), "compute", "instance-pool", "list")
        terraform, provider = programs.terraform(), programs.provider()
    except programs.NotHere:
        return found
    Workspace.made(
        folder / "terraform",
        EXAMPLES / "stack.tf",
        terraform=terraform,
        provider=provider,
        environment=place.variables,
        run_in=place.cell.command,
    )
    return found | {
        "terraform": (str(terraform), f"-chdir={folder}/terraform", "plan", "-no-color")
    }


def terraform_settings(folder: Path) -> dict[str, str]:
    return {
        "TF_CLI_CONFIG_FILE": str(folder / "terraform/terraform.rc"),
        "CHECKPOINT_DISABLE": "1",
        "TF_INPUT": "0",
    }


def test_without_our_environment_a_tool_would_reach_the_real_cloud(place: Place) -> None:
    """The control: what the other tests do not see is really seen."""
    started = place.start(*SDK, HTTPS_PROXY="", https_proxy="")
    returncode, said = place.end(started)
    assert returncode != 0, said
    assert "api-de-fra-1.exoscale.com" in place.outside.names
    assert place.outside.connections > 0


def test_with_it_every_tool_works_and_nothing_leaves(place: Place, tmp_path: Path) -> None:
    for name, words in tools(place, tmp_path).items():
        returncode, said = place.end(place.start(*words, **terraform_settings(tmp_path)))
        assert returncode == 0, f"{name}: {said}"
    place.nothing_left()


def test_if_the_cloud_is_down_every_tool_fails_and_nothing_leaves(
    place: Place, tmp_path: Path
) -> None:
    """Takes the 15 s in which the tools try again; they do so at the same time."""
    todo = tools(place, tmp_path)
    nobody = "http://127.0.0.1:9"
    changed = {"HTTPS_PROXY": nobody, "https_proxy": nobody, **terraform_settings(tmp_path)}
    started = {name: place.start(*words, **changed) for name, words in todo.items()}
    for name, process in started.items():
        returncode, said = place.end(process)
        assert returncode != 0, f"{name}: {said}"
        assert "127.0.0.1" in said, f"{name}: {said}"
        assert "refused" in said, f"{name}: {said}"
    place.nothing_left()


def test_other_hosts_are_refused_and_nothing_leaves(place: Place) -> None:
    script = "import requests; print(requests.get('https://example.com/'))"
    returncode, said = place.end(place.start(sys.executable, "-c", script))
    assert returncode != 0
    assert "connects to nothing else: not example.com:443" in said
    place.nothing_left()


def test_what_env_prints_is_all_that_a_shell_needs(place: Place, tls: Tls, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "aaaaaa").mkdir(parents=True)
    todo = tools(place, tmp_path)
    exotide = f"{shlex.quote(sys.executable)} -c 'from exotide.cli import main; main()'"
    lines = [f'eval "$({exotide} cloud env --run-dir {run_dir})"']
    lines += [shlex.join(words) for words in todo.values()]
    with (run_dir / "aaaaaa/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entry = Entry(
            cloud_id="aaaaaa",
            pid=os.getpid(),
            access=place.cloud.access,
            fabric_ip="127.0.0.1",
            ca_file=tls.ca_file,
            character=Character(servers="none"),
        )
        publish(run_dir / "aaaaaa", entry)
        ended = subprocess.run(
            place.cell.command("sh", "-euc", "\n".join(lines)),
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_PROXY": "exoscale.com"}
            | terraform_settings(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("8 []\n")
    place.nothing_left()

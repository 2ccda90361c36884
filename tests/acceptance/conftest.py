"""A stack on the local cloud, and what `exotide check` says about it: real programs, real time."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from exoscale.api.v2 import Client

from exotide.cloud.directory import Entry, living
from exotide.stack import Stack, StackSettings, create, destroy, wait_healthy

T = TypeVar("T")
SPEED = 6.0
EXOTIDE = Path(sys.executable).parent / "exotide"


def eventually(look: Callable[[], T | None], *, within_s: float, what: str) -> T:
    """Real time: the statements of the contract are about real seconds."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < within_s:
        if (found := look()) is not None:
            return found
        time.sleep(0.25)
    pytest.fail(f"{what} did not happen within {within_s:g} s")


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A running local cloud, and the command that checks what is on it."""

    entry: Entry

    @property
    def client(self) -> Client:
        access = self.entry.access
        return Client(access.key, access.secret, url=access.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **self.entry.access.environment()}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `exotide` as a customer would, in the cloud's environment and no other."""
        command = [str(EXOTIDE), *words]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=800, check=False
        )

    def check(self, *words: str) -> tuple[int, dict[str, dict[str, Any]], str]:
        """Run `exotide check`; gives its exit code, the checks by their ids, and its table."""
        port = str(self.entry.character.http_port)
        done = self.run("check", *words, "--http-port", port, "--json", "-")
        assert done.stdout, done.stderr
        checks = json.loads(done.stdout)["checks"]
        return done.returncode, {each["id"]: each for each in checks}, done.stderr


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """
    The cloud that all but the tests of scale-in share.

    Its balancers are plain if the variable EXOTIDE_BALANCER says so.
    """
    with running(tmp_path_factory, balancer=os.environ.get("EXOTIDE_BALANCER", "attentive")) as it:
        yield it


@contextmanager
def running(factory: pytest.TempPathFactory, *, balancer: str) -> Iterator[Cloud]:
    """Servers without the stack's roles serve their empty /srv on port 8080."""
    log = factory.mktemp("cloud") / "cloud.log"
    words = [sys.executable, "-m", "http.server", "8080"]
    other = f'exec {shlex.join(words)} --bind "$EXOTIDE_SERVER_IP"'
    options = {"--port": str(free_port()), "--speed": str(SPEED), "--command": other}
    options["--balancer"] = balancer
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [EXOTIDE, "cloud", *(word for pair in options.items() for word in pair)],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield eventually(lambda: _running(process), within_s=30, what=f"a cloud ({log})")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _running(process: subprocess.Popen[bytes]) -> Cloud | None:
    assert process.poll() is None, "the local cloud ended at once; see its log"
    found = [entry for entry in living() if entry.pid == process.pid]
    return Cloud(entry=found[0]) if found else None


@pytest.fixture(scope="session")
def settings(cloud: Cloud) -> StackSettings:
    access = cloud.entry.access
    return StackSettings(
        key=access.key,
        secret=access.secret,
        endpoint=access.endpoint,
        agent_endpoint=cloud.entry.agent_endpoint,
        http_port=cloud.entry.character.http_port,
        zone=access.zone,
        speed=SPEED,
        max_size=4,
        slowapp_env={"LOAD_SECONDS": "10"},
    )


@pytest.fixture(scope="session")
def built(settings: StackSettings, cloud: Cloud) -> Iterator[Stack]:
    stack = create(settings)
    wait_healthy(settings, stack)
    yield stack
    destroy(settings)
    left = {
        "instances": cloud.client.list_instances()["instances"],
        "pools": cloud.client.list_instance_pools()["instance-pools"],
        "balancers": cloud.client.list_load_balancers()["load-balancers"],
        "roles": cloud.client.list_iam_roles()["iam-roles"],
        "keys": cloud.client.list_api_keys()["api-keys"],
    }
    assert not any(left.values()), f"destroy left {left}"


@pytest.fixture(scope="session")
def results(cloud: Cloud, built: Stack) -> dict[str, dict[str, Any]]:
    """One run of all checks; what the sentences of the feature files stand for."""
    code, checks, shown = cloud.check("all", "--yes")
    assert code == 0, shown
    return checks

"""The acceptance contract against the local cloud: real programs, official SDK, real time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from exoscale.api.v2 import Client

from exotide.cloud.directory import RUN_DIR
from exotide.stack import Stack, StackSettings, create, destroy
from exotide.stack.policies import autoscaler_policy, discovery_policy

T = TypeVar("T")
ZONE = "at-vie-1"
SPEED = 6.0
POLICIES = {
    "exotide-autoscaler": autoscaler_policy,
    "exotide-servicediscovery": discovery_policy,
}
BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[2]


def eventually(look: Callable[[], T | None], *, within_s: float, what: str) -> T:
    """Real time: the statements of the contract are about real seconds."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < within_s:
        if (found := look()) is not None:
            return found
        time.sleep(0.25)
    pytest.fail(f"{what} did not happen within {within_s:g} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class RunningCloud:
    url: str
    agent_url: str
    key: str
    secret: str
    http_port: int
    """Where its balancers serve port 80."""

    @property
    def client(self) -> Client:
        return Client(self.key, self.secret, url=self.url)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    port = free_port()
    log = tmp_path_factory.mktemp("cloud") / "cloud.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [BIN / "exotide", "cloud", "--port", str(port), "--speed", str(SPEED)],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield eventually(lambda: _running(process, port), within_s=30, what=f"a cloud ({log})")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def _running(process: subprocess.Popen[bytes], port: int) -> RunningCloud | None:
    assert process.poll() is None, "the local cloud ended at once; see its log"
    for file in RUN_DIR.glob("*/cloud.json"):
        said = json.loads(file.read_text())
        if said["port"] == port and said["pid"] == process.pid:
            return RunningCloud(
                url=f"http://127.0.0.1:{port}/z/{ZONE}/v2",
                agent_url=f"http://{said['fabric_ip']}:{port}/z/{ZONE}/v2",
                key=said["key"],
                secret=said["secret"],
                http_port=said["http_port"],
            )
    return None


@pytest.fixture(scope="session")
def settings(cloud: RunningCloud) -> StackSettings:
    return StackSettings(
        key=cloud.key,
        secret=cloud.secret,
        endpoint=cloud.url,
        agent_endpoint=cloud.agent_url,
        http_port=cloud.http_port,
        zone=ZONE,
        speed=SPEED,
        max_size=4,
        slowapp_env={"LOAD_SECONDS": "10"},
    )


@pytest.fixture(scope="session")
def built(settings: StackSettings, cloud: RunningCloud) -> Iterator[Stack]:
    yield create(settings)
    destroy(settings)
    left = {
        "instances": cloud.client.list_instances()["instances"],
        "pools": cloud.client.list_instance_pools()["instance-pools"],
        "balancers": cloud.client.list_load_balancers()["load-balancers"],
        "roles": cloud.client.list_iam_roles()["iam-roles"],
        "keys": cloud.client.list_api_keys()["api-keys"],
    }
    assert not any(left.values()), f"destroy left {left}"


@dataclass(kw_only=True)
class Agent:
    """One of our agents as a container would run it: with the contract's environment."""

    process: subprocess.Popen[bytes]
    port: int
    targets: Path
    log: Path

    def decisions(self) -> list[dict[str, Any]]:
        answer = httpx2.get(f"http://127.0.0.1:{self.port}/decisions")
        return list(answer.raise_for_status().json()["decisions"])


@pytest.fixture
def make_key(cloud: RunningCloud) -> Iterator[Callable[[str, str], dict[str, str]]]:
    """Make a key that is good for one agent's work on one pool, and take it back in the end."""
    client, made = cloud.client, list[dict[str, str]]()

    def make(program: str, pool_id: str) -> dict[str, str]:
        name = f"{program}-{len(made)}"
        operation = client.create_iam_role(name=name, policy=POLICIES[program](pool_id))
        made.append(client.create_api_key(name=name, role_id=operation["reference"]["id"]))
        return dict(made[-1])

    yield make
    for key in made:
        client.delete_api_key(id=key["key"])
        client.delete_iam_role(id=key["role-id"])


@pytest.fixture
def start_agent(
    cloud: RunningCloud, make_key: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> Iterator[Callable[[str, str], Agent]]:
    started: list[Agent] = []

    def start(program: str, pool_id: str) -> Agent:
        port, log = free_port(), tmp_path / f"{program}.log"
        key = make_key(program, pool_id)
        environment = {
            "PATH": os.environ["PATH"],
            "EXOSCALE_KEY": key["key"],
            "EXOSCALE_SECRET": key["secret"],
            "EXOSCALE_ZONE": ZONE,
            "EXOSCALE_ZONE_ID": "4da1b188-dcd6-4ff5-b7fd-bde984055548",
            "EXOSCALE_INSTANCEPOOL_ID": pool_id,
            "LISTEN_PORT": str(port),
            "TARGET_PORT": "9100",
            # Beyond the contract: where this cloud is, and what a container would have to itself.
            "EXOSCALE_API_ENDPOINT": cloud.url,
            "EXOTIDE_JOURNAL": str(tmp_path / "journal.sqlite"),
            "EXOTIDE_TARGETS_FILE": str(tmp_path / "config.json"),
        }
        if program == "exotide-servicediscovery":
            environment["EXOTIDE_METRICS_PORT"] = str(free_port())
        with log.open("wb") as stream:
            process = subprocess.Popen([BIN / program], env=environment, stderr=stream)
        agent = Agent(process=process, port=port, targets=tmp_path / "config.json", log=log)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait()


@pytest.fixture
def loops(built: Stack) -> Iterator[Loops]:
    running = Loops(url=f"{built.url}/load")
    yield running
    running.stop()


@dataclass(kw_only=True)
class Loops:
    """Closed loops of GET /load, each a process of its own that ends with its last answer."""

    url: str
    processes: list[subprocess.Popen[str]] | None = None

    def start(self, count: int) -> None:
        curl = shutil.which("curl")
        assert curl, "curl is missing; install the Debian package curl"
        script = (
            'trap "stop=1" TERM; while [ -z "$stop" ]; do '
            f'{curl} -s -o /dev/null -m 120 -w "%{{http_code}}\\n" "$0" & wait $!; wait $!; done'
        )
        self.processes = [
            subprocess.Popen(["bash", "-c", script, self.url], stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]

    def stop(self) -> list[str]:
        """End the loops after their present request; give all status codes."""
        processes, self.processes = self.processes or [], None
        for process in processes:
            process.send_signal(signal.SIGTERM)
        return [code for process in processes for code in process.communicate()[0].split()]

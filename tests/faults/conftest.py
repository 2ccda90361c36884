"""A local cloud whose faults a test may set, from its own thread."""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest
import structlog

from exotide.cloud import control
from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.api.world import Pace
from exotide.cloud.command import app
from exotide.cloud.directory import Entry, publish
from exotide.cloud.drivers import Character
from exotide.cloud.faults.engine import Armed
from exotide.cloud.faults.model import Effect, Fault, Selector, Timing
from exotide.cloud.testing import FakeServers, RunningCloud, running_cloud

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cloud on fake drivers, its faults, and plain signed requests."""

    cloud: RunningCloud
    servers: FakeServers

    def on_loop(self, work: Callable[[], T]) -> T:
        """Run something where the cloud lives."""
        return self.cloud.on_loop(work)

    def on_loop_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something where the cloud lives."""
        return asyncio.run_coroutine_threadsafe(work, self.cloud.loop).result(10)

    def add(
        self,
        effect: Effect,
        *,
        selector: Selector | None = None,
        timing: Timing | None = None,
    ) -> Armed:
        fault = Fault(
            effect=effect, selector=selector or Selector(), timing=timing or Timing(seed=1)
        )
        return self.on_loop(lambda: self.cloud.cloud.world.faults.add(fault))

    def remove(self, fault_id: str) -> bool:
        return self.on_loop(lambda: self.cloud.cloud.world.faults.remove(fault_id))

    def clear(self) -> int:
        return self.on_loop(self.cloud.cloud.world.faults.clear)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.cloud.access.port, timeout=10)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        over: http.client.HTTPConnection | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one signed request; give status, headers (names in lower case) and body."""
        access, content = self.cloud.access, b"" if body is None else json.dumps(body).encode()
        full = f"/z/{access.zone}/v2{path}"
        place, _, query = full.partition("?")
        arguments = parse_qsl(query)
        names = [name for name, _ in arguments]
        expires = str(int(time.time()) + 600)
        signature = sign(
            SignedRequest(method=method, path=place, body=content, query=arguments),
            secret=access.secret,
            query_args=names,
            expires=expires,
        )
        signed = f",signed-query-args={';'.join(names)}" if names else ""
        header = f"EXO2-HMAC-SHA256 credential={access.key}{signed},expires={expires}"
        connection = over or self.connect()
        try:
            headers = {"Authorization": f"{header},signature={signature}"}
            connection.request(method, full, content or None, headers)
            answer = connection.getresponse()
            shown = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, shown, answer.read()
        finally:
            if over is None:
                connection.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        status, _, content = self.send(method, path, body)
        assert status == 200, content
        return json.loads(content)

    def order(self, **more: object) -> dict[str, object]:
        template = next(
            key for key, each in TEMPLATES.items() if each.zone == self.cloud.access.zone
        )
        return {
            "name": "web",
            "instance-type": {"id": next(iter(INSTANCE_TYPES))},
            "template": {"id": template},
            "disk-size": 10,
            **more,
        }

    def pool(self, size: int = 2, name: str = "web") -> str:
        """Make a pool and wait until it runs."""
        operation = self.ask("POST", "/instance-pool", self.order(name=name, size=size))
        self.cloud.settle()
        return str(operation["reference"]["id"])

    def operation(self, started: dict[str, Any]) -> Any:
        return self.ask("GET", f"/operation/{started['id']}")

    def wait(self, condition: Callable[[], object], timeout_s: float = 5.0) -> None:
        ends_at = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < ends_at, "it did not happen in time"
            time.sleep(0.005)


@pytest.fixture
def site() -> Iterator[Site]:
    servers = FakeServers()
    with running_cloud(servers=servers, pace=Pace(retry_s=0.01)) as cloud:
        yield Site(cloud=cloud, servers=servers)


@pytest.fixture
def folder(site: Site, tmp_path: Path) -> Iterator[Path]:
    """A run folder in which the site's cloud is found, and its control API listens."""
    home = tmp_path / "abc123"
    home.mkdir()
    cloud = site.cloud.cloud
    stack = AsyncExitStack()

    async def enter() -> None:
        await stack.enter_async_context(control.serving(cloud.world, home))

    site.on_loop_async(enter())
    entry = Entry(
        cloud_id="abc123",
        pid=os.getpid(),
        access=cloud.access,
        fabric_ip="",
        character=Character(servers="none"),
    )
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        publish(home, entry)
        yield tmp_path
    site.on_loop_async(stack.aclose())


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `exotide cloud ...`; give exit code, output and errors."""

    def call(*words: str) -> tuple[int, str, str]:
        code = app([*words, "--run-dir", str(folder)], result_action="return_value")
        said = capsys.readouterr()
        return int(code), said.out, said.err

    return call

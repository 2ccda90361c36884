"""An agent on a fake API, one pass at a time."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from exotide_servicediscovery.agent import Agent
from exotide_servicediscovery.client import Client
from exotide_servicediscovery.logs import make_log
from exotide_servicediscovery.metrics import Metrics
from exotide_servicediscovery.pools import ExoscalePools
from exotide_servicediscovery.service import CALL_S
from exotide_servicediscovery.settings import Settings

from .api import POOL_ID, FakeApi

SECRET = "correct-horse-battery-staple"


@dataclass
class Bench:
    """The agent with everything around it that a test wants to see."""

    agent: Agent
    api: FakeApi
    file: Path
    stream: io.StringIO

    loop: asyncio.AbstractEventLoop

    def refresh(self) -> None:
        self.loop.run_until_complete(self.agent.refresh())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the agent run in a thread; cancel it in the end, which it has a second for."""
        passes = self.loop.create_task(self.agent.run())

        def run() -> None:
            with suppress(asyncio.CancelledError):
                self.loop.run_until_complete(passes)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        self.loop.call_soon_threadsafe(passes.cancel)
        thread.join(1)
        assert not thread.is_alive()

    def targets(self) -> list[str]:
        """All targets in the file."""
        return [target for group in self.groups() for target in group["targets"]]

    def groups(self) -> Any:
        return json.loads(self.file.read_bytes())

    def metric(self, name: str, **labels: str) -> float:
        value = self.agent.metrics.registry.get_sample_value(f"exotide_discovery_{name}", labels)
        assert value is not None, name
        return value

    def last_log(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stream.getvalue().splitlines()[-1])
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def mode(self) -> int:
        return stat.S_IMODE(self.file.stat().st_mode)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def bench(api: FakeApi, tmp_path: Path) -> Iterator[Bench]:
    file = tmp_path / "service-discovery" / "config.json"
    settings = Settings(
        key="EXOkey",
        secret=SECRET,
        zone="at-vie-1",
        pool_id=POOL_ID,
        target_port=9100,
        endpoint=api.endpoint,
        targets_file=file,
        refresh_s=0.05,
    )
    stream = io.StringIO()
    client = Client("EXOkey", SECRET, endpoint=api.endpoint, timeout_s=CALL_S, environ={})
    agent = Agent(
        settings=settings,
        pools=ExoscalePools(client, pool_id=POOL_ID),
        metrics=Metrics(),
        log=make_log(stream),
        deadline_s=2.0,
    )
    with closing(asyncio.new_event_loop()) as loop:
        yield Bench(agent=agent, api=api, file=file, stream=stream, loop=loop)
        loop.run_until_complete(client.close())

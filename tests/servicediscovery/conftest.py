"""An agent on a fake API, one pass at a time."""

from __future__ import annotations

import io
import json
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from exotide_servicediscovery.agent import Agent
from exotide_servicediscovery.logs import make_log
from exotide_servicediscovery.metrics import Metrics
from exotide_servicediscovery.pools import ExoscalePools
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

    def refresh(self) -> None:
        self.agent.refresh()

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
    clients: list[ExoscalePools] = []

    def connect() -> ExoscalePools:
        clients.append(ExoscalePools(settings))
        return clients[-1]

    agent = Agent(
        settings=settings,
        connect=connect,
        metrics=Metrics(),
        log=make_log(stream),
        deadline_s=2.0,
    )
    yield Bench(agent=agent, api=api, file=file, stream=stream)
    api.release.set()
    end = time.monotonic() + 5
    while any(not call.done() for call in agent.calls) and time.monotonic() < end:
        time.sleep(0.01)
    for client in clients:
        client.close()

"""Service discovery on a local cloud that fails on demand: over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from exoscale.api.v2 import Client
from exotide_servicediscovery.agent import Agent
from exotide_servicediscovery.client import Client as DiscoveryClient
from exotide_servicediscovery.logs import make_log
from exotide_servicediscovery.metrics import Metrics
from exotide_servicediscovery.pools import ExoscalePools
from exotide_servicediscovery.service import CALL_S
from exotide_servicediscovery.settings import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.instance_pools import rules
from exotide.cloud.api.world import Pace
from exotide.cloud.faults.model import (
    BootFailure,
    BrokenBody,
    Drop,
    Duration,
    Effect,
    Fault,
    Latency,
    RateLimit,
    Selector,
    ServerError,
    Shortfall,
    StuckState,
    Timing,
)
from exotide.cloud.reset import reset
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.stack.policies import discovery_policy
from tests.sdk import key_for

PASS_WITHIN_S = 0.4


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    with running_cloud(pace=Pace(retry_s=0.01)) as running:
        yield running
    structlog.reset_defaults()


@dataclass
class Bench:
    """The agent on a real endpoint, and a pool that changes behind its back."""

    cloud: RunningCloud
    client: Any
    file: Path
    pool_id: str = ""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        template = next(
            key for key, each in TEMPLATES.items() if each.zone == self.cloud.access.zone
        )
        started = self.client.create_instance_pool(
            name="web",
            size=2,
            instance_type={"id": next(iter(INSTANCE_TYPES))},
            template={"id": template},
            disk_size=10,
        )
        self.pool_id = started["reference"]["id"]
        self.cloud.settle()
        access = self.cloud.access
        key = key_for(self.client, discovery_policy(self.pool_id))
        settings_ = Settings(
            key=key["key"],
            secret=key["secret"],
            zone=access.zone,
            pool_id=self.pool_id,
            target_port=9100,
            endpoint=access.endpoint,
            targets_file=self.file,
            refresh_s=0.05,
        )

        self.api = DiscoveryClient(
            key["key"], key["secret"], endpoint=access.endpoint, timeout_s=CALL_S, environ={}
        )
        self.agent = Agent(
            settings=settings_,
            pools=ExoscalePools(self.api, pool_id=self.pool_id),
            metrics=Metrics(),
            log=make_log(io.StringIO()),
            deadline_s=PASS_WITHIN_S,
        )

    def written(self) -> list[str] | None:
        """The targets in the file; None: there is none. Fails if it is no whole document."""
        if not self.file.exists():
            return None
        groups = json.loads(self.file.read_bytes())
        return sorted(target for group in groups for target in group["targets"])

    def truth(self) -> list[str]:
        members = self.cloud.cloud.world.members(self.pool_id)
        alive = [member for member in members if member.state != "error"]
        return sorted(f"{member.ip}:9100" for member in alive)

    def refresh(self) -> None:
        self.loop.run_until_complete(self.agent.refresh())

    def scale(self, size: int) -> None:
        """Change the pool without the API, so that no fault strikes the test itself."""

        def work() -> None:
            world = self.cloud.cloud.world
            pool = world.pools[self.pool_id]
            if pool.size != size:
                rules.scale(world, pool, size)

        self.there(work)
        self.cloud.settle()

    def add(self, fault: Fault) -> None:
        self.there(lambda: self.cloud.cloud.world.faults.add(fault))

    def heal(self) -> None:
        self.there(self.cloud.cloud.world.faults.clear)

    def there(self, work: Callable[[], object]) -> None:
        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self.cloud.loop).result(10)

    def close(self) -> None:
        self.heal()
        self.loop.run_until_complete(self.api.close())
        self.loop.close()
        emptying = reset(self.cloud.cloud.world)
        asyncio.run_coroutine_threadsafe(emptying, self.cloud.loop).result(10)


@contextmanager
def bench(cloud: RunningCloud) -> Iterator[Bench]:
    client = Client(cloud.access.key, cloud.access.secret, url=cloud.url)
    with closing(client.http_client), tempfile.TemporaryDirectory() as folder:
        made = Bench(cloud, client, Path(folder) / "config.json")
        with closing(made):
            yield made


effects: st.SearchStrategy[Effect] = st.one_of(
    st.builds(ServerError, status=st.sampled_from([500, 502, 503, 504])),
    st.builds(RateLimit, retry_after_s=st.just(1)),
    st.builds(BrokenBody, form=st.sampled_from(["truncated", "html", "wrong-type", "empty"])),
    st.builds(Drop, moment=st.sampled_from(["before", "after", "middle"])),
    st.builds(Latency, delay_s=st.sampled_from([Duration(first=0.02), Duration(first=0.6)])),
)
unkind: st.SearchStrategy[Effect] = st.one_of(
    st.builds(Shortfall, comes=st.integers(0, 1), gives_up=st.booleans()),
    st.builds(StuckState, state=st.sampled_from([None, "degraded"]), accepts=st.just(True)),
    st.builds(BootFailure, stays=st.just(True)),
)
"""Pools that have not what they were asked for."""
faults = st.builds(
    Fault, effect=unkind, timing=st.builds(Timing, seed=st.integers(0, 99))
) | st.builds(
    Fault,
    effect=effects,
    selector=st.builds(
        Selector, operation=st.sampled_from([None, None, "get-instance-pool", "list-instances"])
    ),
    timing=st.builds(
        Timing,
        seed=st.integers(0, 99),
        probability=st.sampled_from([1.0, 0.5]),
        count=st.sampled_from([None, 1, 3]),
    ),
)
steps = st.tuples(st.none() | faults, st.integers(1, 4), st.booleans())
"""A new fault, the pool's size from now on, and whether all faults end after the pass."""


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=2, max_size=6))
def test_whatever_fails_the_file_is_the_truth_or_the_truth_of_before_and_the_truth_in_the_end(
    cloud: RunningCloud, history: list[tuple[Fault | None, int, bool]]
) -> None:
    with bench(cloud) as site:
        for fault, size, ends in history:
            if fault is not None:
                site.add(fault)
            site.scale(size)
            before = site.written()
            site.refresh()
            assert site.written() in (before, site.truth())
            assert (site.written() == site.truth()) or site.agent.failures > 0
            if ends:
                site.heal()
        site.heal()
        site.refresh()
        assert site.written() == site.truth()
        assert site.agent.failures == 0

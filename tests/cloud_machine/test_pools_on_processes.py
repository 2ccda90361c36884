"""Pools under any order of changes and deaths, on real servers and a real proxy."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIClientException
from exoscale.api.v2 import Client
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from exotide.cloud import drivers
from exotide.cloud.api.world import Pace
from exotide.cloud.drivers import Wanted
from exotide.cloud.faults.model import (
    BootFailure,
    Death,
    Duration,
    EarlySuccess,
    Effect,
    FallBack,
    Fault,
    Shortfall,
    Staggered,
    Timing,
)
from exotide.cloud.servers.errors import UnknownServer
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.testing import running_cloud

pytestmark = pytest.mark.root
SOON = Duration(first=0.2)
NAMESPACES = Path("/run/netns")


class ProcessMachine(RuleBasedStateMachine):
    """Few examples, since each makes and removes a cloud with its servers."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud_id = uuid.uuid4().hex[:6]
        self.stack = ExitStack()
        run_dir = Path(tempfile.mkdtemp(prefix="exo-"))
        self.stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        driver = drivers.make("processes", Wanted(cloud_id=self.cloud_id, run_dir=run_dir))
        assert isinstance(driver.servers, ProcessServers)
        self.servers = driver.servers
        self.cloud = self.stack.enter_context(
            running_cloud(
                servers=driver.servers,
                balancers=driver.balancers,
                pace=Pace(stop_grace_s=0.5, retry_s=0.05),
            )
        )
        access = self.cloud.access
        self.client: Any = Client(access.key, access.secret, url=self.cloud.url)
        self.stack.callback(self.client.http_client.close)
        self.world = self.cloud.cloud.world

    def teardown(self) -> None:
        try:
            self.everything_agrees()
        finally:
            self.stack.close()
        assert self._namespaces() == set()

    @initialize()
    def a_pool_serves(self) -> None:
        types = self.client.list_instance_types()["instance-types"]
        made = self.client.create_instance_pool(
            name="web",
            size=1,
            instance_type={"id": next(each["id"] for each in types if each["size"] == "micro")},
            template={"id": self.client.list_templates()["templates"][0]["id"]},
            disk_size=10,
        )
        self.pool = made["reference"]["id"]
        self.balancer = self.client.create_load_balancer(name="lb")["reference"]["id"]
        self.cloud.settle(30)
        self.add_service(8000)

    @rule(size=st.integers(0, 3))
    def scale(self, size: int) -> None:
        self._try(self.client.scale_instance_pool, id=self.pool, size=size)

    @rule(number=st.integers(0, 2))
    def evict(self, number: int) -> None:
        if members := self.world.pools[self.pool].members:
            victim = members[number % len(members)]
            change = self.client.evict_instance_pool_members
            self._try(change, id=self.pool, instances=[victim])

    @rule(number=st.integers(0, 2))
    def delete_member(self, number: int) -> None:
        if members := self.world.pools[self.pool].members:
            victim = members[number % len(members)]
            self._try(self.client.delete_instance, id=victim)

    @rule(number=st.integers(0, 2))
    def a_server_dies(self, number: int) -> None:
        running = [each.id for each in self.world.instances.values() if each.state == "running"]
        if running:
            dying = self.servers.crash(running[number % len(running)])
            with suppress(UnknownServer):  # it has died, and the API has not heard of it yet
                asyncio.run_coroutine_threadsafe(dying, self.cloud.loop).result(10)

    @rule(port=st.integers(8000, 8002))
    def add_service(self, port: int) -> None:
        self._try(
            self.client.add_service_to_load_balancer,
            id=self.balancer,
            name=f"service-{port}",
            instance_pool={"id": self.pool},
            protocol="tcp",
            strategy="round-robin",
            port=port,
            target_port=9100,
            healthcheck={"mode": "tcp", "port": 9100},
        )

    @rule()
    def delete_a_service(self) -> None:
        for service in list(self.world.load_balancers[self.balancer].services)[:1]:
            change = self.client.delete_load_balancer_service
            self._try(change, id=self.balancer, service_id=service)

    @rule(
        effect=st.sampled_from(
            [
                Shortfall(),
                Staggered(delay_s=SOON),
                FallBack(delay_s=SOON),
                FallBack(delay_s=SOON, fresh=True),
                BootFailure(stays=True),
                Death(delay_s=SOON, stays=True),
                EarlySuccess(),
            ]
        )
    )
    def the_next_change_goes_wrong(self, effect: Effect) -> None:
        fault = Fault(effect=effect, timing=Timing(seed=1, count=1))
        self.cloud.on_loop(lambda: self.world.faults.add(fault))

    @rule()
    def everything_agrees(self) -> None:
        """Nobody tells when a death is noticed, so that agreement is waited for."""
        self.cloud.on_loop(self.world.faults.clear)
        deadline_s = time.monotonic() + 20
        while faults := self._disagreements():
            assert time.monotonic() < deadline_s, faults
            time.sleep(0.05)

    def _disagreements(self) -> list[str]:
        self.cloud.settle(30)
        pool = self.world.pools[self.pool]
        members = [self.world.instances[key] for key in pool.members]
        if pool.missing != 0:
            return [f"{pool.missing} members are missing"]
        faults = [f"{each.id} is {each.state}" for each in members if each.state != "running"]
        if set(self.world.instances) != {each.id for each in members}:
            faults.append("there are instances beside the members")
        wanted = {each.id[:8] for each in members} | {self.balancer[:8]}
        if self._namespaces() != wanted:
            faults.append(f"namespaces are {self._namespaces()}, not {wanted}")
        ips = {each.ip for each in members}
        for service in self.world.load_balancers[self.balancer].services:
            backends = set(self.cloud.balancers.health(self.balancer, service))
            if backends != ips:
                faults.append(f"backends are {backends}, not {ips}")
        return faults

    def _namespaces(self) -> set[str]:
        prefix = f"exotide-{self.cloud_id}-"
        return {each.name.removeprefix(prefix) for each in NAMESPACES.glob(f"{prefix}*")}

    def _try(self, change: Callable[..., Any], **wanted: Any) -> None:
        """Busy and in use are ordinary answers when changes meet."""
        try:
            change(**wanted)
        except ExoscaleAPIClientException as refused:
            if refused.response.status_code not in {404, 409}:
                raise


ProcessMachine.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=10,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)
TestPoolsOnProcesses = ProcessMachine.TestCase

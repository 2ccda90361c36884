"""Pools and balancers under any order of changes and faults, each caught half-way by the next."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.states import InstanceState, PoolState

from .asgi import POOL, LocalApi
from .test_validation import CHECK, UNKNOWN

ORDINARY: Final = {200, 400, 404, 409, 412}
MOST_POOLS: Final = 3
NUMBERS: Final = st.integers(0, 9)
"""Choose one of what exists at that moment."""


class PoolMachine(RuleBasedStateMachine):
    """Sends requests while others are under way; looks at the agreement of all three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalApi()
        self.world, self.servers = self.local.world, self.local.servers
        self.numbers = count(1)
        self.wanted: dict[str, int | None] = {}
        """By pool, the size that the last accepted change asked for. None: a boot may fail."""

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            self.local.close()

    def _ends_well(self) -> None:
        """Whatever happened: in the end everything agrees, and all of it can be removed."""
        self.local.settle()
        self._agrees()
        for balancer in list(self.world.load_balancers):
            assert self._status("DELETE", f"load-balancer/{balancer}") == 200
        self.local.settle()
        for pool in list(self.world.pools):
            assert self._status("DELETE", f"instance-pool/{pool}") == 200
        self.local.settle()
        assert (self.world.pools, self.world.instances) == ({}, {})
        assert (self.servers.running, self.servers.reserved) == ({}, frozenset())
        balancers = self.local.balancers
        assert (balancers.addresses, balancers.services, balancers.members) == ({}, {}, {})

    @initialize(size=st.integers(1, 3))
    def a_pool_serves(self, size: int) -> None:
        self.make_balancer()
        self.make_pool(size)
        self.local.settle()
        self.add_service(0)

    @rule(turns=st.integers(1, 8))
    def time_passes(self, turns: int) -> None:
        self.local.turns(turns)

    @rule()
    def everything_settles(self) -> None:
        self.local.settle()
        self._agrees()
        if not self.servers._failures:
            self.wanted = {pool.id: pool.size for pool in self.world.pools.values()}

    @rule(size=st.integers(1, 3))
    def make_pool(self, size: int) -> None:
        if len(self.world.pools) < MOST_POOLS:
            answer = self._send("POST", "instance-pool", POOL | {"size": size})
            if "reference" in answer:
                failing = bool(self.servers._failures)
                self.wanted[answer["reference"]["id"]] = None if failing else size

    @rule(number=NUMBERS)
    def delete_pool(self, number: int) -> None:
        pool = self._one_of(self.world.pools, number)
        if self._status("DELETE", f"instance-pool/{pool}") == 200:
            assert self.world.services_of(pool) == []
            del self.wanted[pool]

    @rule(number=NUMBERS, size=st.integers(0, 6))
    def scale(self, number: int, size: int) -> None:
        pool = self._one_of(self.world.pools, number)
        self._change(pool, size, ":scale", {"size": size})

    @rule(number=NUMBERS, chosen=st.sets(st.integers(0, 5), min_size=1))
    def evict(self, number: int, chosen: set[int]) -> None:
        key = self._one_of(self.world.pools, number)
        pool = self.world.pools.get(key)
        members = pool.members if pool else []
        victims = [member for place, member in enumerate(members) if place in chosen]
        self._change(key, len(members) - len(victims), ":evict", {"instances": victims})

    @rule(number=NUMBERS)
    def update(self, number: int) -> None:
        pool = self._one_of(self.world.pools, number)
        self._send("PUT", f"instance-pool/{pool}", {"labels": {"role": "member"}})

    @rule(number=NUMBERS)
    def delete_instance(self, number: int) -> None:
        self._send("DELETE", f"instance/{self._one_of(self.world.instances, number)}")

    @rule(number=NUMBERS, action=st.sampled_from(["start", "stop", "reboot", "reset"]))
    def power(self, number: int, action: str) -> None:
        self._send("PUT", f"instance/{self._one_of(self.world.instances, number)}:{action}", {})

    @rule()
    def make_balancer(self) -> None:
        if not self.world.load_balancers:
            self._send("POST", "load-balancer", {"name": f"lb-{next(self.numbers)}"})

    @rule()
    def delete_balancer(self) -> None:
        self._send("DELETE", f"load-balancer/{self._balancer()}")

    @rule(number=NUMBERS)
    def add_service(self, number: int) -> None:
        port = next(self.numbers)
        service = {
            "name": f"service-{port}",
            "instance-pool": {"id": self._one_of(self.world.pools, number)},
            "protocol": "tcp",
            "strategy": "round-robin",
            "port": port,
            "target-port": 8080,
            "healthcheck": CHECK,
        }
        self._send("POST", f"load-balancer/{self._balancer()}/service", service)

    @rule(number=NUMBERS)
    def update_service(self, number: int) -> None:
        change = {"protocol": "tcp", "strategy": "source-hash", "target-port": next(self.numbers)}
        self._send("PUT", self._service(number), change)

    @rule(number=NUMBERS)
    def delete_service(self, number: int) -> None:
        self._send("DELETE", self._service(number))

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        if self.servers.running:
            self.servers.kill(self._one_of(self.servers.running, number))
            self.local.turns(1)  # a kill is no task, so that nothing would wait for it

    @rule()
    def whoever_boots_dies_of_it(self) -> None:
        booting = InstanceState.STARTING
        self.servers.dies_at_boot |= {
            instance.id for instance in self.world.instances.values() if instance.state is booting
        }

    @rule(times=st.integers(1, 3))
    def boots_fail(self, times: int) -> None:
        self.servers.fail_next_start(times=times)
        self.wanted = dict.fromkeys(self.wanted)

    @rule(times=st.integers(1, 3), is_members=st.booleans())
    def the_balancer_fails(self, times: int, is_members: bool) -> None:
        for _ in range(times):
            if is_members:
                self.local.balancers.fail_next_members()
            else:
                self.local.balancers.fail_next_call()

    @invariant()
    def every_listed_member_can_be_read_and_is_listed_once(self) -> None:
        for pool in self.world.pools.values():
            assert len(set(pool.members)) == len(pool.members)
            for member in pool.members:
                assert self.world.instances[member].pool_id == pool.id

    @invariant()
    def every_server_that_runs_has_an_address_of_its_own_that_is_reserved(self) -> None:
        ips = [spec.ip for spec in self.servers.running.values()]
        assert len(set(ips)) == len(ips)
        assert set(ips) <= self.servers.reserved

    def _agrees(self) -> None:
        serving = {key for pool in self.world.pools.values() for key in self._serving(pool)}
        assert set(self.servers.running) == serving
        instances = self.world.instances
        assert set(instances) == {m for pool in self.world.pools.values() for m in pool.members}
        addresses = [instance.ip for instance in instances.values()]
        addresses += [balancer.ip for balancer in self.world.load_balancers.values()]
        assert sorted(addresses) == sorted(self.servers.reserved)
        services = [key for each in self.world.load_balancers.values() for key in each.services]
        assert set(self.local.balancers.members) == set(services)
        for pool, size in self.wanted.items():
            assert size is None or len(self.world.pools[pool].members) == size

    def _serving(self, pool: Pool) -> set[str]:
        """Compare a pool with its services; give the members that run."""
        assert pool.state is PoolState.RUNNING
        members = [self.world.instances[member] for member in pool.members]
        states = {member.state for member in members}
        assert states <= {InstanceState.RUNNING, InstanceState.STOPPED}, states
        running = {member.id for member in members if member.state is InstanceState.RUNNING}
        ips = sorted(self.world.instances[key].ip for key in running)
        for balancer, service in self.world.services_of(pool.id):
            spec = self.local.balancers.services[balancer.id][service.id]
            assert spec == service.spec(self.world.pace.speed)
            assert sorted(self.local.balancers.members[service.id]) == ips
        return running

    def _one_of(self, known: Collection[str], number: int) -> str:
        return list(known)[number % len(known)] if known else UNKNOWN

    def _balancer(self) -> str:
        return self._one_of(self.world.load_balancers, 0)

    def _service(self, number: int) -> str:
        balancer = self.world.load_balancers.get(self._balancer())
        service = self._one_of(balancer.services if balancer else (), number)
        return f"load-balancer/{self._balancer()}/service/{service}"

    def _change(self, pool: str, size: int, action: str, body: object) -> None:
        if self._status("PUT", f"instance-pool/{pool}{action}", body) == 200:
            self.wanted[pool] = None if self.servers._failures else size

    def _status(self, method: str, path: str, body: object = None) -> int:
        answer = self.local.call(method, f"/v2/{path}", body)
        assert answer.status in ORDINARY, answer
        return answer.status

    def _send(self, method: str, path: str, body: object = None) -> Any:
        answer = self.local.call(method, f"/v2/{path}", body)
        assert answer.status in ORDINARY, answer
        return answer.body


PoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase

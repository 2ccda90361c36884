"""Pools under any order of scale, evict, kill, delete and failing boots, caught half-way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exotide.cloud.api.states import InstanceState, PoolState

from .asgi import POOL, LocalApi
from .test_validation import CHECK, UNKNOWN

ORDINARY = {200, 400, 404, 409, 412}


class PoolMachine(RuleBasedStateMachine):
    """Sends requests while others are under way; looks at the agreement of all three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalApi()
        self.pool = self._make_pool()
        self.nlb = self._send("POST", "load-balancer", {"name": "lb"})["reference"]["id"]
        self.local.settle()
        self._add_service()
        self.local.settle()
        self.wanted: int | None = 1
        """The size that the last accepted change asked for. None: a boot may have failed since."""

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            self.local.close()

    def _ends_well(self) -> None:
        """Whatever happened: in the end everything agrees, and all of it can be removed."""
        self.local.settle()
        self._agrees()
        balancer = self.local.world.load_balancers[self.nlb]
        for service in list(balancer.services):
            self._send("DELETE", f"load-balancer/{self.nlb}/service/{service}")
        self.local.settle()
        for pool in list(self.local.world.pools):
            self._send("DELETE", f"instance-pool/{pool}")
        self._send("DELETE", f"load-balancer/{self.nlb}")
        self.local.settle()
        assert (self.local.world.pools, self.local.world.instances) == ({}, {})
        assert (self.local.servers.running, self.local.servers.reserved) == ({}, frozenset())

    @rule(turns=st.integers(1, 8))
    def time_passes(self, turns: int) -> None:
        self.local.turns(turns)

    @rule()
    def everything_settles(self) -> None:
        self.local.settle()
        self._agrees()

    @rule(size=st.integers(0, 6))
    def scale(self, size: int) -> None:
        self._change(size, "PUT", f"instance-pool/{self.pool}:scale", {"size": size})

    @rule(chosen=st.sets(st.integers(0, 5), min_size=1))
    def evict(self, chosen: set[int]) -> None:
        members = self._members()
        victims = [member for number, member in enumerate(members) if number in chosen]
        if victims:
            self._change(
                len(members) - len(victims),
                "PUT",
                f"instance-pool/{self.pool}:evict",
                {"instances": victims},
            )

    @rule(number=st.integers(0, 9))
    def delete_instance(self, number: int) -> None:
        self._send("DELETE", f"instance/{self._one_of(self.local.world.instances, number)}")

    @rule(number=st.integers(0, 9), action=st.sampled_from(["start", "stop", "reboot", "reset"]))
    def power(self, number: int, action: str) -> None:
        key = self._one_of(self.local.world.instances, number)
        self._send("PUT", f"instance/{key}:{action}", {})

    @rule(number=st.integers(0, 9))
    def kill(self, number: int) -> None:
        if self.local.servers.running:
            self.local.servers.kill(self._one_of(self.local.servers.running, number))
            self.local.turns(1)  # a kill is no task, so that nothing would wait for it

    @rule(times=st.integers(1, 3))
    def boots_fail(self, times: int) -> None:
        self.local.servers.fail_next_start(times=times)
        self.wanted = None

    @rule()
    def update(self) -> None:
        self._send("PUT", f"instance-pool/{self.pool}", {"labels": {"role": "member"}})

    @rule()
    def delete_pool_and_make_another(self) -> None:
        """Refused while the service is there; then the service goes, too."""
        self.local.settle()
        assert self._status("DELETE", f"instance-pool/{self.pool}") == 409
        world = self.local.world
        for service in list(world.load_balancers[self.nlb].services):
            self._send("DELETE", f"load-balancer/{self.nlb}/service/{service}")
        self.local.settle()
        assert self._status("DELETE", f"instance-pool/{self.pool}") == 200
        self.local.settle()
        assert (world.pools, self.local.servers.running) == ({}, {})
        while self.pool not in world.pools:  # its boot may fail
            self.pool = self._make_pool()
            self.local.settle()
        self._add_service()
        self.local.settle()
        self.wanted = 1

    @invariant()
    def every_listed_member_can_be_read_and_is_listed_once(self) -> None:
        for pool in self.local.world.pools.values():
            assert len(set(pool.members)) == len(pool.members)
            for member in pool.members:
                assert self.local.world.instances[member].pool_id == pool.id

    @invariant()
    def every_server_that_runs_has_an_address_that_is_reserved(self) -> None:
        servers = self.local.servers
        assert {spec.ip for spec in servers.running.values()} <= servers.reserved

    def _agrees(self) -> None:
        world, servers = self.local.world, self.local.servers
        serving = set()
        for pool in world.pools.values():
            assert pool.state is PoolState.RUNNING
            members = [world.instances[member] for member in pool.members]
            states = {member.state for member in members}
            assert states <= {InstanceState.RUNNING, InstanceState.STOPPED}, states
            running = {member.id for member in members if member.state is InstanceState.RUNNING}
            serving |= running
            ips = sorted(world.instances[key].ip for key in running)
            for _, service in world.services_of(pool.id):
                assert sorted(self.local.balancers.members[service.id]) == ips
        assert set(servers.running) == serving
        assert set(world.instances) == {m for pool in world.pools.values() for m in pool.members}
        if self.wanted is not None:
            assert len(self._members()) == self.wanted

    def _members(self) -> list[str]:
        return list(self.local.world.pools[self.pool].members)

    def _one_of(self, known: Collection[str], number: int) -> str:
        return list(known)[number % len(known)] if known else UNKNOWN

    def _change(self, size: int, method: str, path: str, body: object) -> None:
        if self._status(method, path, body) == 200 and self.wanted is not None:
            self.wanted = size

    def _make_pool(self) -> str:
        return str(self._send("POST", "instance-pool", POOL)["reference"]["id"])

    def _add_service(self) -> None:
        service = {
            "name": "s",
            "instance-pool": {"id": self.pool},
            "protocol": "tcp",
            "strategy": "round-robin",
            "port": 80,
            "target-port": 8080,
            "healthcheck": CHECK,
        }
        self._send("POST", f"load-balancer/{self.nlb}/service", service)

    def _status(self, method: str, path: str, body: object = None) -> int:
        answer = self.local.call(method, f"/v2/{path}", body)
        assert answer.status in ORDINARY, answer
        return answer.status

    def _send(self, method: str, path: str, body: object = None) -> Any:
        answer = self.local.call(method, f"/v2/{path}", body)
        assert answer.status in ORDINARY, answer
        return answer.body


PoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestPool = PoolMachine.TestCase

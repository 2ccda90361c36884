"""Single instances and their groups under any order of changes, caught half-way."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exotide.cloud.api.catalogue import INSTANCE_TYPES
from exotide.cloud.api.states import InstanceState

from .asgi import INSTANCE, POOL, LocalApi

ORDINARY = {200, 400, 403, 404, 409, 412}
SIZES = ("micro", "tiny", "extra-large")
TYPES = [{"id": kind.id} for kind in INSTANCE_TYPES.values() if kind.size in SIZES]
numbers = st.integers(0, 5)
some = st.sets(st.integers(0, 1))


class InstanceMachine(RuleBasedStateMachine):
    """Two groups of each kind and up to a dozen instances, some of them in a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalApi()
        self.groups = [self._group("security-group", name) for name in "ab"]
        self.apart = [self._group("anti-affinity-group", name) for name in "ab"]
        self.pool = self.local.make("/v2/instance-pool", POOL)
        self.families: dict[str, str] = {}
        self.protected: set[str] = set()

    def teardown(self) -> None:
        """In the end all of it can be removed, the groups last."""
        try:
            self.local.settle()
            for key in self.protected:
                self.local.done("PUT", f"/v2/instance/{key}:remove-protection")
            self.local.done("DELETE", f"/v2/instance-pool/{self.pool}")
            for key in list(self.local.world.instances):
                self.local.done("DELETE", f"/v2/instance/{key}")
            for path in (*self.groups, *self.apart):
                self.local.done("DELETE", path)
            assert (self.local.servers.running, self.local.servers.reserved) == ({}, frozenset())
        finally:
            self.local.close()

    @rule(turns=st.integers(1, 8))
    def time_passes(self, turns: int) -> None:
        self.local.turns(turns)

    @rule()
    def everything_settles(self) -> None:
        self.local.settle()

    @rule(kind=st.sampled_from(TYPES), groups=some, apart=some, starts=st.booleans())
    def create(self, kind: Any, groups: set[int], apart: set[int], *, starts: bool) -> None:
        body = INSTANCE | {"instance-type": kind, "auto-start": starts}
        body |= {"security-groups": [{"id": self._key(self.groups[each])} for each in groups]}
        body |= {"anti-affinity-groups": [{"id": self._key(self.apart[each])} for each in apart]}
        self._send("POST", "/v2/instance", body)

    @rule(size=st.integers(0, 9), apart=some)
    def change_pool(self, size: int, apart: set[int]) -> None:
        refs = [{"id": self._key(self.apart[each])} for each in apart]
        path = f"/v2/instance-pool/{self.pool}"
        self._send("PUT", path, {"anti-affinity-groups": refs})
        self.local.settle()
        self._send("PUT", f"{path}:scale", {"size": size})

    @rule(number=numbers, action=st.sampled_from(["start", "stop", "reboot", "reset"]))
    def power(self, number: int, action: str) -> None:
        self._send("PUT", f"/v2/instance/{self._one(number)}:{action}", {})

    @rule(number=numbers, kind=st.sampled_from(TYPES))
    def scale(self, number: int, kind: Any) -> None:
        self._send("PUT", f"/v2/instance/{self._one(number)}:scale", {"instance-type": kind})

    @rule(number=numbers, disk_gib=st.sampled_from([9, 10, 200, 201, 400, 401, 800, 801]))
    def resize(self, number: int, disk_gib: int) -> None:
        key = self._one(number)
        known = self.local.world.instances.get(key)
        before = 0 if known is None else known.plan.disk_gib
        if self._send("PUT", f"/v2/instance/{key}:resize-disk", {"disk-size": disk_gib}) == 200:
            assert disk_gib >= before

    @rule(number=numbers)
    def protect(self, number: int) -> None:
        key = self._one(number)
        if self._send("PUT", f"/v2/instance/{key}:add-protection") == 200:
            self.protected.add(key)

    @rule(number=numbers)
    def unprotect(self, number: int) -> None:
        key = self._one(number)
        if self._send("PUT", f"/v2/instance/{key}:remove-protection") == 200:
            self.protected.discard(key)

    @rule(number=numbers, group=st.integers(0, 1), action=st.sampled_from(["attach", "detach"]))
    def change_groups(self, number: int, group: int, action: str) -> None:
        body = {"instance": {"id": self._one(number)}}
        self._send("PUT", f"{self.groups[group]}:{action}", body)

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        self._send("DELETE", f"/v2/instance/{self._one(number)}")

    @rule(group=st.integers(0, 1), kind=st.sampled_from(["groups", "apart"]))
    def delete_group(self, group: int, kind: str) -> None:
        """It is refused while it is in use; one that was not is made again."""
        paths = getattr(self, kind)
        if self._send("DELETE", paths[group]) == 200:
            paths[group] = self._group(paths[group].split("/")[2], f"{kind}{group}")

    @invariant()
    def every_group_that_is_named_exists_and_keeps_its_limit(self) -> None:
        world = self.local.world
        for instance in world.instances.values():
            assert set(instance.plan.security_groups) <= world.security_groups.keys()
            assert set(instance.plan.anti_affinity_groups) <= world.anti_affinity_groups.keys()
        for path in self.apart:
            assert len(self.local.show(path)["instances"]) <= 8

    @invariant()
    def disks_fit_their_types_and_types_keep_their_family(self) -> None:
        for instance in self.local.world.instances.values():
            kind = instance.plan.instance_type
            assert 10 <= instance.plan.disk_gib <= kind.most_disk_gib
            assert self.families.setdefault(instance.id, kind.family) == kind.family

    @invariant()
    def what_is_protected_is_there(self) -> None:
        for key in self.protected:
            assert self.local.world.instances[key].state is not InstanceState.DESTROYING

    def _group(self, kind: str, name: str) -> str:
        return f"/v2/{kind}/" + self.local.make(f"/v2/{kind}", {"name": name})

    def _key(self, path: str) -> str:
        return path.rsplit("/", 1)[-1]

    def _one(self, number: int) -> str:
        known = list(self.local.world.instances)
        return known[number % len(known)] if known else self.pool

    def _send(self, method: str, path: str, body: object = None) -> int:
        answer = self.local.call(method, path, body)
        assert answer.status in ORDINARY, answer
        return answer.status


InstanceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInstances = InstanceMachine.TestCase

"""What a client may rely on when its cloud has a bad day; the real one has none on demand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from exoscale.api.exceptions import (
    ExoscaleAPIAuthException,
    ExoscaleAPIClientException,
    ExoscaleAPIServerException,
)
from requests import RequestException

from exotide.cloud.faults.model import (
    BootFailure,
    Drop,
    Duration,
    EarlySuccess,
    Effect,
    FailingOperation,
    FallBack,
    ForeignChange,
    Lag,
    Protection,
    ServerError,
    Shortfall,
    Staggered,
    StuckOperation,
    StuckState,
    WrongField,
)

from .site import Site

pytestmark = pytest.mark.misbehaving
LOOKS_FOR_S: Final = 0.5
"""Longer than a change takes here; what a fault holds is held for as long as that."""
SOON: Final = Duration(first=0.15)
STATES: Final = {"running", "scaling-up", "scaling-down", "updating"}
OF_CHANGES: Final[tuple[Effect, ...]] = (
    Shortfall(),
    Shortfall(gives_up=True, message="the zone is full"),
    Staggered(delay_s=SOON),
    Staggered(delay_s=SOON, late_size=True),
    FallBack(delay_s=SOON),
    FallBack(delay_s=SOON, fresh=True),
    StuckState(),
    StuckState(state="degraded", accepts=True),
    BootFailure(stays=True),
    BootFailure(),
    FailingOperation(),
    StuckOperation(),
    StuckOperation(carried_out=True),
    EarlySuccess(),
)
OF_SERVERS: Final[tuple[Effect, ...]] = (
    Staggered(delay_s=SOON),
    FallBack(delay_s=SOON),
    BootFailure(stays=True),
)


@pytest.fixture(autouse=True)
def mended(site: Site, pool: str) -> Iterator[None]:
    """Faults are of one test, and the pool comes to its size after them."""
    if site.cloud is None:
        pytest.skip("NOT TESTED against the real Exoscale: it has no faults on demand")
    yield
    site.mend()
    comes_to_its_size(site, pool)


@dataclass(kw_only=True)
class Watch:
    """Looks at a pool again and again; each look must fit what a client may rely on."""

    site: Site
    pool: str
    sizes: tuple[int, int]
    """The old size and the one that was asked for."""
    may_return: bool = False
    """Whether a member that was gone may be one again."""
    words: set[str]
    listed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    outcome: str = "pending"

    def look(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Read the pool and the operation once."""
        seen: dict[str, Any] = self.site.client.get_instance_pool(id=self.pool)
        members = [each["id"] for each in seen["instances"]]
        assert len(set(members)) == len(members)
        assert min(self.sizes) <= seen["size"] <= max(self.sizes)
        assert seen["state"] in self.words
        assert len(members) <= max(self.sizes)
        self.gone |= self.listed - set(members)
        self.listed = set(members)
        assert self.may_return or not self.listed & self.gone
        state = self.site.client.get_operation(id=operation["id"])["state"]
        assert state in {"pending", "success", "failure"}
        assert self.outcome in {"pending", state}
        self.outcome = state
        return seen


def comes_to_its_size(site: Site, pool: str) -> dict[str, Any]:
    """Without faults a pool has as many members as its size, all running, and no other."""

    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = site.client.get_instance_pool(id=pool)
        found = site.client.list_instances(manager_id=pool, manager_type="instance-pool")
        states = {each["id"]: each["state"] for each in found["instances"]}
        members = {each["id"] for each in seen["instances"]}
        whole = seen["state"] == "running" and seen["size"] == len(members)
        return seen if whole and states == dict.fromkeys(members, "running") else None

    return site.eventually(look, f"pool {pool} of its size with members that run")


@pytest.mark.parametrize("site", ["fake"], indirect=True, scope="session")
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("effect", OF_CHANGES, ids=lambda effect: str(effect.kind))
def test_a_change_of_size_stays_between_the_old_size_and_the_one_asked_for(
    site: Site, pool: str, effect: Effect, size: int
) -> None:
    changes_within_bounds(site, pool, effect, size)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("effect", OF_SERVERS, ids=lambda effect: str(effect.kind))
def test_so_it_does_where_servers_are_real(
    site: Site, pool: str, effect: Effect, size: int
) -> None:
    changes_within_bounds(site, pool, effect, size)


def changes_within_bounds(site: Site, pool: str, effect: Effect, size: int) -> None:
    """Change the size of a pool of two under a fault, and look at it all the time."""
    site.scale(pool, 2)
    site.fault(effect)
    watch = Watch(
        site=site,
        pool=pool,
        sizes=(2, size),
        may_return=isinstance(effect, FallBack),
        words=STATES | {getattr(effect, "state", None) or "running"},
    )
    started = site.client.scale_instance_pool(id=pool, size=size)
    for _ in range(round(LOOKS_FOR_S / site.poll_s)):
        watch.look(started)
        time.sleep(site.poll_s)
    site.mend()
    site.ended(started)
    ended = comes_to_its_size(site, pool)
    assert min(2, size) <= ended["size"] <= max(2, size)
    assert watch.look(started) == ended


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "effect",
    [Drop(moment="after", failing_reads=2), ServerError(carried_out=True, failing_reads=2)],
    ids=lambda effect: str(effect.kind),
)
def test_a_change_whose_answer_is_lost_may_be_asked_for_again(
    site: Site, pool: str, effect: Effect, size: int
) -> None:
    site.scale(pool, 2)
    site.fault(effect, operation="scale-instance-pool", count=1)
    with pytest.raises((RequestException, ExoscaleAPIServerException)):
        site.client.scale_instance_pool(id=pool, size=size)
    for _ in range(2):
        with pytest.raises(ExoscaleAPIServerException):
            site.client.list_instances(manager_id=pool)
    assert site.pool(pool)["size"] == size
    before = site.members(pool)
    assert site.scale(pool, size) == before


def test_one_member_cannot_go_and_is_named_while_another_can(site: Site, pool: str) -> None:
    old, young = site.scale(pool, 2)
    site.done(site.client.add_instance_protection(id=old))
    evict = site.client.evict_instance_pool_members
    with pytest.raises(ExoscaleAPIAuthException, match=f"{old} is forbidden - reason: "):
        evict(id=pool, instances=[old])
    with pytest.raises(ExoscaleAPIAuthException, match=f"{old} is forbidden - reason: "):
        site.client.scale_instance_pool(id=pool, size=1)
    site.done(evict(id=pool, instances=[young]))
    assert site.members(pool) == [old]
    site.done(site.client.remove_instance_protection(id=old))
    site.fault(Protection(status=409))
    with pytest.raises(ExoscaleAPIClientException, match=old):
        evict(id=pool, instances=[old])


def test_a_list_that_lags_shows_who_left_and_not_who_came_and_then_the_truth(
    site: Site, pool: str
) -> None:
    old, young = site.scale(pool, 2)
    site.fault(Lag(behind_s=0.5), operation="list-instances")

    def listed() -> set[str]:
        found = site.client.list_instances(manager_id=pool)["instances"]
        return {each["id"] for each in found}

    assert listed() == {old, young}
    site.done(site.client.evict_instance_pool_members(id=pool, instances=[old]))
    fresh = set(site.scale(pool, 2)) - {young}
    seen = site.eventually(lambda: listed() if listed() != {old, young} else None, "change")
    assert seen <= {old, young, *fresh}
    assert young in seen
    site.eventually(lambda: listed() == {young, *fresh} or None, "truth")


def test_a_field_that_is_missing_is_missing_and_nothing_else_is(site: Site, pool: str) -> None:
    (whole,) = site.client.list_instances(manager_id=pool)["instances"]
    site.fault(WrongField(field="created-at", of=whole["id"]), operation="list-instances")
    (seen,) = site.client.list_instances(manager_id=pool)["instances"]
    del whole["created-at"]
    assert seen == whole


@pytest.mark.parametrize(("change", "size"), [("grow", 3), ("shrink", 1), ("delete", 2)])
def test_somebody_elses_change_is_seen_as_any_other(
    site: Site, pool: str, change: Any, size: int
) -> None:
    before = site.scale(pool, 2)
    site.fault(ForeignChange(change=change), operation="get-instance-pool", count=1)
    site.client.get_instance_pool(id=pool)
    seen = comes_to_its_size(site, pool)
    assert seen["size"] == size
    assert (before[0] in site.members(pool)) is (change == "grow")

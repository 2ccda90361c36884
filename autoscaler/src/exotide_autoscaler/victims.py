"""Finds out who goes when the pool shrinks: asks the cloud, remembers who could not go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from exotide_autoscaler.domain import Member, Policy, Pool, Reason, Request
from exotide_autoscaler.errors import CloudError
from exotide_autoscaler.policy import rank_victims
from exotide_autoscaler.ports import Pools

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who goes, or why nobody was chosen yet."""

    victims: tuple[str, ...] = ()
    """Empty without a reason to wait: the size is lowered, and the cloud chooses."""
    wait: Reason | None = None
    detail: str = ""


class Chooser:
    """Chooses one member for a request; times are seconds on the monotonic clock."""

    def __init__(self, pools: Pools, policy: Policy) -> None:
        self._pools = pools
        self._policy = policy
        self._spared_until: dict[str, float] = {}
        self._unread: tuple[int | None, float] | None = None
        """The request whose members' ages cannot be read, and since when."""

    def spare(self, members: Iterable[str], *, now: float) -> None:
        """Leave members alone for ten intervals: the cloud said that they cannot go."""
        for member in members:
            self._spared_until[member] = now + 10 * self._policy.interval_s

    async def choose(
        self, pool: Pool, request: Request | None, *, stuck: bool, now: float
    ) -> Choice:
        """
        Choose who goes; never a second one while a first may be on its way.

        A pool that does not settle loses a member in state `error`, or one that never came: that
        one has no id, so the size is lowered.
        """
        chosen = set() if request is None else set(request.victims)
        if pool.members is not None:
            chosen &= set(pool.members)  # who was replaced as the change fell back is gone
        if request is not None and chosen - self._spared(now):
            return Choice(victims=request.victims)
        try:
            members = await self._pools.members()
        except CloudError as error:
            return self._without_ages(request, now, f"{type(error).__name__}: {error}")
        return await self._fresh(pool, request, members, stuck=stuck, now=now)

    async def _fresh(
        self,
        pool: Pool,
        request: Request | None,
        members: tuple[Member, ...],
        *,
        stuck: bool,
        now: float,
    ) -> Choice:
        listed = pool.members
        if listed is None:
            listed = tuple(each.id for each in members)
        if stuck and len(listed) != pool.size:
            broken = [each for each in members if each.id in listed and each.state == "error"]
            return Choice(victims=tuple(sorted(each.id for each in broken)[:1]))
        failing, spared = await self._failing(), self._spared(now)
        ranked = rank_victims(listed, members, failing=failing, spared=spared)
        if ranked is None:
            return self._without_ages(request, now, "the list of instances does not tell all ages")
        self._unread = None
        if not ranked:
            return Choice(wait=Reason.MEMBER_REFUSED, detail="none of them may go at present")
        return Choice(victims=ranked[:1])

    def _without_ages(self, request: Request | None, now: float, why: str) -> Choice:
        """Read again for an interval, then let the cloud choose."""
        owner = None if request is None else request.id
        if self._unread is None or self._unread[0] != owner:
            self._unread = (owner, now)
        _log.warning("ages_unknown", error=why)
        if now - self._unread[1] < self._policy.interval_s:
            return Choice(wait=Reason.AGES_UNKNOWN, detail=why)
        self._unread = None
        return Choice()

    def _spared(self, now: float) -> set[str]:
        return {member for member, until in self._spared_until.items() if now < until}

    async def _failing(self) -> frozenset[str]:
        """Who fails the health check; nobody, if that cannot be read."""
        try:
            return await self._pools.failing()
        except CloudError as error:
            _log.info("health_unknown", error=f"{type(error).__name__}: {error}")
            return frozenset()

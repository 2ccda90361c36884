"""What a world was like some seconds ago, for reads that lag behind."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.load_balancers.model import LoadBalancer
from exotide.cloud.api.world import World
from exotide.cloud.faults.model import Lag

_LOOKS_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What reads show, at one moment."""

    instances: Mapping[str, Instance]
    pools: Mapping[str, Pool]
    balancers: Mapping[str, LoadBalancer]
    health: Mapping[tuple[str, str], Mapping[str, bool]]


class Past:
    """Remembers a world for as long as a fault needs it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._views: deque[tuple[float, _View]] = deque()
        """With the moments from which they were true; the last one still is."""
        self._is_looking = False

    def look(self) -> None:
        """Remember what is true now, and go on looking while there is a fault of that kind."""
        longest_s = max((lag.behind_s for lag in self._world.faults.of(Lag)), default=None)
        if longest_s is None:
            self._views.clear()
            return
        now_s, view = asyncio.get_running_loop().time(), _view_of(self._world)
        if not self._views or self._views[-1][1] != view:
            self._views.append((now_s, view))
        while len(self._views) > 1 and self._views[1][0] <= now_s - longest_s:
            self._views.popleft()
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(_LOOKS_EVERY_S, self._look_again)

    def world_before(self, seconds: float) -> World:
        """Return a world to be read only; the oldest known one if that is not as old."""
        then_s = asyncio.get_running_loop().time() - seconds
        older = [view for since_s, view in self._views if since_s <= then_s]
        view = older[-1] if older else self._views[0][1]
        past: Any = copy.copy(self._world)
        past.instances, past.pools = view.instances, view.pools
        past.load_balancers = view.balancers
        past.balancers = _Health(view.health, lags=self._world.balancers.lags)
        return past  # type: ignore[no-any-return]

    def _look_again(self) -> None:
        self._is_looking = False
        self.look()


class _Health:
    """The part of ports.Balancers that reads use."""

    def __init__(self, known: Mapping[tuple[str, str], Mapping[str, bool]], *, lags: bool) -> None:
        self._known, self.lags = known, lags

    def health(self, nlb_id: str, service_id: str) -> dict[str, bool]:
        return dict(self._known.get((nlb_id, service_id), {}))


def _view_of(world: World) -> _View:
    pools = {key: copy.copy(pool) for key, pool in world.pools.items()}
    for pool in pools.values():
        pool.members = list(pool.members)
    balancers = {key: copy.copy(each) for key, each in world.load_balancers.items()}
    for balancer in balancers.values():
        balancer.services = {key: copy.copy(each) for key, each in balancer.services.items()}
    return _View(
        instances={key: copy.copy(each) for key, each in world.instances.items()},
        pools=pools,
        balancers=balancers,
        health={
            (balancer.id, service.id): dict(world.balancers.health(balancer.id, service.id))
            for balancer in world.load_balancers.values()
            for service in balancer.services.values()
            if service.exists_below
        },
    )

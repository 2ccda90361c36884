"""Faults of pools: what becomes of a change that was accepted, and which member cannot go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from exotide.cloud.api.errors import Refused
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.world import World
from exotide.cloud.faults import places
from exotide.cloud.faults.engine import Strike
from exotide.cloud.faults.model import FallBack, Protection, Shortfall, Staggered, StuckState

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a change of a pool goes on after it was accepted; by default, well."""

    shortfall: Strike[Shortfall] | None = None
    staggered: Strike[Staggered] | None = None
    fall_back: Strike[FallBack] | None = None
    stuck: Strike[StuckState] | None = None

    def comes(self, count: int) -> int:
        """Return how many of so many new members come."""
        return count if self.shortfall is None else min(count, self.shortfall.effect.comes)

    @property
    def shows_size_late(self) -> bool:
        """Whether the size follows the members."""
        return self.staggered is not None and self.staggered.effect.late_size


SMOOTH: Final = Course()


def course_of(world: World, pool: Pool, victims: Iterable[str] = (), *, new: int = 0) -> Course:
    """
    Let the faults decide how a change of a pool will go on.

    Args:
        victims: Ids of the members that it removes.
        new: How many members it adds.
    """
    faults = world.faults
    if faults.idle:
        return SMOOTH
    victims = list(victims)
    facts = places.of_change(world, pool, victims)
    resizes = bool(victims or new)
    course = Course(
        shortfall=faults.first(facts, Shortfall) if new else None,
        staggered=faults.first(facts, Staggered) if resizes else None,
        fall_back=faults.first(facts, FallBack) if resizes else None,
        stuck=faults.first(facts, StuckState),
    )
    strikes = (course.shortfall, course.staggered, course.fall_back, course.stuck)
    if ids := [strike.fault_id for strike in strikes if strike is not None]:
        _log.info("fault_strikes", fault=ids, pool=pool.id, operation=facts.operation)
    return course


def require_removable(world: World, pool: Pool | None, instance: Instance) -> None:
    """
    Check that no fault protects an instance.

    Raises:
        Refused: One does; names the instance.
    """
    if world.faults.idle:
        return
    facts = places.of_removal(world, pool, instance)
    strike = world.faults.first(facts, Protection)
    if strike is None:
        return
    words = {"operation": facts.operation, "id": instance.id, "name": instance.name}
    message = strike.effect.message
    for name, word in words.items():
        message = message.replace(f"{{{name}}}", word)
    raise Refused(strike.effect.status, message)

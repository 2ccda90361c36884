"""
Who is struck: the faults of one cloud, and what each has met so far.

The same seed and the same order of requests give the same strikes: a fault draws from nothing but
its own seed and the number of what it meets, so that faults do not disturb each other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

from exotide.cloud.faults.holds import Holds
from exotide.cloud.faults.model import Effect, Facts, Fault, Quota

E_co = TypeVar("E_co", bound=Effect, covariant=True)
E = TypeVar("E", bound=Effect)

OPERATION: Final = ContextVar("operation", default="")
"""operationId of the request under way, for what happens in its course."""


class Chance(random.Random):
    """Repeats itself for the same seed, on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a fault has met: `seen` were meant by it, `struck` of them were struck."""

    seen: int = 0
    struck: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike(Generic[E_co]):
    """One fault that strikes, once."""

    fault_id: str
    effect: E_co
    chance: random.Random = field(repr=False, compare=False)
    """For what the effect has to draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """A fault on duty."""

    id: str
    fault: Fault
    added_s: float
    """On the clock of the faults."""
    tally: Tally = field(default_factory=Tally)

    def meet(self, facts: Facts, now_s: float) -> tuple[Armed, random.Random | None]:
        """Return itself with what it has met now and, if it strikes, chance for the effect."""
        timing, tally = self.fault.timing, self.tally
        if not (self.is_open(now_s) and self.fault.selector.takes(facts)):
            return self, None
        chance = Chance(f"{timing.seed}/{tally.seen}")
        hits = tally.seen >= timing.after and chance.random() < timing.probability
        tally = Tally(seen=tally.seen + 1, struck=tally.struck + hits)
        return replace(self, tally=tally), chance if hits else None

    def is_open(self, now_s: float) -> bool:
        """Whether it may strike at this moment."""
        timing = self.fault.timing
        used_up = timing.count is not None and self.tally.struck >= timing.count
        return not used_up and timing.is_open(now_s - self.added_s)


class Faults:
    """
    The faults of one cloud.

    Args:
        clock: Seconds that only grow.
        chance: Gives seeds to faults that come without one.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self._armed: dict[str, Armed] = {}
        self._last = 0
        self.holds: Final = Holds(self.knows)
        """What they keep as it is; removing a fault lets go of it."""
        self.shown_states: Final[dict[str, str]] = {}
        """The word that a pool shows instead of its state, by the pool's id."""

    @property
    def idle(self) -> bool:
        """Whether there is no fault at all."""
        return not self._armed

    def fresh_seed(self) -> int:
        """Return a seed for a fault that was asked for without one."""
        return self._chance.randrange(1_000_000)

    def add(self, fault: Fault) -> Armed:
        """Put a fault on duty from now on."""
        self._last += 1
        armed = Armed(id=f"f{self._last}", fault=fault, added_s=self._clock())
        self._armed = self._armed | {armed.id: armed}
        return armed

    def remove(self, fault_id: str) -> bool:
        """Take a fault off duty and release what it holds; False if there is none."""
        if fault_id not in self._armed:
            return False
        self._armed = {key: armed for key, armed in self._armed.items() if key != fault_id}
        self.holds.release(fault_id)
        return True

    def clear(self) -> int:
        """Remove all faults; return how many there were."""
        return sum(self.remove(key) for key in list(self._armed))

    def all(self) -> list[Armed]:
        """Return all faults, the oldest first."""
        return list(self._armed.values())

    def of(self, kind: type[E]) -> list[E]:
        """Return the effects of the faults of a kind."""
        effects = (armed.fault.effect for armed in self._armed.values())
        return [effect for effect in effects if isinstance(effect, kind)]

    def age_s(self, armed: Armed) -> float:
        """Return how long ago a fault was added."""
        return self._clock() - armed.added_s

    def knows(self, fault_id: str) -> bool:
        """Whether a fault is still on duty."""
        return fault_id in self._armed

    def is_open(self, armed: Armed) -> bool:
        """Whether a fault may strike at this moment."""
        return armed.is_open(self._clock())

    def strikes(self, facts: Facts, *kinds: type[E]) -> Iterator[Strike[E]]:
        """
        Let the faults of these kinds meet the facts, the oldest fault first.

        Lazy: a fault that the caller does not ask for has not met them.
        """
        now_s = self._clock()
        for key, armed in list(self._armed.items()):
            effect = armed.fault.effect
            if effect.stage is not facts.stage or not isinstance(effect, kinds):
                continue
            self._armed[key], chance = armed.meet(facts, now_s)
            if chance is not None:
                yield Strike(fault_id=key, effect=effect, chance=chance)

    def first(self, facts: Facts, *kinds: type[E]) -> Strike[E] | None:
        """Return the strike of the oldest fault of these kinds that strikes."""
        return next(self.strikes(facts, *kinds), None)

    def limit(self, resource: str, usual: int) -> int:
        """Return a quota's limit; of several faults about it the youngest counts."""
        found = usual
        for armed in self._armed.values():
            effect = armed.fault.effect
            if isinstance(effect, Quota) and effect.resource == resource and self.is_open(armed):
                found = effect.limit
        return found

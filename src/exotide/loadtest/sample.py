"""What a run looked like, one sample per second: the common language of demo, verdict, report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The parts of a run, in order."""

    CALM = "calm"
    """Little load, one member is enough."""
    RAMP = "ramp"
    """The load rises."""
    PEAK = "peak"
    """The load stays at its highest."""
    QUIET = "quiet"
    """Little load again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen at one moment. None means that nobody answered: a gap, not a zero."""

    t_s: float
    """Seconds since the first sample."""
    phase: Phase
    wanted: int | None = None
    """The pool's size as asked for."""
    serving: int | None = None
    """Members that the load balancer finds healthy."""
    cpu_ratio: float | None = None
    """The pool's average CPU, 0 to 1, as the alerts see it."""
    offered_rps: float | None = None
    """The rate that was asked for."""
    arrivals: int | None = None
    completed: int | None = None
    failed: int | None = None
    in_flight: int | None = None
    p50_s: float | None = None
    p95_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMark:
    """One decision of the autoscaler, on the run's clock."""

    t_s: float
    size: int | None
    wanted: int | None
    reason: str
    intent: str
    text: str

    @property
    def step(self) -> int:
        """By how much the size was changed; 0 for a decision to leave it."""
        return 0 if self.size is None or self.wanted is None else self.wanted - self.size

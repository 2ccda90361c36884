"""
How much CPU time a server may still use: a bucket that is filled every period; pure.

A look comes too late by nature, so a server uses more than it had; what is missing is a debt,
and the server rests until it is paid. What is not used within a period is lost, as with the
kernel's own limit: an idle server saves nothing up for a burst. Only one step of the kernel's
process times is kept: that much may have been used without being visible yet, and would be
charged to the next period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PERIOD_S: Final = 0.1
"""The kernel's own default."""
STEP_S: Final = 0.01
"""In which the times of processes advance."""
SHORTEST_LOOK_S: Final = STEP_S
"""Looking more often would show nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """CPU seconds that are left of the present period; below zero they are owed."""

    level_s: float
    period_began_s: float
    """On a clock that never goes back."""

    @property
    def may_run(self) -> bool:
        """Whether anything is left."""
        return self.level_s > 0.0


def begin(*, now_s: float, cores: float) -> Bucket:
    """Start a period with a full bucket."""
    return Bucket(level_s=cores * PERIOD_S, period_began_s=now_s)


def spend(bucket: Bucket, *, used_s: float, now_s: float, cores: float) -> Bucket:
    """
    Take what was used since the last look, and fill for every period that began since.

    Args:
        used_s: CPU seconds; not below 0.
        now_s: On the clock of `period_began_s`; an earlier time counts as no time.
        cores: Cores that the server may use.
    """
    periods = max(0, math.floor((now_s - bucket.period_began_s) / PERIOD_S))
    quota_s = cores * PERIOD_S
    level_s = bucket.level_s - used_s
    if periods:
        level_s = min(level_s + periods * quota_s, quota_s + STEP_S)
    return Bucket(level_s=level_s, period_began_s=bucket.period_began_s + periods * PERIOD_S)


def look_after_s(bucket: Bucket, *, now_s: float, cores: float, host_cores: int) -> float:
    """
    Seconds until the next look is worth while.

    A server that rests is looked at when its debt is paid; one that runs, when it can have
    emptied its bucket by using all of the host.
    """
    if bucket.may_run:
        return max(SHORTEST_LOOK_S, bucket.level_s / host_cores)
    periods = math.floor(-bucket.level_s / (cores * PERIOD_S)) + 1
    return max(0.0, bucket.period_began_s + periods * PERIOD_S - now_s)

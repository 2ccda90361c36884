"""
What a fault is: an effect, which requests or servers it strikes, and when.

All of it is data, without a clock and without chance: see `engine` for who is struck.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from exotide.cloud.api.errors import PROTECTED, FailureReason

LONGEST_S = 86_400.0


class Stage(StrEnum):
    """Where a fault strikes."""

    REQUEST = "request"
    POOL = "pool"
    """When a change of an instance pool is asked for."""
    OPERATION = "operation"
    BOOT = "boot"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Seconds: `2`, or drawn by `uniform:1:5` (from, to) or `lognormal:2:0.5` (median, sigma)."""

    shape: Literal["fixed", "uniform", "lognormal"] = "fixed"
    first: float
    """The seconds; of uniform the least, of lognormal the median."""
    second: float = 0.0
    """Of uniform the most seconds, of lognormal the standard deviation of the logarithm."""

    def draw(self, chance: random.Random) -> float:
        """Return seconds, at most a day."""
        if self.shape == "uniform":
            return chance.uniform(self.first, self.second)
        if self.shape == "lognormal" and self.first > 0:
            return min(chance.lognormvariate(math.log(self.first), self.second), LONGEST_S)
        return self.first

    def __str__(self) -> str:
        if self.shape == "fixed":
            return f"{self.first:g}"
        return f"{self.shape}:{self.first:g}:{self.second:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The request waits before it is carried out."""

    kind: ClassVar = "latency"
    stage: ClassVar = Stage.REQUEST
    delay_s: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """The answer is a 5xx."""

    kind: ClassVar = "server-error"
    stage: ClassVar = Stage.REQUEST
    status: int = 503
    message: str = "the service is unavailable"
    carried_out: bool = False
    """Whether the request takes effect all the same."""
    failing_reads: int = 0
    """So many reads that follow are answered 503, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The request is refused with a 4xx and takes no effect."""

    kind: ClassVar = "refusal"
    stage: ClassVar = Stage.REQUEST
    status: int = 409
    message: str = "the resource is locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """The answer is 429 with Retry-After."""

    kind: ClassVar = "rate-limit"
    stage: ClassVar = Stage.REQUEST
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenBody:
    """The request takes effect; the body of the answer is of no use."""

    kind: ClassVar = "broken-body"
    stage: ClassVar = Stage.REQUEST
    form: Literal["truncated", "html", "wrong-type", "empty"] = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The connection is cut."""

    kind: ClassVar = "drop"
    stage: ClassVar = Stage.REQUEST
    moment: Literal["before", "after", "middle"] = "before"
    """Before the request takes effect; after it but before the answer; within the answer."""
    failing_reads: int = 0
    """So many reads that follow are answered 503, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """A read shows what was true some seconds ago."""

    kind: ClassVar = "lag"
    stage: ClassVar = Stage.REQUEST
    behind_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongField:
    """A field is missing from the answer, or has another value."""

    kind: ClassVar = "wrong-field"
    stage: ClassVar = Stage.REQUEST
    field: str
    """Wherever in the answer a field has this name."""
    value: str | None = None
    """JSON, or else a text as it is; None: the field is missing."""
    of: str | None = None
    """Only in objects that have this id or name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignChange:
    """Before the request is carried out somebody else changes the pool that it is about."""

    kind: ClassVar = "foreign-change"
    stage: ClassVar = Stage.REQUEST
    change: Literal["grow", "shrink", "evict", "delete", "protect", "update"] = "grow"
    """By one; `evict`, `delete` and `protect` are about the oldest member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Of the members that a change of a pool adds, only some come until the fault is removed."""

    kind: ClassVar = "shortfall"
    stage: ClassVar = Stage.POOL
    comes: int = 0
    """So many come all the same."""
    gives_up: bool = False
    """The size falls to what has come, and nobody is waited for."""
    message: str | None = None
    """The operation fails as partial with this; None: it says success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staggered:
    """The members of a pool come and go one by one, each after a pause."""

    kind: ClassVar = "staggered"
    stage: ClassVar = Stage.POOL
    delay_s: Duration
    late_size: bool = False
    """The size follows the members; otherwise it is the new one at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallBack:
    """A pool has its new size, and some time later the old size and members again."""

    kind: ClassVar = "fall-back"
    stage: ClassVar = Stage.POOL
    delay_s: Duration
    """From the end of the change to the falling back."""
    fresh: bool = False
    """New members come in the place of those that left; otherwise the same come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckState:
    """After a change the state of a pool does not become running until it is released."""

    kind: ClassVar = "stuck-state"
    stage: ClassVar = Stage.POOL
    state: str | None = None
    """The word that is shown, known or not; None: that of the change."""
    accepts: bool = False
    """Further changes are accepted all the same; otherwise the pool is busy."""
    release_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A member cannot go: whatever would remove it is refused with a 4xx that names it."""

    kind: ClassVar = "protection"
    stage: ClassVar = Stage.POOL
    status: int = 403
    message: str = PROTECTED
    """`{operation}`, `{id}` and `{name}` (of the member) are filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingOperation:
    """The change is made, and its operation says that it failed."""

    kind: ClassVar = "failing-operation"
    stage: ClassVar = Stage.OPERATION
    reason: FailureReason = FailureReason.FAULT
    message: str = "the operation failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckOperation:
    """The operation stays pending until it is released."""

    kind: ClassVar = "stuck-operation"
    stage: ClassVar = Stage.OPERATION
    carried_out: bool = False
    """Whether its work is done meanwhile; otherwise it is done after the release."""
    release_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlySuccess:
    """The operation says success at once; its work goes on."""

    kind: ClassVar = "early-success"
    stage: ClassVar = Stage.OPERATION


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFailure:
    """A server does not boot."""

    kind: ClassVar = "boot-failure"
    stage: ClassVar = Stage.BOOT
    message: str = "the server did not boot"
    stays: bool = False
    """A member stays listed in state error and is not replaced until it is released."""
    release_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowBoot:
    """A server needs this much longer to boot."""

    kind: ClassVar = "slow-boot"
    stage: ClassVar = Stage.BOOT
    delay_s: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCapacity:
    """A zone has no room for another server."""

    kind: ClassVar = "no-capacity"
    stage: ClassVar = Stage.BOOT
    message: str = "the zone is out of capacity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A server dies this long after it has booted."""

    kind: ClassVar = "death"
    stage: ClassVar = Stage.BOOT
    delay_s: Duration
    stays: bool = False
    """A member stays listed in state error and is not replaced until it is released."""
    release_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """A server stands still this long after it has booted, until it is resumed or removed."""

    kind: ClassVar = "hang"
    stage: ClassVar = Stage.BOOT
    delay_s: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota is lower (or higher) than usual."""

    kind: ClassVar = "quota"
    stage: ClassVar = Stage.QUOTA
    resource: str = "instance"
    limit: int = 0


Effect = (
    Latency
    | ServerError
    | RateLimit
    | Refusal
    | BrokenBody
    | Drop
    | Lag
    | WrongField
    | ForeignChange
    | Shortfall
    | Staggered
    | FallBack
    | StuckState
    | Protection
    | FailingOperation
    | StuckOperation
    | EarlySuccess
    | BootFailure
    | SlowBoot
    | NoCapacity
    | Death
    | Hang
    | Quota
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of something that a fault may strike."""

    stage: Stage
    operation: str = ""
    """operationId of the request; empty where there is none."""
    zone: str = ""
    pools: frozenset[str] = frozenset()
    """Id and name of the pool that it is about."""
    instances: frozenset[str] = frozenset()
    """Id and name of the server that it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which requests, operations or servers; what is None does not matter."""

    operation: str | None = None
    """A glob over operationIds."""
    zone: str | None = None
    pool: str | None = None
    """Id or name."""
    instance: str | None = None
    """Id or name."""

    def takes(self, facts: Facts) -> bool:
        """Whether the facts are meant."""
        return (
            (self.operation is None or fnmatchcase(facts.operation, self.operation))
            and self.zone in {None, facts.zone}
            and (self.pool is None or self.pool in facts.pools)
            and (self.instance is None or self.instance in facts.instances)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When and how often."""

    seed: int
    """What is struck and how hard follows from this and from the order of what is met."""
    probability: float = 1.0
    after: int = 0
    """So many pass first."""
    count: int | None = None
    """So many are struck at most."""
    from_s: float = 0.0
    """Seconds from the adding of the fault to its begin."""
    for_s: float | None = None
    """Seconds from its begin to its end."""

    def is_open(self, age_s: float) -> bool:
        """Whether it may strike, so many seconds after it was added."""
        return age_s >= self.from_s and (self.for_s is None or age_s < self.from_s + self.for_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, as it was asked for."""

    effect: Effect
    timing: Timing
    selector: Selector = field(default_factory=Selector)

"""The words of this program: pools, intents, decisions. Pure: no clock, no input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Intent(StrEnum):
    """What an alert asks for."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


class Reason(StrEnum):
    """Why a size was chosen. Used verbatim as log value, metric label and in the read API."""

    ALERT = "alert"
    OUT_OF_LIMITS = "out-of-limits"
    NO_ALERT = "no-alert"
    AT_LIMIT = "at-limit"
    INTERVAL = "interval"
    COOLDOWN = "cooldown"
    UNSETTLED = "unsettled"
    SERVED = "served"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    CLOUD_ERROR = "cloud-error"

    @property
    def changes(self) -> bool:
        """Whether the pool is asked for another size."""
        return self in {Reason.ALERT, Reason.OUT_OF_LIMITS}

    @property
    def postpones(self) -> bool:
        """Whether the intent is still owed: a delay may never swallow a request."""
        return self in {Reason.INTERVAL, Reason.COOLDOWN, Reason.UNSETTLED, Reason.CLOUD_ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """An instance pool as the cloud shows it."""

    name: str
    size: int
    """How many instances were asked for."""
    state: str
    members: tuple[str, ...] | None = None
    """Ids of its instances in the order listed; None when the cloud does not tell."""

    @property
    def settled(self) -> bool:
        """Whether the last change is over: running, with as many members as asked for."""
        complete = self.members is None or len(self.members) == self.size
        return self.state == "running" and complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An instance of the pool; None is what the cloud does not tell."""

    id: str
    created_at: str | None = None
    """RFC 3339 in UTC, so that text order is time order."""
    state: str | None = None
    ip: str | None = None
    """Its public address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits within which a pool is scaled; times in seconds."""

    min_size: int = 1
    max_size: int = 10
    interval_s: float = 60.0
    """At most one change of size in this time."""
    cooldown_s: float = 0.0
    """Further rest after a change; it delays an intent and never drops it."""
    intent_ttl_s: float = 900.0
    """An intent that could not be served for so long is given up, and that is recorded."""

    def clamp(self, size: int) -> int:
        """The nearest size within the limits."""
        return max(self.min_size, min(self.max_size, size))

    @property
    def repeat_window_s(self) -> float:
        """A webhook that comes so soon after the change it asks for is a repeat, not a new wish."""
        return min(self.interval_s, max(1.0, self.interval_s / 12))

    @property
    def settle_poll_s(self) -> float:
        """How long to wait before looking again at a pool that is changing."""
        return min(self.interval_s, 10.0, max(0.5, self.interval_s / 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a pass chose, and why."""

    size: int | None
    """The pool's size when it was read; None: it could not be read."""
    wanted: int | None
    reason: Reason
    intent: Intent = Intent.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDecision:
    """A decision as the journal keeps it and the read API shows it."""

    id: int
    at: float
    """Seconds since 1970."""
    decision: Decision
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """A moment that can be compared across restarts and across jumps of the wall clock."""

    wall_s: float
    """Seconds since 1970; may jump."""
    monotonic_s: float
    """Seconds that never go back and start near zero at boot."""
    boot: str
    """Names the boot during which monotonic_s counts."""


def age_s(then: Instant, now: Instant) -> float:
    """
    Seconds between two moments, never negative.

    During one boot the wall clock does not matter; only across boots it is all there is.
    """
    if then.boot == now.boot:
        return max(0.0, now.monotonic_s - then.monotonic_s)
    return max(0.0, now.wall_s - then.wall_s)


def certain_age_s(then: Instant, now: Instant) -> float:
    """
    Seconds that surely passed between two moments, whatever the wall clock says.

    Used where too high an age would scale twice: since another boot at least the uptime passed.
    """
    if then.boot == now.boot:
        return age_s(then, now)
    return min(age_s(then, now), now.monotonic_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An intent that was acknowledged and is neither served nor given up."""

    id: int
    intent: Intent
    age_s: float
    """Seconds since its latest repeat."""
    repeats: int = 0
    asked_from: int | None = None
    target: int | None = None
    """The size that the cloud was asked for on its behalf, unless the cloud surely refused."""

    @property
    def asked(self) -> bool:
        """Whether the cloud was asked already and the outcome has to be read."""
        return self.target is not None

    def reached_by(self, size: int) -> bool:
        """Whether the pool shows what was asked for; then nothing may be asked again."""
        if self.target is None or self.asked_from is None:
            return False
        return size >= self.target if self.target > self.asked_from else size <= self.target

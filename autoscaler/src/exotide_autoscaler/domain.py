"""The words of this program: pools, requests, decisions. Pure: no clock, no input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Intent(StrEnum):
    """What an alert asks for."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


class Reason(StrEnum):
    """Why a size was chosen or a request closed. Used verbatim in log, metrics and read API."""

    ALERT = "alert"
    OUT_OF_LIMITS = "out-of-limits"
    NO_ALERT = "no-alert"
    INTERVAL = "interval"
    COOLDOWN = "cooldown"
    BACK_OFF = "back-off"
    SETTLING = "settling"
    CLOUD_ERROR = "cloud-error"
    MEMBER_REFUSED = "member-refused"
    AGES_UNKNOWN = "ages-unknown"
    AT_LIMIT = "at-limit"
    SERVED = "served"
    UNSETTLED = "unsettled"
    WITHDRAWN = "withdrawn"
    OUTRANKED = "outranked"
    EXPIRED = "expired"

    @property
    def changes(self) -> bool:
        """Whether the pool is asked for another size."""
        return self in {Reason.ALERT, Reason.OUT_OF_LIMITS}

    @property
    def closes(self) -> bool:
        """Whether a request that meets it is over."""
        return self in _CLOSING


_CLOSING: Final = frozenset(
    {
        Reason.AT_LIMIT,
        Reason.SERVED,
        Reason.UNSETTLED,
        Reason.WITHDRAWN,
        Reason.OUTRANKED,
        Reason.EXPIRED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An instance of the pool, as the list of instances shows it; None: not told."""

    id: str
    created_at: str | None = None
    """RFC 3339 in UTC, so that text order is time order."""
    state: str | None = None
    ip: str | None = None
    """Its public address, by which the load balancer names it."""


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
class Policy:
    """The limits within which a pool is scaled; times in seconds."""

    min_size: int = 1
    max_size: int = 10
    holds_min: bool = False
    """Whether the lower limit is held without a webhook, since somebody has set it."""
    holds_max: bool = False
    interval_s: float = 60.0
    """At most one change of size in this time."""
    cooldown_s: float = 0.0
    """Further rest after a change; it delays a request and never drops it."""
    request_ttl_s: float = 900.0
    """A request that could not be served for so long is given up, and that is recorded."""
    settle_s: float = 600.0
    """A pool that is busy for longer is judged by the size it was asked for."""
    alert_holds_s: float = 330.0
    """For so long after its last word an alert's waiting `up` outranks every `down`."""

    @property
    def repeat_window_s(self) -> float:
        """A webhook that comes so soon after the change it asks for is a repeat, not a new wish."""
        return min(self.interval_s, max(1.0, self.interval_s / 12))

    @property
    def delivery_window_s(self) -> float:
        """Within this time the same alert is one delivery, however many senders bring it."""
        return min(30.0, self.interval_s / 2)

    @property
    def settle_poll_s(self) -> float:
        """How long to wait before looking again at a pool that is changing."""
        return min(self.interval_s, 10.0, max(0.5, self.interval_s / 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What happened when, on the monotonic clock of this process; None: never."""

    attempted_at: float | None = None
    """When the cloud was last asked for another size."""
    changed_at: float | None = None
    """The same, without calls that it surely refused."""
    settled_at: float | None = None
    """When the pool was last seen settled by this process."""
    unsettled_at: float | None = None
    """Since when the pool has not been settled, as far as it was watched."""
    refusals: int = 0
    """Calls in a row that it surely refused."""


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

    During one boot the wall clock does not matter. Across boots it is all there is, and it may
    have been set back: but at least the time since this boot has passed.
    """
    if then.boot == now.boot:
        return max(0.0, now.monotonic_s - then.monotonic_s)
    return max(now.wall_s - then.wall_s, now.monotonic_s)


def certain_age_s(then: Instant, now: Instant) -> float:
    """
    Seconds that surely passed between two moments, whatever the wall clock says.

    Used where too high an age would scale twice: since another boot at least the uptime passed.
    """
    if then.boot == now.boot:
        return age_s(then, now)
    return min(age_s(then, now), now.monotonic_s)


class Phase(StrEnum):
    """How far an open request has come."""

    WAITING = "waiting"
    """The cloud never accepted it."""
    ASKED = "asked"
    """A call for it is under way, or its answer was lost: the pool will tell."""
    ACCEPTED = "accepted"
    """The cloud said yes, or the pool showed its target; it is served once the pool settles."""
    FALLEN = "fallen"
    """It was accepted, and the pool settled without it; its target is asked for again."""


class Source(StrEnum):
    """Who asks."""

    WEBHOOK = "webhook"
    LIMITS = "limits"
    """The pool is outside the limits that somebody has set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A wish for one change that was acknowledged and is not closed."""

    id: int
    intent: Intent
    age_s: float
    """Seconds since its last word: the webhook that made it, or the latest repeat."""
    source: Source = Source.WEBHOOK
    phase: Phase = Phase.WAITING
    repeats: int = 0
    lasting: bool = False
    """Whether somebody asked without an alert: nobody will say when that is over."""
    refused: bool = False
    """Whether the cloud's last answer was a plain no."""
    once_accepted: bool = False
    """Whether the cloud ever said yes."""
    asked_from: int | None = None
    target: int | None = None
    """The size that it was first asked for with, unless that was surely refused; then it is
    chosen anew."""
    victims: tuple[str, ...] = ()
    """The members that were to leave for it."""

    def shown_by(self, pool: Pool) -> bool:
        """Whether the pool shows what was asked for; then nothing may be asked again."""
        if self.target is None or self.asked_from is None:
            return False
        if self.target > self.asked_from:
            return pool.size >= self.target
        return pool.size <= self.target or self._left_unseen(pool)

    def _left_unseen(self, pool: Pool) -> bool:
        """Whether the answer was lost and the members have left: others grew the pool since."""
        sure = self.once_accepted or self.phase in {Phase.ACCEPTED, Phase.FALLEN}
        if sure or not self.victims or pool.members is None:
            return False
        return not set(self.victims) & set(pool.members)

    def overtaken_in(self, pool: Pool) -> bool:
        """Whether somebody else took the pool further from the target than it was."""
        if self.target is None or self.asked_from is None:
            return False
        if self.target > self.asked_from:
            return pool.size < self.asked_from
        return pool.size > self.asked_from

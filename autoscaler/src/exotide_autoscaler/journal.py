"""
What may not be forgotten: webhooks, requests, what the cloud was asked for, and every decision.

SQLite in WAL mode with full synchronisation: what a method did is on the disk once the transaction
around it is over. One process, one thread: see `writer`. The rules are in `inbox`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from exotide_autoscaler.alertbook import AlertBook, instant_of
from exotide_autoscaler.domain import (
    Decision,
    Instant,
    Intent,
    Memory,
    Phase,
    Policy,
    Reason,
    RecordedDecision,
    Request,
    Source,
    age_s,
    certain_age_s,
)
from exotide_autoscaler.inbox import Closed, Latest, holds
from exotide_autoscaler.words import describe

KEPT_ROWS: Final = 10_000
_PRUNE_EVERY: Final = 500
_MAYBE_CHANGED: Final = "WHERE outcome IS NULL OR outcome IN ('accepted', 'unknown')"
_COLUMNS: Final = (
    "r.id, r.intent, r.source, r.phase, r.closed, r.repeats, r.lasting, r.refused, r.asked_from,"
    " r.target, r.victims, r.wall_s, r.monotonic_s, r.boot,"
    " EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = r.id AND a.outcome = 'accepted')"
)


class Answer(StrEnum):
    """How the cloud answered an attempt to change the size."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    BUSY = "busy"
    """Surely not done, and no word on the request itself: it may be asked again."""

    @property
    def surely_nothing(self) -> bool:
        """Whether the pool is as it was before."""
        return self in {Answer.REFUSED, Answer.BUSY}


_PHASES: Final = {Answer.ACCEPTED: Phase.ACCEPTED, Answer.UNKNOWN: Phase.ASKED}


@dataclass(frozen=True, slots=True)
class RecordedWebhook:
    """A webhook as the journal keeps it."""

    id: int
    at: float
    """Seconds since 1970."""
    path: str
    outcome: str
    alert: str
    request_id: int | None


class Journal:
    """The records. Every method belongs into a transaction, which `writer.Writer` makes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._since_prune = 0
        self.alerts = AlertBook(connection)

    # --- webhooks -------------------------------------------------------------------------

    def note_webhook(
        self, *, path: str, outcome: str, alert: str, request_id: int | None, now: Instant
    ) -> None:
        """Remember that a webhook came, and what became of it."""
        self._db.execute(
            "INSERT INTO webhooks (wall_s, path, outcome, alert, request_id)"
            " VALUES (?, ?, ?, ?, ?)",
            (now.wall_s, path, outcome, alert, request_id),
        )
        self._prune()

    def webhooks(self, limit: int) -> tuple[RecordedWebhook, ...]:
        """The latest webhooks, newest first."""
        rows = self._db.execute(
            "SELECT id, wall_s, path, outcome, alert, request_id FROM webhooks"
            " ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return tuple(RecordedWebhook(*row) for row in rows)

    # --- requests -------------------------------------------------------------------------

    def add(self, intent: Intent, source: Source, *, now: Instant) -> Request:
        """Remember a new request."""
        cursor = self._db.execute(
            "INSERT INTO requests (intent, source, phase, wall_s, monotonic_s, boot)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (intent, source, Phase.WAITING, now.wall_s, now.monotonic_s, now.boot),
        )
        return Request(id=_new_id(cursor), intent=intent, age_s=0.0, source=source)

    def repeat(self, request_id: int, *, now: Instant) -> None:
        """A webhook said again what a request asks for."""
        self._db.execute(
            "UPDATE requests SET repeats = repeats + 1, wall_s = ?, monotonic_s = ?, boot = ?"
            " WHERE id = ?",
            (now.wall_s, now.monotonic_s, now.boot, request_id),
        )

    def make_lasting(self, request_id: int) -> None:
        """Somebody asks without an alert."""
        self._db.execute("UPDATE requests SET lasting = 1 WHERE id = ?", (request_id,))

    def latest_request(self, intent: Intent, now: Instant) -> Latest | None:
        """The latest request of an intent that a webhook made, open or closed."""
        row = self._db.execute(
            "SELECT r.id, r.phase, r.closed, a.wall_s, a.monotonic_s, a.boot FROM requests r"
            " LEFT JOIN attempts a ON a.id = (SELECT max(id) FROM attempts WHERE request_id = r.id)"
            " WHERE r.id = (SELECT max(id) FROM requests WHERE intent = ? AND source = ?)",
            (intent, Source.WEBHOOK),
        ).fetchone()
        if row is None:
            return None
        request_id, phase, closed, *asked = row
        known = asked[2] == now.boot
        return Latest(
            id=request_id,
            phase=Phase(phase),
            closed=None if closed is None else Reason(closed),
            asked_s=age_s(instant_of(*asked), now) if known else None,
        )

    def owed(self, now: Instant) -> tuple[Request, ...]:
        """The open requests, oldest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM requests r WHERE r.closed IS NULL ORDER BY r.id"  # noqa: S608 - a constant
        )
        return tuple(_request(row, now) for row in rows)

    def up_holds(self, now: Instant, policy: Policy) -> bool:
        """Whether the latest `up` still counts, served or not, unless its alert is over."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM requests r WHERE r.id ="  # noqa: S608 - a constant
            " (SELECT max(id) FROM requests WHERE intent = ? AND source = ?)",
            (Intent.UP, Source.WEBHOOK),
        ).fetchone()
        if row is None or row[4] in {Reason.WITHDRAWN, Reason.OUTRANKED}:
            return False
        request = _request(row, now)
        return holds(request, policy) and (request.lasting or self.alerts.behind(request.id) > 0)

    def keep(self, requests: Iterable[Request]) -> None:
        """Write down how far requests have come."""
        for request in requests:
            self._db.execute(
                "UPDATE requests SET phase = ?, asked_from = ?, target = ?, victims = ?"
                " WHERE id = ?",
                (
                    *(request.phase, request.asked_from, request.target),
                    *(" ".join(request.victims), request.id),
                ),
            )

    def close(self, closed: Collection[Closed], *, size: int | None, now: Instant) -> None:
        """End requests, each with a decision that says why."""
        for item in closed:
            request = item.request
            self.end(request.id, item.reason)
            decision = Decision(size=size, wanted=size, reason=item.reason, intent=request.intent)
            text = describe(decision, repeats=request.repeats, source=request.source)
            self.record(decision, text, now=now, request_id=request.id)

    def end(self, request_id: int, reason: Reason) -> None:
        """The request is owed no more, for a reason that is recorded already."""
        self._db.execute("UPDATE requests SET closed = ? WHERE id = ?", (reason, request_id))

    # --- what the cloud was asked for -----------------------------------------------------

    def is_open(self, request_id: int) -> bool:
        """Whether nothing ended a request since it was read."""
        row = self._db.execute(
            "SELECT 1 FROM requests WHERE id = ? AND closed IS NULL", (request_id,)
        ).fetchone()
        return row is not None

    def ask(
        self, request: Request, *, size: int, target: int, victims: tuple[str, ...], now: Instant
    ) -> int:
        """Write down what is about to be asked, before it is asked; returns the attempt's id."""
        asked_from = size if request.asked_from is None else request.asked_from
        self._db.execute(
            "UPDATE requests SET phase = ?, asked_from = ?, target = ?, victims = ? WHERE id = ?",
            (Phase.ASKED, asked_from, target, " ".join(victims), request.id),
        )
        cursor = self._db.execute(
            "INSERT INTO attempts (request_id, wall_s, monotonic_s, boot) VALUES (?, ?, ?, ?)",
            (request.id, now.wall_s, now.monotonic_s, now.boot),
        )
        return _new_id(cursor)

    def answer(self, attempt_id: int, request: Request, answer: Answer, *, now: Instant) -> None:
        """
        Write down how the cloud answered an attempt for a request, as it was before.

        What was surely refused at the first time waits as if it was never asked.
        """
        self._db.execute(
            "UPDATE attempts SET outcome = ?, wall_s = ?, monotonic_s = ?, boot = ? WHERE id = ?",
            (answer, now.wall_s, now.monotonic_s, now.boot, attempt_id),
        )
        phase = _PHASES.get(answer, request.phase)
        self._db.execute(
            "UPDATE requests SET phase = ?, refused = ? WHERE id = ?",
            (phase, answer is Answer.REFUSED, request.id),
        )
        if answer.surely_nothing and request.target is None:
            self._db.execute(
                "UPDATE requests SET asked_from = NULL, target = NULL, victims = '' WHERE id = ?",
                (request.id,),
            )

    # --- when -----------------------------------------------------------------------------

    def recall(self, now: Instant) -> Memory:
        """
        What an earlier run of this program knew, for one that just started.

        An attempt without an answer may have been made up to this very moment.
        """
        attempted_s = self._attempt_age_s("", now)
        changed_s = self._attempt_age_s(_MAYBE_CHANGED, now)
        doubt_s, unsettled_s = self._mark_age_s("doubt", now), self._mark_age_s("unsettled", now)
        ages_s = [each for each in (attempted_s, doubt_s) if each is not None]
        return Memory(
            attempted_at=now.monotonic_s - min(ages_s) if ages_s else None,
            changed_at=None if changed_s is None else now.monotonic_s - changed_s,
            unsettled_at=None if unsettled_s is None else now.monotonic_s - unsettled_s,
        )

    def _attempt_age_s(self, which: str, now: Instant) -> float | None:
        row = self._db.execute(
            f"SELECT outcome, wall_s, monotonic_s, boot FROM attempts {which}"  # noqa: S608 - a constant
            " ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        outcome, *moment = row
        return 0.0 if outcome is None else certain_age_s(instant_of(*moment), now)

    def doubt(self, now: Instant) -> None:
        """An earlier journal is lost: the pool may have been changed up to this moment."""
        self._mark("doubt", now)

    def mark_unsettled(self, since: Instant | None) -> None:
        """The pool is not settled since that moment; None: it is."""
        if since is None:
            self._db.execute("DELETE FROM marks WHERE name = 'unsettled'")
        else:
            self._mark("unsettled", since)

    def _mark(self, name: str, at: Instant) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)",
            (name, at.wall_s, at.monotonic_s, at.boot),
        )

    def _mark_age_s(self, name: str, now: Instant) -> float | None:
        row = self._db.execute(
            "SELECT wall_s, monotonic_s, boot FROM marks WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else certain_age_s(instant_of(*row), now)

    # --- decisions ------------------------------------------------------------------------

    def record(
        self, decision: Decision, text: str, *, now: Instant, request_id: int | None = None
    ) -> bool:
        """Write down a decision, unless it only repeats the latest one; returns whether it did."""
        row = (decision.size, decision.wanted, decision.reason, decision.intent, request_id)
        latest = self._db.execute(
            "SELECT size, wanted, reason, intent, request_id FROM decisions"
            " ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if latest == row and not decision.reason.changes:
            return False
        self._db.execute(
            "INSERT INTO decisions (wall_s, size, wanted, reason, intent, request_id, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (now.wall_s, *row, text),
        )
        self._prune()
        return True

    def decisions(self, *, after: int, limit: int) -> tuple[RecordedDecision, ...]:
        """Up to `limit` decisions with a higher id than `after`, oldest first."""
        return self._decisions("WHERE id > ? ORDER BY id LIMIT ?", after, limit)

    def latest(self, limit: int) -> tuple[RecordedDecision, ...]:
        """The latest decisions, newest first."""
        return self._decisions("WHERE id > ? ORDER BY id DESC LIMIT ?", 0, limit)

    def _decisions(self, which: str, after: int, limit: int) -> tuple[RecordedDecision, ...]:
        rows = self._db.execute(
            f"SELECT id, wall_s, size, wanted, reason, intent, text FROM decisions {which}",  # noqa: S608 - a constant of this class
            (after, limit),
        )
        return tuple(
            RecordedDecision(
                id=decision_id,
                at=at,
                decision=Decision(
                    size=size, wanted=wanted, reason=Reason(reason), intent=Intent(intent)
                ),
                text=text,
            )
            for decision_id, at, size, wanted, reason, intent, text in rows
        )

    def _prune(self) -> None:
        self._since_prune += 1
        if self._since_prune < _PRUNE_EVERY:
            return
        self._since_prune = 0
        for table in ("webhooks", "decisions", "attempts", "alerts"):
            self._db.execute(
                f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) FROM {table}) - ?",  # noqa: S608 - a constant, too
                (KEPT_ROWS,),
            )
        self._db.execute(
            "DELETE FROM requests WHERE closed IS NOT NULL"
            " AND id <= (SELECT max(id) FROM requests) - ?",
            (KEPT_ROWS,),
        )


def _request(row: tuple[Any, ...], now: Instant) -> Request:
    request_id, intent, source, phase, _, repeats, lasting, refused = row[:8]
    asked_from, target, victims, wall_s, monotonic_s, boot, once_accepted = row[8:]
    return Request(
        id=request_id,
        intent=Intent(intent),
        source=Source(source),
        phase=Phase(phase),
        age_s=age_s(instant_of(wall_s, monotonic_s, boot), now),
        repeats=repeats,
        lasting=bool(lasting),
        refused=bool(refused),
        once_accepted=bool(once_accepted),
        asked_from=asked_from,
        target=target,
        victims=tuple(victims.split()),
    )


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid

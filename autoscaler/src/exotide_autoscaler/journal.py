"""
What may not be forgotten: webhooks, intents, what the cloud was asked for, and every decision.

SQLite in WAL mode with full synchronisation: what a method did is on the disk once the transaction
around it is over. One process, one thread: see `writer`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exotide_autoscaler.domain import (
    Decision,
    Instant,
    Intent,
    Owed,
    Policy,
    Reason,
    RecordedDecision,
    age_s,
    certain_age_s,
)
from exotide_autoscaler.webhook import Message, Outcome

VERSION: Final = 1
KEPT_ROWS: Final = 10_000
_PRUNE_EVERY: Final = 500

SCHEMA: Final = """
CREATE TABLE webhooks (
    id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, path TEXT NOT NULL, outcome TEXT NOT NULL,
    alert TEXT NOT NULL, intent_id INTEGER
);
CREATE TABLE intents (
    id INTEGER PRIMARY KEY, intent TEXT NOT NULL, state TEXT NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0, first_wall_s REAL NOT NULL,
    wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL,
    asked_from INTEGER, target INTEGER
);
CREATE INDEX intents_state ON intents (state);
CREATE INDEX intents_intent ON intents (intent);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, intent_id INTEGER NOT NULL, asked_from INTEGER NOT NULL,
    target INTEGER NOT NULL, victims TEXT NOT NULL, outcome TEXT,
    started_wall_s REAL NOT NULL, started_monotonic_s REAL NOT NULL,
    wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL
);
CREATE INDEX attempts_intent ON attempts (intent_id);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, size INTEGER, wanted INTEGER,
    reason TEXT NOT NULL, intent TEXT NOT NULL, intent_id INTEGER, text TEXT NOT NULL
);
CREATE TABLE doubts (wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL);
"""


class Answer(StrEnum):
    """How the cloud answered an attempt to change the size."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """Seconds, surely passed, since the cloud was last asked for another size. None: never."""

    attempted_s: float | None = None
    changed_s: float | None = None
    """The same, without requests that it refused."""


class Journal:
    """The records. Every method belongs into a transaction, which `writer.Writer` makes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._since_prune = 0

    # --- webhooks and intents -------------------------------------------------------------

    def store(self, message: Message, *, now: Instant, policy: Policy) -> Outcome:
        """Remember a webhook and its intent, merged with its repeats; returns what became of it."""
        outcome, intent_id = message.outcome, None
        if outcome is Outcome.ACCEPTED:
            outcome, intent_id = self._merge(message.intent, now, policy)
        self._db.execute(
            "INSERT INTO webhooks (wall_s, path, outcome, alert, intent_id) VALUES (?, ?, ?, ?, ?)",
            (now.wall_s, message.intent, outcome, message.alert, intent_id),
        )
        self._prune()
        return outcome

    def _merge(self, intent: Intent, now: Instant, policy: Policy) -> tuple[Outcome, int]:
        row = self._db.execute(
            "SELECT i.id, i.state, a.outcome, a.started_wall_s, a.started_monotonic_s, a.boot"
            " FROM intents i LEFT JOIN attempts a ON a.id ="
            " (SELECT max(id) FROM attempts WHERE intent_id = i.id)"
            " WHERE i.id = (SELECT max(id) FROM intents WHERE intent = ?)",
            (intent,),
        ).fetchone()
        if row is not None:
            intent_id, state, answer, *asked = row
            waiting = state == "owed" and answer != Answer.ACCEPTED
            kept = state in {"owed", Reason.SERVED} and asked[2] is not None
            if waiting or (kept and self._just_asked(_instant(*asked), now, policy)):
                self._db.execute(
                    "UPDATE intents SET repeats = repeats + 1, wall_s = ?, monotonic_s = ?,"
                    " boot = ? WHERE id = ?",
                    (now.wall_s, now.monotonic_s, now.boot, intent_id),
                )
                return Outcome.REPEATED, intent_id
        cursor = self._db.execute(
            "INSERT INTO intents (intent, state, first_wall_s, wall_s, monotonic_s, boot)"
            " VALUES (?, 'owed', ?, ?, ?, ?)",
            (intent, now.wall_s, now.wall_s, now.monotonic_s, now.boot),
        )
        return Outcome.ACCEPTED, _new_id(cursor)

    @staticmethod
    def _just_asked(asked: Instant, now: Instant, policy: Policy) -> bool:
        return asked.boot == now.boot and age_s(asked, now) < policy.repeat_window_s

    def owed(self, now: Instant) -> tuple[Owed, ...]:
        """The intents that are neither served nor given up, oldest first."""
        rows = self._db.execute(
            "SELECT id, intent, repeats, asked_from, target, wall_s, monotonic_s, boot"
            " FROM intents WHERE state = 'owed' ORDER BY id"
        )
        return tuple(
            Owed(
                id=intent_id,
                intent=Intent(intent),
                age_s=age_s(_instant(*moment), now),
                repeats=repeats,
                asked_from=asked_from,
                target=target,
            )
            for intent_id, intent, repeats, asked_from, target, *moment in rows
        )

    def close(self, intent_id: int, reason: Reason) -> None:
        """The intent is owed no more, for this reason."""
        self._db.execute("UPDATE intents SET state = ? WHERE id = ?", (reason, intent_id))

    # --- what the cloud was asked for -----------------------------------------------------

    def ask(
        self, intent: Owed, *, size: int, target: int, victims: tuple[str, ...], now: Instant
    ) -> int:
        """Write down what is about to be asked, before it is asked; returns the attempt's id."""
        self._db.execute(
            "UPDATE intents SET asked_from = ?, target = ? WHERE id = ?", (size, target, intent.id)
        )
        cursor = self._db.execute(
            "INSERT INTO attempts (intent_id, asked_from, target, victims, started_wall_s,"
            " started_monotonic_s, wall_s, monotonic_s, boot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(intent.id, size, target, " ".join(victims), now.wall_s, now.monotonic_s),
                *(now.wall_s, now.monotonic_s, now.boot),
            ),
        )
        return _new_id(cursor)

    def answer(self, attempt_id: int, answer: Answer, *, now: Instant) -> None:
        """Write down how the cloud answered; a refused intent waits as if it was never asked."""
        self._db.execute(
            "UPDATE attempts SET outcome = ?, wall_s = ?, monotonic_s = ?, boot = ? WHERE id = ?",
            (answer, now.wall_s, now.monotonic_s, now.boot, attempt_id),
        )
        if answer is Answer.REFUSED:
            self._db.execute(
                "UPDATE intents SET asked_from = NULL, target = NULL"
                " WHERE id = (SELECT intent_id FROM attempts WHERE id = ?)",
                (attempt_id,),
            )

    def ages(self, now: Instant) -> Ages:
        """
        How long ago the pool was last changed, for a program that just started.

        An attempt without an answer may have been made up to this very moment.
        """
        rows = self._db.execute(
            "SELECT outcome, wall_s, monotonic_s, boot FROM attempts ORDER BY id DESC LIMIT 100"
        )
        attempted_s = changed_s = None
        for outcome, *moment in rows:
            passed_s = 0.0 if outcome is None else certain_age_s(_instant(*moment), now)
            attempted_s = passed_s if attempted_s is None else attempted_s
            if outcome != Answer.REFUSED:
                changed_s = passed_s
                break
        doubt = self._db.execute("SELECT wall_s, monotonic_s, boot FROM doubts").fetchone()
        if doubt is not None:
            doubt_s = certain_age_s(_instant(*doubt), now)
            attempted_s = doubt_s if attempted_s is None else min(attempted_s, doubt_s)
        return Ages(attempted_s=attempted_s, changed_s=changed_s)

    def doubt(self, now: Instant) -> None:
        """An earlier journal is lost: the pool may have been changed up to this moment."""
        self._db.execute("DELETE FROM doubts")
        self._db.execute(
            "INSERT INTO doubts VALUES (?, ?, ?)", (now.wall_s, now.monotonic_s, now.boot)
        )

    # --- decisions ------------------------------------------------------------------------

    def record(
        self, decision: Decision, text: str, *, now: Instant, intent_id: int | None = None
    ) -> bool:
        """Write down a decision, unless it only repeats the latest one; returns whether it did."""
        row = (decision.size, decision.wanted, decision.reason, decision.intent, intent_id)
        latest = self._db.execute(
            "SELECT size, wanted, reason, intent, intent_id FROM decisions ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if latest == row and not decision.reason.changes:
            return False
        self._db.execute(
            "INSERT INTO decisions (wall_s, size, wanted, reason, intent, intent_id, text)"
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
        for table in ("webhooks", "decisions", "attempts"):
            self._db.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?",  # noqa: S608 - a constant, too
                (KEPT_ROWS,),
            )
        self._db.execute(
            "DELETE FROM intents WHERE state != 'owed' AND id <= (SELECT max(id) FROM intents) - ?",
            (KEPT_ROWS,),
        )


def _instant(wall_s: float, monotonic_s: float, boot: str) -> Instant:
    return Instant(wall_s=wall_s, monotonic_s=monotonic_s, boot=boot)


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid

"""Which alerts stand behind which request, and when each was first delivered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from exotide_autoscaler.domain import Instant, Intent, age_s
from exotide_autoscaler.inbox import AlertKey


class AlertBook:
    """The table `alerts`; every method belongs into a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def delivered_s(
        self, intent: Intent, keys: Iterable[AlertKey], *, now: Instant
    ) -> dict[AlertKey, float]:
        """Seconds since the first delivery of each alert that came before."""
        found = {}
        for key in keys:
            row = self._db.execute(
                "SELECT wall_s, monotonic_s, boot FROM alerts"
                " WHERE intent = ? AND fingerprint = ? AND starts_at = ?",
                (intent, key.fingerprint, key.starts_at),
            ).fetchone()
            if row is not None:
                found[key] = age_s(instant_of(*row), now)
        return found

    def note(self, intent: Intent, key: AlertKey, request_id: int, *, now: Instant) -> None:
        """An alert asks, delivered now for the first time in its window."""
        self._db.execute(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(intent, key.fingerprint, key.starts_at, request_id),
                *(now.wall_s, now.monotonic_s, now.boot),
            ),
        )

    def tie(self, intent: Intent, key: AlertKey, request_id: int) -> None:
        """An alert asks, delivered again."""
        self._db.execute(
            "UPDATE alerts SET request_id = ?"
            " WHERE intent = ? AND fingerprint = ? AND starts_at = ?",
            (request_id, intent, key.fingerprint, key.starts_at),
        )

    def release(self, intent: Intent, key: AlertKey) -> int | None:
        """An alert is over; returns the request that it stood behind, if any."""
        name = (intent, key.fingerprint, key.starts_at)
        row = self._db.execute(
            "SELECT request_id FROM alerts WHERE intent = ? AND fingerprint = ? AND starts_at = ?",
            name,
        ).fetchone()
        if row is None or row[0] is None:
            return None
        self._db.execute(
            "UPDATE alerts SET request_id = NULL"
            " WHERE intent = ? AND fingerprint = ? AND starts_at = ?",
            name,
        )
        return int(row[0])

    def behind(self, request_id: int) -> int:
        """How many alerts stand behind a request."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM alerts WHERE request_id = ?", (request_id,)
        ).fetchone()
        return int(count)


def instant_of(wall_s: float, monotonic_s: float, boot: str) -> Instant:
    """A moment as the tables keep it."""
    return Instant(wall_s=wall_s, monotonic_s=monotonic_s, boot=boot)

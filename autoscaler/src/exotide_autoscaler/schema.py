"""The journal's tables, and how a file of an earlier version becomes one of this."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

VERSION: Final = 2

SCHEMA: Final = """
CREATE TABLE webhooks (
    id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, path TEXT NOT NULL, outcome TEXT NOT NULL,
    alert TEXT NOT NULL, request_id INTEGER
);
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, intent TEXT NOT NULL, source TEXT NOT NULL, phase TEXT NOT NULL,
    closed TEXT, repeats INTEGER NOT NULL DEFAULT 0, lasting INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0, asked_from INTEGER, target INTEGER,
    victims TEXT NOT NULL DEFAULT '',
    wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL
);
CREATE INDEX requests_closed ON requests (closed);
CREATE INDEX requests_intent ON requests (intent, source);
CREATE TABLE alerts (
    intent TEXT NOT NULL, fingerprint TEXT NOT NULL, starts_at TEXT NOT NULL, request_id INTEGER,
    wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL,
    PRIMARY KEY (intent, fingerprint, starts_at)
);
CREATE INDEX alerts_request ON alerts (request_id);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, request_id INTEGER NOT NULL, outcome TEXT,
    wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL
);
CREATE INDEX attempts_request ON attempts (request_id);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, size INTEGER, wanted INTEGER,
    reason TEXT NOT NULL, intent TEXT NOT NULL, request_id INTEGER, text TEXT NOT NULL
);
CREATE TABLE marks (
    name TEXT PRIMARY KEY, wall_s REAL NOT NULL, monotonic_s REAL NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE owner (pool TEXT NOT NULL);
"""

_FROM_1: Final = """
DROP INDEX attempts_intent;
ALTER TABLE webhooks RENAME TO old_webhooks;
ALTER TABLE attempts RENAME TO old_attempts;
ALTER TABLE decisions RENAME TO old_decisions;
{schema}
INSERT INTO webhooks SELECT id, wall_s, path, outcome, alert, intent_id FROM old_webhooks;
INSERT INTO requests
    SELECT i.id, i.intent, 'webhook',
        CASE WHEN (SELECT outcome FROM old_attempts a WHERE a.intent_id = i.id
            ORDER BY id DESC LIMIT 1) = 'accepted' THEN 'accepted' ELSE 'waiting' END,
        CASE i.state WHEN 'owed' THEN NULL WHEN 'superseded' THEN 'outranked' ELSE i.state END,
        i.repeats, 1, 0, i.asked_from, i.target,
        coalesce((SELECT victims FROM old_attempts a WHERE a.intent_id = i.id
            AND i.target IS NOT NULL ORDER BY id DESC LIMIT 1), ''),
        i.wall_s, i.monotonic_s, i.boot
    FROM intents i;
INSERT INTO attempts
    SELECT id, intent_id, outcome, wall_s, monotonic_s, boot FROM old_attempts;
INSERT INTO decisions
    SELECT id, wall_s, size, wanted,
        CASE reason WHEN 'superseded' THEN 'outranked' WHEN 'unsettled' THEN 'settling'
            ELSE reason END,
        intent, intent_id, text
    FROM old_decisions;
INSERT INTO marks SELECT 'doubt', wall_s, monotonic_s, boot FROM doubts;
DROP TABLE intents; DROP TABLE doubts;
DROP TABLE old_webhooks; DROP TABLE old_attempts; DROP TABLE old_decisions;
"""


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file; belongs into a transaction."""
    _run(connection, SCHEMA)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring an earlier version's tables to this version's form; belongs into a transaction."""
    for earlier in range(version, VERSION):
        _STEPS[earlier](connection)


def _from_1(connection: sqlite3.Connection) -> None:
    """Who asked was not known then, so every request lasts until it expires."""
    _run(connection, _FROM_1.format(schema=SCHEMA))


_STEPS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {1: _from_1}


def _run(connection: sqlite3.Connection, script: str) -> None:
    """As executescript, which would end the transaction."""
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")

"""
The state folder: one SQLite file, a lock, and nothing else.

A transaction is on the disk when `write` returns (write-ahead log, synced). Files are 0600, a new
folder is 0700: user-data and API secrets lie in it. What is in it is carried out, so it is believed
only where nobody else can have written it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from exotide.cloud.errors import StateDamaged, StateInUse, StateTooNew, StateUnusable
from exotide.cloud.trust import Untrusted, judge_files, own_folder

FILE: Final = "cloud.sqlite"
LOCK: Final = "lock"
VERSION: Final = 1
"""Raised with every change of what is stored that older programs cannot read."""
APPLICATION: Final = 0x45584F54
"""SQLite's mark of whose file it is: EXOT."""

Key = tuple[str, str]
"""Table and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one transaction does."""

    put: Mapping[Key, bytes] = field(default_factory=dict)
    gone: Sequence[Key] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.gone)


class Store:
    """
    An open state folder; `with` closes it. Its methods may be called from any one thread at a time.

    Raises:
        StateUnusable: The folder cannot be used; says why and what to do. Nothing was changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = _lock(folder)
        try:
            self._connection = _open(folder / FILE)
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def file(self) -> Path:
        """The database."""
        return self.folder / FILE

    def read(self) -> list[tuple[str, str, bytes]]:
        """
        Give all rows (table, id, JSON) in the order in which they were first written.

        Raises:
            StateDamaged: The file cannot be read.
        """
        try:
            return self._connection.execute(
                "SELECT kind, id, value FROM item ORDER BY rowid"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise StateDamaged(self.file, str(error)) from error

    def write(self, changes: Changes) -> None:
        """
        Carry out one transaction; it is on the disk when this returns.

        Raises:
            StateUnusable: The disk refuses (full, read-only); nothing of it is written.
        """
        rows = [(kind, key, value) for (kind, key), value in changes.put.items()]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO item (kind, id, value) VALUES (?, ?, ?) "
                    "ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value",
                    rows,
                )
                self._connection.executemany(
                    "DELETE FROM item WHERE kind = ? AND id = ?", changes.gone
                )
        except sqlite3.Error as error:
            raise StateUnusable(f"cannot write {self.file}: {error}") from error

    def close(self) -> None:
        """Close the file and let others use the folder; fine if it is closed."""
        if self._lock >= 0:
            self._connection.close()
            os.close(self._lock)
            self._lock = -1

    def destroy(self) -> None:
        """Remove everything that is kept, and the folder if nothing else is in it."""
        self._connection.close()
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self.close()


def _lock(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        _make(folder)
        descriptor = os.open(folder / LOCK, flags, 0o600)
    except Untrusted as error:
        raise StateUnusable(f"the state folder is not believed: {error}") from error
    except OSError as error:
        raise StateUnusable(
            f"cannot use the state folder {folder}: {error.strerror}; choose another with --state"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateInUse(folder) from error
    return descriptor


def _make(folder: Path) -> None:
    """What is there already is judged, and its modes are not ours to change."""
    own_folder(folder)
    ours = (LOCK, FILE, f"{FILE}-wal", f"{FILE}-shm")
    judge_files(folder, ours)
    others = [entry.name for entry in folder.iterdir() if entry.name not in ours]
    if others and not (folder / FILE).exists():
        raise StateUnusable(
            f"the folder {folder} holds other files ({others[0]}, ...) and no cloud; "
            "choose an empty or new one with --state"
        )


def _open(file: Path) -> sqlite3.Connection:
    try:
        if file.exists():
            _check(file)
        else:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return _prepare(sqlite3.connect(file, check_same_thread=False))
    except sqlite3.DatabaseError as error:
        raise StateDamaged(file, str(error)) from error


def _check(file: Path) -> None:
    """Look before anything is written: read-only, and without tidying up the log."""
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        connection.close()
    if found != "ok":
        raise StateDamaged(file, str(found))
    if version == application == 0:  # killed before its first transaction
        return
    if application != APPLICATION:
        raise StateDamaged(file, "it is another program's database")
    if version > VERSION:
        raise StateTooNew(file, found=version, known=VERSION)


def _prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with connection:
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS item ("
            "kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (kind, id))"
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    return connection

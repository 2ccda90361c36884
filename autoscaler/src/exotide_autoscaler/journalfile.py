"""
Opens the journal's file, whatever it finds there: the program starts and says what it did.

* corrupt: moved aside to `journal.sqlite.corrupt-<unix time>`, a new one is begun;
* locked by somebody else: after a short wait a file beside it is used, `journal-2.sqlite` and so
  on, since two writers would each serve the same intents;
* default place not writable: a folder in the temporary directory.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

import structlog

from exotide_autoscaler.domain import Instant
from exotide_autoscaler.errors import JournalError, SettingsError
from exotide_autoscaler.journal import SCHEMA, VERSION, Journal

LOCK_WAIT_S: Final = 2.0
_BESIDE: Final = range(2, 10)
_log = structlog.get_logger()


def open_journal(
    chosen: Path | None, default: Path, *, now: Instant
) -> tuple[sqlite3.Connection, Path]:
    """
    Open the journal; returns the connection and the file that is really used.

    Args:
        chosen: The file that somebody asked for; None: the default may be replaced.

    Raises:
        SettingsError: the chosen file's folder cannot be written.
        JournalError: neither the default nor the temporary directory can be written.
    """
    if chosen is not None:
        try:
            return _open_or_replace(chosen, now)
        except (OSError, sqlite3.Error) as error:
            text = f"cannot be written ({error}); choose a file in a writable folder, got: {chosen}"
            raise SettingsError([("EXOTIDE_JOURNAL", text)]) from error
    try:
        return _open_or_replace(default, now)
    except (OSError, sqlite3.Error) as error:
        try:
            opened = _open_or_replace(_temporary_folder() / "journal.sqlite", now)
        except (OSError, sqlite3.Error) as second:
            raise JournalError(f"no place for the journal: {error}; {second}") from second
        _log.warning(
            "journal_was_put_into_a_temporary_folder",
            wanted=str(default),
            file=str(opened[1]),
            error=str(error),
            advice="set EXOTIDE_JOURNAL, so that intents survive a reboot",
        )
        return opened


def _temporary_folder() -> Path:
    """A folder of our own; one that another user put there in advance is not used."""
    folder = Path(tempfile.gettempdir()) / f"exotide-autoscaler-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="exotide-autoscaler-"))
    return folder


def _open_or_replace(path: Path, now: Instant) -> tuple[sqlite3.Connection, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in (path, *(path.with_stem(f"{path.stem}-{number}") for number in _BESIDE)):
        try:
            connection = _open_sound(candidate, now)
        except sqlite3.OperationalError as error:
            if not _is_lock(error):
                raise
            _log.warning("journal_was_locked", file=str(candidate), waited_s=LOCK_WAIT_S)
            continue
        if candidate != path:
            Journal(connection).doubt(now)
            _log.warning("journal_was_begun_beside_a_locked_one", file=str(candidate))
        return connection, candidate
    raise JournalError(f"all journals beside {path} are locked; is an old process still running?")


def _open_sound(path: Path, now: Instant) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = path.with_name(f"{path.name}.corrupt-{int(now.wall_s)}")
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))
        _log.error("journal_was_corrupt", file=str(path), moved_to=str(aside), error=str(error))
    connection = _open(path)
    Journal(connection).doubt(now)
    return connection


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # never two writers
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not version and not tables:
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"journal of version {version}, expected {VERSION}")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
    connection.execute("COMMIT")


def _is_lock(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

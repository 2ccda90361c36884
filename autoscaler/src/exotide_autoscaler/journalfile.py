"""
Opens the journal's file, whatever it finds there: the program starts and says what it did.

* corrupt: moved aside to `….corrupt-<unix time>`, a new one is begun;
* of an earlier version: brought to this one; of a later one: refused, since it would be lost;
* of another pool: moved aside to `….pool-<id>`, since its requests are not this pool's;
* held by another process: refused, since two autoscalers on one pool would each serve the same;
* default place not writable: a folder in the temporary directory.

After a file is lost or replaced, the pool may have been changed just now by somebody we cannot
know of: that doubt is written down, and the program rests for an interval.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import tempfile
from pathlib import Path
from typing import Final

import structlog

from exotide_autoscaler.domain import Instant
from exotide_autoscaler.errors import JournalError, SettingsError
from exotide_autoscaler.journal import Journal
from exotide_autoscaler.schema import VERSION, create, migrate

LOCK_WAIT_S: Final = 2.0
_PENDING_BYTE: Final = 0x40000000
_LOCK_BYTES: Final = 512
_FLOCK: Final = "hhqqi4x"
"""struct flock of Linux on 64 bits."""
_log = structlog.get_logger()


class _Held(Exception):
    """Another process holds the file."""


class _Later(Exception):
    """The file was written by a later version."""


def open_journal(
    chosen: Path | None, default: Path, *, pool_id: str, now: Instant
) -> tuple[sqlite3.Connection, Path]:
    """
    Open the journal of a pool; returns the connection and the file that is really used.

    Args:
        chosen: The file that somebody asked for; None: the default may be replaced.
        default: Its name gets the pool's id, so that programs for several pools do not meet.

    Raises:
        SettingsError: the chosen file cannot be used.
        JournalError: the default file is in use, or neither it nor the temporary directory can be
            written.
    """
    if chosen is not None:
        try:
            return _open_or_replace(chosen, pool_id, now), chosen
        except (_Held, _Later) as error:
            raise SettingsError([("EXOTIDE_JOURNAL", str(error))]) from error
        except (OSError, sqlite3.Error) as error:
            text = f"cannot be written ({error}); choose a file in a writable folder, got: {chosen}"
            raise SettingsError([("EXOTIDE_JOURNAL", text)]) from error
    own = default.with_stem(f"{default.stem}-{pool_id}")
    try:
        _adopt(default, own)
        return _open_or_replace(own, pool_id, now), own
    except (_Held, _Later) as error:
        raise JournalError(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        return _open_temporary(own, pool_id, now, error)


def _adopt(unnamed: Path, own: Path) -> None:
    """Go on with a file from before its name carried the pool's id."""
    if not unnamed.exists() or own.exists():
        return
    for suffix in ("-wal", "-shm", ""):
        if (file := unnamed.with_name(unnamed.name + suffix)).exists():
            file.rename(own.with_name(own.name + suffix))


def _open_temporary(
    wanted: Path, pool_id: str, now: Instant, error: Exception
) -> tuple[sqlite3.Connection, Path]:
    try:
        file = _temporary_folder() / wanted.name
        connection = _open_or_replace(file, pool_id, now)
        Journal(connection).doubt(now)
    except (_Held, _Later) as second:
        raise JournalError(str(second)) from second
    except (OSError, sqlite3.Error) as second:
        raise JournalError(f"no place for the journal: {error}; {second}") from second
    _log.warning(
        "journal_was_put_into_a_temporary_folder",
        wanted=str(wanted),
        file=str(file),
        error=str(error),
        advice="set EXOTIDE_JOURNAL, so that requests survive a reboot",
    )
    return connection, file


def _temporary_folder() -> Path:
    """A folder of our own; one that another user put there in advance is not used."""
    folder = Path(tempfile.gettempdir()) / f"exotide-autoscaler-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="exotide-autoscaler-"))
    return folder


def _open_or_replace(path: Path, pool_id: str, now: Instant) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _open(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = _move_aside(path, f"corrupt-{int(now.wall_s)}")
        _log.error("journal_was_corrupt", file=str(path), moved_to=str(aside), error=str(error))
        connection = _open(path)
        Journal(connection).doubt(now)
    return _claim(connection, path, pool_id, now)


def _claim(
    connection: sqlite3.Connection, path: Path, pool_id: str, now: Instant
) -> sqlite3.Connection:
    """Write down whose journal it is; another pool's is moved aside."""
    row = connection.execute("SELECT pool FROM owner").fetchone()
    if row is not None and row[0] != pool_id:
        connection.close()
        aside = _move_aside(path, f"pool-{row[0]}")
        _log.warning("journal_was_of_another_pool", file=str(path), moved_to=str(aside))
        connection, row = _open(path), None
        Journal(connection).doubt(now)
    if row is None:
        connection.execute("INSERT INTO owner VALUES (?)", (pool_id,))
    return connection


def _move_aside(path: Path, why: str) -> Path:
    aside = path.with_name(f"{path.name}.{why}")
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    return aside


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _require_readable(connection, path)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # never two writers
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and _is_lock(error):
            raise _Held(_held(path)) from error
        raise
    return connection


def _require_readable(connection: sqlite3.Connection, path: Path) -> None:
    """Before anything is written: a file of the future is left as it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise _Later(
            f"{path} was written by a later version of this program (format {version}, this one"
            f" knows {VERSION}); run that version, or choose another file"
        )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not version and not tables:
        create(connection)
    elif not version:
        raise sqlite3.DatabaseError("the database is not this program's")
    elif version < VERSION:
        migrate(connection, version)
        _log.info("journal_was_migrated", file=str(path), from_version=version, version=VERSION)
    connection.execute("COMMIT")


def _is_lock(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _held(path: Path) -> str:
    return (
        f"{path} is held by {_holder(path)}; two autoscalers must not scale one pool:"
        " end that one, or give this one a pool and a journal of its own"
    )


def _holder(path: Path) -> str:
    """Who holds SQLite's lock, as the kernel tells it."""
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _PENDING_BYTE, _LOCK_BYTES, 0)
    try:
        with path.open("rb+") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
        kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
        if kind != fcntl.F_UNLCK and pid > 0:
            name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
            return f"process {pid} ({name})"
    except OSError:  # it has just ended, or is not seen from here
        pass
    return "another process"

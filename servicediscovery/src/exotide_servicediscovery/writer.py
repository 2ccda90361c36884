"""Replaces the targets file in one step, so that Prometheus never reads half of it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from .errors import TargetsNotWritten

MODE: Final = 0o644  # Prometheus runs as another user


def write_if_changed(path: Path, content: bytes) -> bool:
    """
    Make the file hold exactly this; return whether it had to be replaced.

    Readers see the old content or the new, also through a power cut. The comparison is with the
    file itself, so one that somebody broke or removed is repaired.

    Raises:
        TargetsNotWritten: the old file, if any, is untouched.
    """
    try:
        if _holds(path, content):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise TargetsNotWritten(f"{path} cannot be written: {error.strerror}") from error
    return True


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == MODE
    except (FileNotFoundError, PermissionError):
        return False


def _replace(path: Path, content: bytes) -> None:
    # Always the same name, so a killed predecessor leaves one such file at most; it ends so that
    # no pattern like *.json matches it.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), MODE)  # whatever the umask took away
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

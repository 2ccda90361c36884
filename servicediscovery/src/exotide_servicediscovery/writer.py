"""Replaces the targets file in one step, so that Prometheus never reads half of it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from .errors import TargetsNotWritten

MODE: Final = 0o644  # Prometheus runs as another user
_ABANDONED_S: Final = 60.0
_HINTS: Final = {
    errno.EBUSY: "; it is a mount by itself: mount its folder instead",
    errno.ENOTDIR: "; a part of its path is a file",
}


def write_if_changed(path: Path, content: bytes) -> bool:
    """
    Make the file hold exactly this; return whether it had to be replaced.

    Readers see the old content or the new, also through a power cut and beside another writer. The
    comparison is with the file itself, so one that somebody broke or removed is repaired. Where
    the path is a link, the file that it names is kept, since that is what others read.

    Raises:
        TargetsNotWritten: the old file, if any, is untouched.
    """
    try:
        file = Path(os.path.realpath(path))
        if _holds(file, content):
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, content)
    except OSError as error:
        reason = f"{error.strerror}{_HINTS.get(error.errno or 0, '')}"
        raise TargetsNotWritten(f"{path} cannot be written: {reason}") from error
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Raises OSError if it is there and no file: it could be waited for, or belong to all."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EEXIST, "it is there and is no file")
        same = found.st_size == len(content) and stat.S_IMODE(found.st_mode) == MODE
        return same and path.read_bytes() == content
    except (FileNotFoundError, PermissionError):
        return False


def _replace(path: Path, content: bytes) -> None:
    # A name of its own, as two of us may write: a new container starts before the old one ends.
    # It ends so that no pattern like *.json matches it.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    _remove_abandoned(path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), MODE)  # whatever the umask took away
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the file is in place; not every file system can do this for a folder
        _fsync_folder(path.parent)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed predecessors left, and nothing that somebody still writes."""
    for left in path.parent.glob(f".{path.name}.*tmp"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > _ABANDONED_S:
                left.unlink()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""
Which folders and files are believed: those that nobody else can have written.

What lies in a state or run folder is carried out (as root, when the cloud is root's) and tells
which processes to end. So each part of the way there must belong to the caller, to root, or to the
user behind sudo, and only those may write to it; others may only where the sticky bit keeps them
from touching what is not theirs, as in /tmp.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

_NEXT: Final = "choose a folder that only you can write to"


class Untrusted(Exception):
    """Somebody else could have written it; the message names what, whose, and the next step."""


def trusted_users() -> frozenset[int]:
    """Root, the caller and, for root, whoever became it by sudo."""
    own = os.geteuid()
    behind = os.environ.get("SUDO_UID", "")
    found = {0, own}
    if own == 0 and behind.isascii() and behind.isdigit():
        found.add(int(behind))
    return frozenset(found)


def own_folder(folder: Path) -> None:
    """
    Make a folder with mode 0700, and what is missing above it, unless it is there.

    What exists is judged and not changed. Nobody can put something else in its place between this
    look and a later use, since every folder on the way passed the same look.

    Raises:
        Untrusted: It, or a folder above it, may be written by somebody else, or is a link of
            somebody else's.
        OSError: It cannot be made.
    """
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 - a link on the way is judged, not followed
    for part in (*reversed(whole.parents), whole):
        _make(part, mode=0o700 if part == whole else 0o755)
        _judge_folder(part)
    resolved = whole.resolve()
    if resolved != whole:
        for part in (*reversed(resolved.parents), resolved):
            _judge_folder(part)


def trusted_folder(folder: Path) -> bool:
    """Whether a folder is there and nobody else could have written into it."""
    if not folder.is_dir():
        return False
    try:
        own_folder(folder)
    except (Untrusted, OSError):
        return False
    return True


def judge_files(folder: Path, names: Collection[str]) -> None:
    """
    Look at files of a folder that passed; those that are not there are fine.

    Raises:
        Untrusted: One is a link, no file, has a second name, or others may write to it.
    """
    for name in names:
        file = folder / name
        try:
            found = file.lstat()
        except FileNotFoundError:
            continue
        _judge_file(file, found)


def read_text(file: Path) -> str:
    """
    Read a small file that nobody else can have written: opened once, then looked at.

    Raises:
        Untrusted: Somebody else could have.
        OSError, ValueError: It cannot be read, or is no UTF-8.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(file, flags), encoding="utf-8") as opened:
        _judge_file(file, os.fstat(opened.fileno()))
        return opened.read()


def _make(part: Path, *, mode: int) -> None:
    try:
        part.lstat()
    except FileNotFoundError:
        part.mkdir(mode=mode)


def _judge_folder(part: Path) -> None:
    found = part.lstat()
    if found.st_uid not in trusted_users():
        raise Untrusted(f"{part} belongs to {_name(found.st_uid)}; {_NEXT}")
    if stat.S_ISLNK(found.st_mode):
        return  # of one who is trusted; where it leads is looked at, too
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "is no folder", str(part))
    if found.st_mode & stat.S_ISVTX:
        return
    if any(_writers(found)):
        raise Untrusted(f"{part} may be written by others; chmod go-w {part}, or {_NEXT}")


def _judge_file(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise Untrusted(f"{file} is a link or no file; {_NEXT}")
    if found.st_uid not in trusted_users():
        raise Untrusted(f"{file} belongs to {_name(found.st_uid)}; {_NEXT}")
    if any(_writers(found)):
        raise Untrusted(f"{file} may be written by others; chmod go-w {file}, or {_NEXT}")


def _writers(found: os.stat_result) -> Iterator[bool]:
    """Who else may write; a group in which its owner is alone does not count."""
    yield bool(found.st_mode & stat.S_IWOTH)
    yield bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid, found.st_uid)


def _is_private(group: int, user: int) -> bool:
    if group == 0:
        return True
    try:
        entry = grp.getgrgid(group)
        return pwd.getpwuid(user).pw_gid == group and not set(entry.gr_mem) - {_name(user)}
    except KeyError:
        return False


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"

"""
Process trees as /proc shows them: who belongs to a root, and how much CPU they used.

Only what the user owns is ever read or signalled. Files stay open between reads: that is several
times cheaper, and the number of a process that ended can never be mistaken for another's.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from typing import Final

TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")
STATE, OWN, REAPED = 0, slice(11, 13), slice(13, 15)
"""Places after the name in /proc/PID/stat: state, utime and stime, cutime and cstime."""
DEAD: Final = frozenset({b"Z", b"X"})
STOPPED: Final = b"T"


class Stat:
    """One process, from when it was first seen until it is gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> list[bytes] | None:
        """Give the words after the name; None once the process is gone."""
        try:
            text = os.pread(self._descriptor, 1024, 0)
        except ProcessLookupError:
            return None
        return text[text.rindex(b")") + 2 :].split()

    def close(self) -> None:
        os.close(self._descriptor)


class Tree:
    """All descendants of some roots, themselves included; for one thread at a time."""

    def __init__(self) -> None:
        self._stats: dict[int, Stat] = {}
        self._levels: list[list[int]] = []
        self._seen_s = self._lost_s = 0.0

    @property
    def pids(self) -> list[int]:
        """Those of the last walk, ancestors first."""
        return [pid for level in self._levels for pid in level]

    def below(self, depth: int) -> list[int]:
        """Those of the last walk that are at least so many generations below a root."""
        return [pid for level in self._levels[depth:] for pid in level]

    def walk(self, roots: Iterable[int]) -> list[int]:
        """Look who belongs to the tree now; the dead that nobody has collected yet do not."""
        levels, seen, level = [], set[int](), [pid for pid in roots if self._is_alive(pid)]
        while level:
            levels.append(level)
            seen.update(level)
            found = [child for pid in level for child in children(pid)]
            level = [pid for pid in dict.fromkeys(found) if pid not in seen and self._is_alive(pid)]
        for pid in self._stats.keys() - seen:
            self._stats.pop(pid).close()
        self._levels = levels
        return self.pids

    def usage_s(self) -> float:
        """
        CPU seconds of the processes of the last walk and of the children they collected.

        Never goes back: a parent that ignores its children's end does not inherit their time,
        so what vanished with them is remembered here.
        """
        ticks = 0
        for stat in self._stats.values():
            words = stat.read()
            if words is not None:
                ticks += sum(map(int, (*words[OWN], *words[REAPED])))
        now_s = ticks * TICK_S
        self._lost_s += max(0.0, self._seen_s - now_s)
        self._seen_s = now_s
        return now_s + self._lost_s

    def is_stopped(self, pid: int) -> bool:
        """Whether a process of the last walk rests until it gets SIGCONT."""
        stat = self._stats.get(pid)
        words = stat.read() if stat is not None else None
        return words is not None and words[STATE] == STOPPED

    def close(self) -> None:
        """Forget all processes."""
        self.walk([])

    def _is_alive(self, pid: int) -> bool:
        stat = self._stats.get(pid)
        if stat is None:
            try:
                stat = self._stats[pid] = Stat(pid)
            except OSError:  # it ended meanwhile
                return False
        words = stat.read()
        return words is not None and words[STATE] not in DEAD


def children(pid: int) -> Iterator[int]:
    """Give the children of all threads of a process; none when it is gone."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/task") as tasks:
        for task in tasks:
            with contextlib.suppress(OSError):
                yield from map(int, read(f"{task.path}/children").split())


def marked(mark: str) -> Iterator[int]:
    """Find this user's processes with an environment variable that begins so, `NAME=value`."""
    wanted = mark.encode()
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    yield from (pid for pid in pids if _has(pid, wanted))


def is_marked(pid: int, mark: str) -> bool:
    """Whether a process lives and has an environment variable that begins so."""
    return _has(pid, mark.encode())


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def read(path: str) -> bytes:
    """Read a small file of /proc."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def _has(pid: int, mark: bytes) -> bool:
    try:
        words = read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:  # it is gone, or another user's
        return False
    return any(word.startswith(mark) for word in words)

"""Processes that may outlive the one that started them, watched by their pidfds."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

GONE: Final = -1
"""Exit code of a process that is no child of ours: nobody tells it."""
PIDFD_GETFD: Final = 438
"""System call that Python does not have; it has this number on every architecture."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Lasting:
    """
    A running process; methods as asyncio's Process has them. asyncio's own would be killed with us.

    Raises:
        ProcessLookupError: It does not run.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        stdout: int | None = None,
        inherited: Sequence[int] = (),
    ) -> Self:
        """
        Run a program in a session of its own, with its errors in a file.

        Args:
            stdout: Descriptor to write to. None: the log as well.
            inherited: Descriptors that it has under the same numbers.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        out = (os.POSIX_SPAWN_DUP2, 2, 1) if stdout is None else (os.POSIX_SPAWN_DUP2, stdout, 1)
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(log), flags, 0o640),
                out,
                *((os.POSIX_SPAWN_DUP2, number, number) for number in inherited),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
        return cls(pid)

    async def wait(self) -> int:
        """Wait until it has ended; gives its exit code, or GONE."""
        await self._ended.wait()
        return GONE if self.returncode is None else self.returncode

    def kill(self) -> None:
        """Kill it; raises ProcessLookupError if it has ended."""
        if self._ended.is_set():
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def share_socket(self, number: int) -> socket.socket:
        """Open the socket that is its descriptor `number` here, too. Raises OSError."""
        ours = _libc.syscall(PIDFD_GETFD, self._descriptor, number, 0)
        if ours < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), f"descriptor {number} of {self.pid}")
        return socket.socket(fileno=ours)

    def leave(self) -> None:
        """Watch no more; it runs on."""
        if not self._ended.is_set():
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._ended.set()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.returncode = GONE
        with suppress(ChildProcessError):  # a predecessor's child
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


def remember(file: Path, process: Lasting) -> None:
    """Write down which process it is: its number, and when it began, since numbers come again."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": process.pid, "began": began(process.pid)}))
    fresh.replace(file)


def recall(file: Path, *, among: Sequence[int]) -> Lasting | None:
    """
    Give the process that was written down, if it still runs.

    Args:
        among: Processes of the control group that it was put into.
    """
    try:
        known = json.loads(file.read_text())
        pid = int(known["pid"])
        process = Lasting(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # Looked at after the pidfd was opened: from then on the number stays this process's.
    if pid in among and began(pid) == known["began"]:
        return process
    process.leave()
    return None


def began(pid: int) -> list[int | str] | None:
    """Say when a process began: the host's boot and the ticks since. None: it does not run."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), ticks]
    except (OSError, ValueError, IndexError):
        return None

"""What the HTTP servers of a cloud share: no signals, and Unix sockets for one user."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to the program around it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def unix_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket that only its owner may open; replaces what is there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # bind makes the file with this mode
        with short_path(path) as short:
            listener.bind(short)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give another name of a socket: the kernel takes 107 bytes, and folders may be deep."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

"""
A network with a loopback device and no way out, and sockets that others serve from outside it.

A child process holds the network. It opens sockets there on demand and passes them to us, so that
a cloud in our network answers clients in the cell although no packet can cross. Run as a program,
this module is that child.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

_ANSWER_BYTES: Final = 4096


class CellFailed(Exception):
    """The network cannot be made, or a socket in it not opened; says why."""


class Cell:
    """The network, alive inside `with`. Needs root, or user namespaces that anyone may make."""

    def __init__(self) -> None:
        self._control, there = socket.socketpair()
        with there:
            self._child = subprocess.Popen(
                [*_unshare(), sys.executable, "-m", __name__, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> Self:
        try:
            self._ask({})
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def listen(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Open a listening TCP socket in the cell; other addresses than 127.* are added to it."""
        return self._socket(host, port, socket.SOCK_STREAM)

    def datagrams(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Open a UDP socket in the cell."""
        return self._socket(host, port, socket.SOCK_DGRAM)

    def command(self, *words: str) -> list[str]:
        """Return what runs a command in the cell."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        return ["nsenter", "--target", str(self._child.pid), "--net", *user, "--", *words]

    def _socket(self, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
        (descriptor,) = self._ask({"host": host, "port": port, "kind": int(kind)})
        return socket.socket(fileno=descriptor)

    def _ask(self, question: dict[str, object]) -> list[int]:
        self._control.sendall(json.dumps(question).encode())
        text, descriptors, _, _ = socket.recv_fds(self._control, _ANSWER_BYTES, 1)
        if text != b"ok":
            raise CellFailed(f"no network without a way out: {text.decode() or 'unshare failed'}")
        return descriptors

    def _end(self) -> None:
        self._control.close()
        self._child.wait()


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


def _hold(control: socket.socket) -> None:
    """Open sockets until the other end closes."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    while question := control.recv(_ANSWER_BYTES):
        try:
            opened = _opened(json.loads(question))
        except (OSError, subprocess.CalledProcessError) as error:
            control.sendall(f"{question.decode()}: {error}".encode())
            continue
        socket.send_fds(control, [b"ok"], [each.fileno() for each in opened])
        for each in opened:
            each.close()


def _opened(question: dict[str, object]) -> list[socket.socket]:
    if not question:
        return []
    host = str(question["host"])
    if not host.startswith("127."):
        subprocess.run(["ip", "address", "replace", f"{host}/32", "dev", "lo"], check=True)
    sock = socket.socket(socket.AF_INET, socket.SocketKind(int(str(question["kind"]))))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, int(str(question["port"]))))
    if sock.type == socket.SOCK_STREAM:
        sock.listen(128)
    return [sock]


if __name__ == "__main__":
    _hold(socket.socket(fileno=int(sys.argv[1])))

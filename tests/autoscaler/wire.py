"""A server that says exactly what a test wants, byte for byte, on real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Play = Callable[["Asked"], None]
"""What a server does with one request."""


@dataclass
class Asked:
    """One request, and the connection on which it came."""

    head: bytes
    sock: socket.socket
    over: threading.Event
    """Set when the test is over: whoever waits or talks for ever ends."""

    def say(self, said: bytes) -> None:
        self.sock.sendall(said)

    def repeat(self, said: bytes, pause_s: float = 0.0) -> None:
        """Say the same until nobody listens any more."""
        while not self.over.wait(pause_s) if pause_s else not self.over.is_set():
            self.say(said)


@dataclass
class Wire:
    """Plays one script for each request; the last one for all that follow."""

    plays: list[Play]
    tls: ssl.SSLContext | None = None
    heads: list[bytes] = field(default_factory=list)
    """The heads of all requests."""
    connections: int = 0
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v2"

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            channel = self.tls.wrap_socket(sock, server_side=True) if self.tls else sock
            with suppress(OSError), channel:
                while head := _head(channel):
                    play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
                    self.heads.append(head)
                    play(Asked(head=head, sock=channel, over=self.over))


def _head(sock: socket.socket) -> bytes:
    """Read a request with its body; empty if the client left."""
    found = b""
    while b"\r\n\r\n" not in found:
        chunk = sock.recv(65_536)
        if not chunk:
            return b""
        found += chunk
    head, _, body = found.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    while len(body) < int(length or b"0"):
        body += sock.recv(65_536)
    return head


@contextmanager
def wired(*plays: Play, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire([*plays], tls=tls, port=listener.getsockname()[1])
        accepting = threading.Thread(target=wire.serve, args=(listener,), daemon=True)
        accepting.start()
        yield wire
        wire.over.set()
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join(5)


def answer(document: object = None, *, status: str = "200 OK", headers: str = "") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def saying(said: bytes, *, then_close: bool = True) -> Play:
    def play(asked: Asked) -> None:
        asked.say(said)
        if then_close:
            asked.sock.shutdown(socket.SHUT_RDWR)

    return play


def well(document: object) -> Play:
    """Answer properly, and keep the connection."""
    return saying(answer(document), then_close=False)


def for_ever(said: bytes, part: bytes, pause_s: float = 0.0) -> Play:
    """Say something, then a part of more again and again."""

    def play(asked: Asked) -> None:
        asked.say(said)
        asked.repeat(part, pause_s)

    return play


def silence(asked: Asked) -> None:
    asked.over.wait(30)


def cut(asked: Asked) -> None:
    """Reset the connection instead of answering."""
    asked.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    asked.sock.close()


def echo(status: str) -> Play:
    """Tell the client in the refusal all that it sent."""

    def play(asked: Asked) -> None:
        asked.say(answer({"message": asked.head.decode()}, status=status))

    return play

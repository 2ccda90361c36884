"""A stand-in for the internet: it answers every name, and notes who asked for or reached what."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exotide.realtools.cell import Cell

ADDRESS = "192.0.2.1"
"""What every name resolves to; reserved for documentation, so it is nobody's."""


class Outside:
    """What left the tools. In a cell with this, a mistake is seen instead of merely failing."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.connections = 0

    def answer_names(self, sock: socket.socket) -> None:
        """Give ADDRESS for each A question, nothing for others."""
        while True:
            try:
                question, who = sock.recvfrom(512)
            except OSError:
                return
            if not question:
                return
            name, end = _name(question)
            self.names.append(name)
            is_a = question[end : end + 2] == b"\x00\x01"
            head = question[:2] + b"\x81\x80\x00\x01" + bytes((0, int(is_a))) + b"\0\0\0\0"
            record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(ADDRESS)
            sock.sendto(head + question[12 : end + 4] + (record if is_a else b""), who)

    def count(self, listener: socket.socket) -> None:
        """Take each connection and close it at once."""
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return
            self.connections += 1


def _name(question: bytes) -> tuple[str, int]:
    """Read the name that is asked for; give it, and where its type begins."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return ".".join(labels), at + 1


@contextmanager
def outside(cell: Cell) -> Iterator[Outside]:
    """Put the internet into a cell: name servers where this machine looks for them, port 443."""
    seen = Outside()
    lines = Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver")]
    sockets = [cell.datagrams(53, server) for server in servers if ":" not in server]
    listener = cell.listen(443, ADDRESS)
    work = [
        threading.Thread(target=seen.answer_names, args=(each,), daemon=True) for each in sockets
    ]
    work.append(threading.Thread(target=seen.count, args=(listener,), daemon=True))
    for thread in work:
        thread.start()
    try:
        yield seen
    finally:
        for sock in (*sockets, listener):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in work:
            thread.join(5)
        for sock in (*sockets, listener):
            sock.close()

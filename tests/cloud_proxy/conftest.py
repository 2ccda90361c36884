"""A local cloud that is a proxy, too, and ways to talk to it as good and bad clients do."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("data") / "exotide/ca")


@pytest.fixture(scope="module")
def cloud(tls: Tls) -> Iterator[RunningCloud]:
    with running_cloud(tls=tls) as running:
        yield running


class Wire:
    """Sockets to the cloud's port, at the level of bytes."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self._port, self._ca_file = port, ca_file

    @contextmanager
    def plain(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as sock:
            yield sock

    def say(self, sent: bytes) -> bytes:
        """Send bytes, and give all that comes back until the cloud closes."""
        with self.plain() as sock:
            sock.sendall(sent)
            return self.rest(sock)

    def rest(self, sock: socket.socket) -> bytes:
        answer = b""
        while more := sock.recv(65_536):
            answer += more
        return answer

    @contextmanager
    def tunnel(
        self, host: str = "api-at-vie-1.exoscale.com", *, context: ssl.SSLContext | None = None
    ) -> Iterator[ssl.SSLSocket]:
        """A TLS connection through CONNECT, verified as a client does."""
        context = context or ssl.create_default_context(cafile=str(self._ca_file))
        with self.plain() as sock:
            sock.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            assert sock.recv(65_536) == b"HTTP/1.1 200 Connection established\r\n\r\n"
            with context.wrap_socket(sock, server_hostname=host) as tunnel:
                yield tunnel

    def get(self, sock: socket.socket, host: str, path: str = "/v2/zone") -> tuple[int, bytes]:
        """One request on a kept connection."""
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += sock.recv(65_536)
        return int(head.split()[1]), body


@pytest.fixture(scope="module")
def wire(cloud: RunningCloud, tls: Tls) -> Wire:
    return Wire(cloud.access.port, tls.ca_file)

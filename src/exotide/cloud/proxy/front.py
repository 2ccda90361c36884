"""
The first bytes of each connection: a request to the API, or CONNECT for a tunnel to it.

uvicorn makes one `Front` per connection and later talks only to the HTTP protocol that the front
hands the connection to; in a tunnel, after TLS. Nothing here can open a connection.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

import structlog
import uvicorn
from uvicorn.server import ServerState

from exotide.cloud.droppable import DroppableProtocol

_log: Final = structlog.get_logger(__name__)

_HTTP: Final[Callable[..., asyncio.Protocol]] = DroppableProtocol
_CONNECT: Final = b"CONNECT "
_LINE: Final = re.compile(rb"CONNECT (?P<place>[A-Za-z0-9._:\[\]-]{1,255}) HTTP/1\.[01]")
_SERVED: Final = re.compile(rb"[a-z0-9-]+\.exoscale\.com\.?:443", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_MOST_HEAD_BYTES: Final = 16 * 1024
HEAD_WITHIN_S: Final = 60.0
HANDSHAKE_WITHIN_S: Final = 10.0


class TlsSource(Protocol):
    """Gives TLS contexts; the adapter is `proxy.tls.Tls`."""

    def context(self) -> ssl.SSLContext:
        """Return a context whose certificate is valid now."""


class Front(asyncio.Protocol):
    """Reads until it is clear what a connection wants, then hands it over."""

    tls: ClassVar[TlsSource | None] = None
    head_within_s: ClassVar[float] = HEAD_WITHIN_S
    handshake_within_s: ClassVar[float] = HANDSHAKE_WITHIN_S

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._connections: set[Any] = server_state.connections
        self._make_http = partial(
            _HTTP, config=config, server_state=server_state, app_state=app_state, _loop=_loop
        )
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes, but not for ever."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._deadline = self._loop.call_later(self.head_within_s, transport.close)

    def data_received(self, data: bytes) -> None:
        """Collect; in a tunnel this is what a quick client sent before TLS was up."""
        self._received += data
        if self._handshake is not None or self._transport is None:
            return
        if not self._received.startswith(_CONNECT[: len(self._received)]):
            self._hand_over(self._transport)
        elif _END in self._received:
            self._connect(self._transport)
        elif len(self._received) > _MOST_HEAD_BYTES:
            self._refuse(
                self._transport, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "CONNECT is too long"
            )

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        self._transport = None

    def shutdown(self) -> None:
        """End, as uvicorn asks all connections when the cloud ends."""
        if self._transport is not None:
            self._transport.abort()

    def _connect(self, transport: asyncio.Transport) -> None:
        head, _, early = bytes(self._received).partition(_END)
        line = _LINE.fullmatch(head.split(b"\r\n", 1)[0])
        if line is None or early:
            self._refuse(transport, HTTPStatus.BAD_REQUEST, "expected CONNECT host:443, then TLS")
            return
        place = line["place"].decode("ascii")
        if not _SERVED.fullmatch(line["place"]):
            text = f"exotide serves *.exoscale.com:443 and connects to nothing else: not {place}"
            self._refuse(transport, HTTPStatus.FORBIDDEN, text)
        elif self.tls is None:
            text = f"this local cloud has no certificate for {place}; start it by: exotide cloud"
            self._refuse(transport, HTTPStatus.FORBIDDEN, text)
        else:
            # What comes next is for TLS: nothing may be read before it listens.
            transport.pause_reading()
            self._received.clear()
            transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._handshake = self._loop.create_task(
                self._shake_hands(transport, self.tls.context())
            )

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            tls = await self._loop.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self.handshake_within_s,
                ssl_shutdown_timeout=self.handshake_within_s,
            )
        except OSError as error:
            _log.info("tls_failed", error=str(error))
            tls = None
        if tls is None or tls.is_closing():
            # A connection that ends in the handshake is not told to the protocol above it.
            self._leave()
        else:
            self._hand_over(tls)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        self._leave()
        http = self._make_http()
        transport.set_protocol(http)
        http.connection_made(transport)
        if self._received:
            http.data_received(bytes(self._received))

    def _refuse(self, transport: asyncio.Transport, status: HTTPStatus, reason: str) -> None:
        """Say why in the status line, too: it is all that most clients show."""
        _log.info("connect_refused", reason=reason)
        self._leave()
        body = f"{reason}\n".encode()
        transport.write(
            f"HTTP/1.1 {status.value} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        transport.close()

    def _leave(self) -> None:
        self._connections.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()


def front(tls: TlsSource | None) -> type[asyncio.Protocol]:
    """Return what uvicorn takes as `http=`: fronts that open tunnels with this, or refuse them."""
    return type("BoundFront", (Front,), {"tls": tls})

"""Listeners: bound before anything else starts, and without uvicorn's own signal handling."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from exotide_autoscaler.errors import ListenError

_BACKLOG: Final = 2048


def bind(address: str, port: int, *, setting: str) -> socket.socket:
    """
    Open a listening socket.

    Args:
        setting: The name of the setting that chose the port, for the message.

    Raises:
        ListenError: the port is taken, or the address is not one of this machine.
    """
    where = f"{address}:{port}"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{setting}: {where} is in use; choose another port") from error
        raise ListenError(f"{setting}: cannot listen on {where}: {error}") from error
    return listener


class QuietServer(uvicorn.Server):
    """A server that leaves TERM and INT to the program, which ends with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def make_server(app: ASGIApp) -> QuietServer:
    """A server for an application; run it with `serve(sockets=[...])`."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
    )
    return QuietServer(config)

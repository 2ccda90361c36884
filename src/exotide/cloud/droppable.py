"""HTTP connections that the application may cut, as a failing network would."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

DROP: Final = "exotide.drop"
"""ASGI extension: a function that cuts the connection of the request."""


class DroppableProtocol(H11Protocol):
    """Uvicorn's own, and each request has the extension `exotide.drop`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        whole = cast("asyncio.Transport", transport)
        super().connection_made(whole)
        self.app = _droppable(self.app, whole)


def _droppable(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**scope.get("extensions", {}), DROP: transport.abort}
        await app({**scope, "extensions": extensions}, receive, send)

    return call

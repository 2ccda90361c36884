"""Lets somebody see every answer of an ASGI application: tests look whether it is a valid one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What was asked and what was answered."""

    method: str
    path: str
    """Decoded, with any prefix, without the query."""
    status: int
    content_type: str
    body: bytes = field(repr=False)
    """Of the answer; may hold secrets: not in repr."""


Watcher = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Watched:
    """An application whose answers are told to the watchers, after they were sent."""

    app: ASGIApp
    watchers: list[Watcher]
    """Read anew for each request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.watchers or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent: list[Message] = []

        async def pass_on(message: Message) -> None:
            sent.append(message)
            await send(message)

        await self.app(scope, receive, pass_on)
        if sent:
            exchange = _exchange(scope, sent)
            for watcher in tuple(self.watchers):
                watcher(exchange)


def _exchange(scope: Scope, sent: list[Message]) -> Exchange:
    start, *rest = sent
    headers = {name.lower(): value for name, value in start.get("headers", ())}
    return Exchange(
        method=scope["method"],
        path=scope["path"],
        status=start["status"],
        content_type=headers.get(b"content-type", b"").decode("latin-1"),
        body=b"".join(each.get("body", b"") for each in rest),
    )

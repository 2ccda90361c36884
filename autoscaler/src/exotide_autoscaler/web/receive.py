"""Takes webhooks: authenticate, understand, remember, answer. Nothing here talks to the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from exotide_autoscaler.domain import Intent, Policy
from exotide_autoscaler.errors import JournalError
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.ports import Clock, Scribe
from exotide_autoscaler.reception import store
from exotide_autoscaler.webhook import (
    MAX_BODY_BYTES,
    SIGNATURE_HEADER,
    Message,
    Outcome,
    authorised,
    interpret,
)

_log = structlog.get_logger()
_BODY_DEADLINE_S: Final = 10.0
_LINGER_S: Final = 2.0
_METHODS: Final = frozenset({"GET", "POST", "PUT"})
"""Grafana offers PUT for webhooks, too."""
_ANSWERS: Final = {
    Outcome.ACCEPTED: (200, "accepted: it is served at the next pass"),
    Outcome.REPEATED: (200, "accepted: it repeats a request that is already known"),
    Outcome.DUPLICATE: (200, "recorded: the same alert came a moment ago, it counts once"),
    Outcome.RESOLVED: (200, "recorded: the alert is over, nothing to do"),
    Outcome.WITHDRAWN: (200, "recorded: the alert is over, its waiting request is withdrawn"),
    Outcome.NO_DATA: (200, "recorded: missing data is not a load, nothing to do"),
    Outcome.NOT_FIRING: (200, "recorded: the alert is not firing, nothing to do"),
    Outcome.TEST: (200, "recorded: this is a test, it arrived and nothing is done"),
    Outcome.CONTRADICTION: (
        200,
        "recorded, not done: the label autoscale names the other direction; mend route or label",
    ),
    Outcome.FOREIGN: (
        400,
        "no alert of Alertmanager or Grafana; send one, or no body (EXOTIDE_STRICT_BODIES is set)",
    ),
    Outcome.MALFORMED: (400, "the body is not the JSON that its content type promises"),
    Outcome.TOO_LARGE: (413, f"the body is larger than {MAX_BODY_BYTES} bytes"),
    Outcome.UNAUTHORISED: (401, "wrong or missing token; see EXOTIDE_WEBHOOK_TOKEN"),
    Outcome.NOT_STORED: (503, "the request could not be stored; please repeat it"),
}


class _TooLarge(Exception):
    """The body is longer than anybody should send."""


class _Gone(Exception):
    """The sender left, or stopped sending, before its request was complete."""


class WebhookEndpoint:
    """An ASGI application for one path; answers 200 once the intent is on the disk."""

    def __init__(
        self,
        intent: Intent,
        *,
        scribe: Scribe,
        clock: Clock,
        policy: Policy,
        metrics: Metrics,
        token: str,
        strict: bool,
        wake: Callable[[], None],
    ) -> None:
        self._intent = intent
        self._scribe = scribe
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._token = token
        self._strict = strict
        self._wake = wake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] not in _METHODS:
            await _answer(send, 405, "use GET, POST or PUT", [(b"allow", b"GET, POST, PUT")])
            return
        headers = _headers(scope)
        try:
            message = await self._read(headers, receive)
        except _TooLarge:
            await self._refuse_large(receive, send, scope)
            return
        except _Gone:
            _log.warning("webhook_broke_off", path=scope["path"], client=_client(scope))
            await _answer(send, 408, "the body did not arrive in time", [(b"connection", b"close")])
            return
        outcome = await self._store(message)
        self._note(outcome, message.alert, scope)
        status, text = _ANSWERS[outcome]
        challenge = [(b"www-authenticate", b'Bearer realm="exotide"')] if status == 401 else []
        await _answer(send, status, text, challenge)

    async def _read(self, headers: dict[str, str], receive: Receive) -> Message:
        """Understand the request; the body of a stranger is read only to check its signature."""
        refused = Message(intent=self._intent, outcome=Outcome.UNAUTHORISED)
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 18 or int(length) > MAX_BODY_BYTES:
            raise _TooLarge
        signed = SIGNATURE_HEADER in headers and "authorization" not in headers
        if not signed and not authorised(headers, b"", self._token):
            return refused
        body = await _body(receive)
        if signed and not authorised(headers, body, self._token):
            return refused
        content_type = headers.get("content-type", "")
        return interpret(self._intent, body, content_type, strict=self._strict)

    async def _store(self, message: Message) -> Outcome:
        if message.outcome is Outcome.UNAUTHORISED:
            return message.outcome
        now = self._clock.now()
        try:
            stored = await self._scribe.run(
                lambda journal: store(journal, message, now=now, policy=self._policy)
            )
        except JournalError:
            lost = message.outcome is Outcome.ACCEPTED
            return Outcome.NOT_STORED if lost else message.outcome
        self._metrics.count_closed(stored.closed)
        if stored.outcome in {Outcome.ACCEPTED, Outcome.REPEATED}:
            self._wake()
        return stored.outcome

    def _note(self, outcome: Outcome, alert: str, scope: Scope) -> None:
        self._metrics.webhooks.labels(self._intent, outcome).inc()
        level = "error" if outcome is Outcome.NOT_STORED else "info"
        getattr(_log, level)(
            "webhook_received",
            path=scope["path"],
            outcome=outcome,
            status=_ANSWERS[outcome][0],
            alert=alert,
            client=_client(scope),
        )

    async def _refuse_large(self, receive: Receive, send: Send, scope: Scope) -> None:
        """
        Answer at once, then throw away for a moment what still comes in.

        Closing at once would reset the connection, and a sender that reads only after sending
        would never see the answer.
        """
        self._note(Outcome.TOO_LARGE, "", scope)
        status, text = _ANSWERS[Outcome.TOO_LARGE]
        await _answer(send, status, text, [(b"connection", b"close")], last=False)
        try:
            async with asyncio.timeout(_LINGER_S):
                while _more(await receive()):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _TooLarge
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise _Gone from None


def _more(message: AsgiMessage) -> bool:
    return message["type"] == "http.request" and bool(message.get("more_body", False))


async def _answer(
    send: Send,
    status: int,
    text: str,
    headers: list[tuple[bytes, bytes]],
    *,
    last: bool = True,
) -> None:
    body = f"{text}\n".encode()
    fixed = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""

"""
Faults of requests, as a layer around the API: whichever way a request comes in, it passes here.

Without any fault it only hands on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exotide.cloud.api.errors import ApiError
from exotide.cloud.api.routing import Endpoint
from exotide.cloud.api.world import World
from exotide.cloud.droppable import DROP
from exotide.cloud.faults import foreign, places
from exotide.cloud.faults.engine import OPERATION, Strike
from exotide.cloud.faults.model import (
    BrokenBody,
    Drop,
    Effect,
    Facts,
    ForeignChange,
    Lag,
    Latency,
    RateLimit,
    Refusal,
    ServerError,
    WrongField,
)
from exotide.cloud.faults.past import Past
from exotide.cloud.faults.wrong_fields import rewrite

_log: Final = structlog.get_logger(__name__)


_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"

_Terminal = ServerError | RateLimit | Refusal | BrokenBody | Drop
_TERMINAL: Final[tuple[type[_Terminal], ...]] = (
    *(ServerError, RateLimit, Refusal),
    *(BrokenBody, Drop),
)


Locate = Callable[[Scope], tuple[str, Endpoint, Mapping[str, str]]]
"""A request to zone, endpoint and parameters; raises ApiError if there is no such thing."""


class FaultyApi:
    """
    The API as an ASGI application, with the faults of its world.

    Args:
        api_of: Makes the API of another world, for reads that lag behind.
    """

    def __init__(
        self, api: ASGIApp, world: World, *, locate: Locate, api_of: Callable[[World], ASGIApp]
    ) -> None:
        self._api, self._world = api, world
        self._locate, self._api_of = locate, api_of
        self._past = Past(world)
        self._failing_reads: Counter[str] = Counter()
        """How many reads have still to fail after an answer that was lost, by fault."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._world.faults.idle or scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        facts = self._facts(scope)
        OPERATION.set(facts.operation)
        self._past.look()
        self._let_others_change(facts)
        await self._delay(facts)
        if scope["method"] == "GET" and self._read_fails():
            await _read(receive)
            await _refuse(send, 503, "the service is unavailable")
            return
        strike = self._world.faults.first(facts, *_TERMINAL)
        if strike is None:
            await self._pass(facts, scope, receive, send)
            return
        _note(strike, facts)
        await self._strike(strike, scope, receive, send)

    def _facts(self, scope: Scope) -> Facts:
        try:
            zone, endpoint, path = self._locate(scope)
        except ApiError:
            return places.of_request(self._world, "", "", {})
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        return places.of_request(
            self._world, endpoint.operation, zone, path, query.get("manager-id")
        )

    def _let_others_change(self, facts: Facts) -> None:
        pools = [pool for pool in self._world.pools.values() if pool.id in facts.pools]
        if not pools:
            return
        for strike in list(self._world.faults.strikes(facts, ForeignChange)):
            _note(strike, facts)
            foreign.carry_out(self._world, pools[0], strike.effect.change)

    async def _delay(self, facts: Facts) -> None:
        for strike in list(self._world.faults.strikes(facts, Latency)):
            _note(strike, facts)
            await asyncio.sleep(strike.effect.delay_s.draw(strike.chance))

    def _read_fails(self) -> bool:
        """Whether a lost answer takes this read with it."""
        for fault_id in list(self._failing_reads):
            if not self._world.faults.knows(fault_id):
                del self._failing_reads[fault_id]
            elif self._failing_reads[fault_id] > 0:
                self._failing_reads[fault_id] -= 1
                return True
        return False

    async def _pass(self, facts: Facts, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, perhaps of the past, perhaps with wrong fields."""
        api = self._api
        if scope["method"] == "GET":
            lag = self._world.faults.first(facts, Lag)
            if lag is not None:
                _note(lag, facts)
                api = self._api_of(self._past.world_before(lag.effect.behind_s))
        wrong = [*self._odd_states(), *self._wrong_fields(facts)]
        if not wrong:
            await api(scope, receive, send)
            return
        answer = _Recorded()
        await api(scope, receive, answer.hear)
        for effect in wrong:
            answer.body = rewrite(answer.body, effect)
        await _answer(send, answer.status, b"application/json", answer.body)

    def _wrong_fields(self, facts: Facts) -> Iterator[WrongField]:
        for strike in self._world.faults.strikes(facts, WrongField):
            _note(strike, facts)
            yield strike.effect

    def _odd_states(self) -> Iterator[WrongField]:
        """The words of pools in a state that does not end: any word, so the rules never see it."""
        for pool_id, word in self._world.faults.shown_states.items():
            yield WrongField(field="state", value=json.dumps(word), of=pool_id)

    async def _strike(
        self, strike: Strike[_Terminal], scope: Scope, receive: Receive, send: Send
    ) -> None:
        effect = strike.effect
        if _takes_effect(effect):
            answer = await self._carry_out(scope, receive)
        else:
            await _read(receive)
            answer = _Recorded()
        if isinstance(effect, ServerError | Drop):
            self._failing_reads[strike.fault_id] += effect.failing_reads
        if isinstance(effect, ServerError | Refusal):
            await _refuse(send, effect.status, effect.message)
        elif isinstance(effect, RateLimit):
            retry = (b"retry-after", str(effect.retry_after_s).encode())
            await _refuse(send, 429, "too many requests", retry)
        elif isinstance(effect, BrokenBody):
            await _break(send, answer, effect)
        else:
            await _drop(effect, answer, scope, receive, send)

    async def _carry_out(self, scope: Scope, receive: Receive) -> _Recorded:
        answer = _Recorded()
        await self._api(scope, receive, answer.hear)
        return answer


class _Recorded:
    """An answer that was not sent."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def hear(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


def _takes_effect(effect: _Terminal) -> bool:
    if isinstance(effect, ServerError):
        return effect.carried_out
    if isinstance(effect, Drop):
        return effect.moment != "before"
    return isinstance(effect, BrokenBody)


async def _read(receive: Receive) -> None:
    """Read the request to its end: a connection may only be kept after that."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _refuse(send: Send, status: int, message: str, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps({"message": message}).encode()
    await _answer(send, status, b"application/json", body, *more)


async def _break(send: Send, answer: _Recorded, effect: BrokenBody) -> None:
    kind, body = b"application/json", answer.body
    if effect.form == "truncated":
        body = body[: len(body) // 2]
    elif effect.form == "html":
        kind, body = b"text/html", _PAGE
    elif effect.form == "wrong-type":
        kind = b"text/plain"
    else:
        body = b""
    await _answer(send, answer.status, kind, body)


async def _answer(
    send: Send, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop(
    effect: Drop, answer: _Recorded, scope: Scope, receive: Receive, send: Send
) -> None:
    """A server without the extension ends the connection when an answer stays incomplete."""
    cut: Callable[[], None] | None = scope.get("extensions", {}).get(DROP)
    if effect.moment == "middle" or cut is None:
        headers = answer.headers or [(b"content-length", b"1")]
        half = answer.body[: len(answer.body) // 2] if effect.moment == "middle" else b""
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
    if cut is None:
        return
    cut()
    while (await receive())["type"] != "http.disconnect":
        pass


def _note(strike: Strike[Effect], facts: Facts) -> None:
    _log.info(
        "fault_strikes", fault=strike.fault_id, kind=strike.effect.kind, operation=facts.operation
    )

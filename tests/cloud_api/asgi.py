"""Calls the API in process, signed, without sockets: for many calls in little time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from starlette.types import ASGIApp

from exotide.cloud.api.app import Api
from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.instance_pools.healing import notice_death
from exotide.cloud.api.signature import SignedRequest, sign
from exotide.cloud.api.world import Pace, World
from exotide.cloud.fake_balancers import FakeBalancers
from exotide.cloud.faults.front import FaultyApi
from exotide.cloud.faults.install import install
from exotide.cloud.testing import FakeServers, watched

T = TypeVar("T")
KEY, SECRET, NOW = "EXOtestkey000000000000000", "testsecret", 1767225000.0

MICRO = {"id": next(key for key, kind in INSTANCE_TYPES.items() if kind.size == "micro")}
DEBIAN = {"id": next(key for key, each in TEMPLATES.items() if each.zone == "at-vie-1")}
INSTANCE: dict[str, Any] = {
    "name": "web",
    "instance-type": MICRO,
    "template": DEBIAN,
    "disk-size": 10,
}
POOL: dict[str, Any] = INSTANCE | {"size": 1}
"""The least that an instance and a pool of the default zone need."""


@dataclass(kw_only=True)
class Answer:
    status: int
    body: Any


@dataclass(kw_only=True)
class LocalApi:
    """One world with a frozen clock and repeatable ids, on a loop of its own."""

    servers: FakeServers = field(default_factory=FakeServers)
    balancers: FakeBalancers = field(default_factory=FakeBalancers)
    pace: Pace = field(default_factory=lambda: Pace(retry_s=0.0))
    has_faults: bool = False
    """Whether faults on demand may be added to its world."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    world: World = field(init=False)
    api: ASGIApp = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(
            servers=self.servers,
            balancers=self.balancers,
            secrets={KEY: SECRET},
            pace=self.pace,
            clock=lambda: NOW,
            chance=random.Random(7),
        )
        api = Api(self.world)
        self.api = watched(api)
        if self.has_faults:
            install(self.world)
            self.api = FaultyApi(self.api, self.world, locate=api.locate, api_of=Api)
        self.servers.on_death(lambda key, reason: notice_death(self.world, key, reason))
        self.loop.run_until_complete(self.servers.open())

    def close(self) -> None:
        self.loop.run_until_complete(self.world.background.close())
        self.loop.close()

    def settle(self) -> None:
        settling = asyncio.wait_for(self.world.background.settle(), 10)
        self.loop.run_until_complete(settling)

    def turns(self, count: int) -> None:
        """Let the loop go on by a few steps, so that work is caught half-way."""

        async def wait() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    def make(self, path: str, body: object) -> str:
        """Create something, wait until it is there, and give its id."""
        answer = self.call("POST", path, body)
        assert answer.status == 200, answer.body
        self.settle()
        ended = self.world.operations.known[answer.body["id"]]
        assert ended.state == "success", ended
        return str(answer.body["reference"]["id"])

    def done(self, method: str, path: str, body: object = None) -> None:
        """Change something and wait until it is so."""
        answer = self.call(method, path, body)
        assert answer.status == 200, answer.body
        self.settle()
        ended = self.world.operations.known[answer.body["id"]]
        assert ended.state == "success", ended

    def show(self, path: str) -> Any:
        """Read something that is there."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer.body
        return answer.body

    def run(self, work: Callable[[], T]) -> T:
        """Do something on the loop, where operations may be started, and let them end."""

        async def do() -> T:
            return work()

        result = self.loop.run_until_complete(do())
        self.settle()
        return result

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Sequence[tuple[str, str]] = (),
        **signer: str,
    ) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return self.send(method, path, content, query, **signer)

    def send(
        self,
        method: str,
        path: str,
        content: bytes,
        query: Sequence[tuple[str, str]] = (),
        *,
        key: str = KEY,
        secret: str = SECRET,
    ) -> Answer:
        """Send any bytes to a (decoded) path, properly signed."""
        header = self.authorization(method, path, content, query, key=key, secret=secret)
        return self.deliver(method, path, content, query, header)

    def authorization(
        self,
        method: str,
        path: str,
        content: bytes,
        query: Sequence[tuple[str, str]],
        *,
        key: str = KEY,
        secret: str = SECRET,
        expires: int = int(NOW) + 600,
    ) -> str:
        """Return the header that signs a request."""
        request = SignedRequest(method=method, path=_raw(path), query=query, body=content)
        names = sorted({name for name, value in query if value})
        signature = sign(request, secret=secret, query_args=names, expires=str(expires))
        signed = f",signed-query-args={';'.join(names)}" if names else ""
        return f"EXO2-HMAC-SHA256 credential={key}{signed},expires={expires},signature={signature}"

    def deliver(
        self,
        method: str,
        path: str,
        content: bytes,
        query: Sequence[tuple[str, str]],
        authorization: str | None,
    ) -> Answer:
        """Send a request with any header; None: without one."""
        signed = [] if authorization is None else [(b"authorization", authorization.encode())]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": _raw(path).encode(),
            "query_string": urlencode(query).encode(),
            "headers": [(b"host", b"cloud.test"), *signed],
            "server": ("127.0.0.1", 80),
        }
        return self.loop.run_until_complete(self._deliver(scope, content))

    async def _deliver(self, scope: dict[str, Any], content: bytes) -> Answer:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.api(scope, receive, send)
        start, *rest = sent
        return Answer(
            status=start["status"], body=json.loads(b"".join(each["body"] for each in rest))
        )


def _raw(path: str) -> str:
    return quote(path, safe="/:")

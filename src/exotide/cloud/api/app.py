"""
The API over HTTP: authenticate, read, find the operation, carry it out, answer JSON.

Zones by path (direct mode) or by host name (proxy mode): see `hosts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NoReturn
from urllib.parse import parse_qsl

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from exotide.cloud.api import account, not_offered, offers, zones
from exotide.cloud.api.anti_affinity_groups import endpoints as anti_affinity_groups
from exotide.cloud.api.catalogue import DEFAULT_ZONE, ZONES
from exotide.cloud.api.errors import ApiError, Forbidden, Invalid, NotFound, TooLarge
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.hosts import zone_endpoint, zone_of_host
from exotide.cloud.api.iam import endpoints as iam
from exotide.cloud.api.iam.enforcement import authorize
from exotide.cloud.api.instance_pools import endpoints as instance_pools
from exotide.cloud.api.instances import changes as instance_changes
from exotide.cloud.api.instances import endpoints as instances
from exotide.cloud.api.instances import reverse_dns
from exotide.cloud.api.load_balancers import endpoints as load_balancers
from exotide.cloud.api.routing import Call, Endpoint, Router
from exotide.cloud.api.security_groups import endpoints as security_groups
from exotide.cloud.api.signature import SignedRequest, verify
from exotide.cloud.api.world import World
from exotide.cloud.errors import CloudUnusable

_log: Final = structlog.get_logger(__name__)

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *zones.ENDPOINTS,
    *account.ENDPOINTS,
    *iam.ENDPOINTS,
    *offers.ENDPOINTS,
    *not_offered.ENDPOINTS,
    *security_groups.ENDPOINTS,
    *anti_affinity_groups.ENDPOINTS,
    *instances.ENDPOINTS,
    *instance_changes.ENDPOINTS,
    *reverse_dns.ENDPOINTS,
    *instance_pools.ENDPOINTS,
    *load_balancers.ENDPOINTS,
)
"""Every operation of the emulated API."""

PUBLIC: Final = frozenset((each.method, each.path) for each in ENDPOINTS if each.public)
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_BODY_BYTES: Final = 1024 * 1024
_PLACE: Final = re.compile(r"(?:/z/(?P<zone>[a-z0-9-]+))?/v2(?P<path>/.*)")


async def _nothing_to_keep() -> None:
    """A cloud without a state folder forgets."""


class Api:
    """
    The ASGI application of one local cloud.

    Args:
        commit: Awaited before a change is answered with success: what was answered is kept.
    """

    def __init__(
        self,
        world: World,
        *,
        default_zone: str = DEFAULT_ZONE,
        commit: Callable[[], Awaitable[None]] = _nothing_to_keep,
    ) -> None:
        self._world, self._commit = world, commit
        self._default_zone = default_zone
        self._router = Router(ENDPOINTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"no such protocol here: {scope['type']}")
        request = Request(scope, receive)
        try:
            body = await _body_of(request)
        except ClientDisconnect:
            return
        except ApiError as error:
            await _refusal(error)(scope, receive, send)
            return
        answer = self._answer(request, body)
        if request.method not in READS and answer.status_code == 200:
            answer = await self._kept(answer)
        await answer(scope, receive, send)

    async def _kept(self, answer: Response) -> Response:
        try:
            await self._commit()
        except CloudUnusable as error:
            _log.error("change_not_kept", reason=str(error))
            return _json(503, {"message": f"the change could not be kept: {error}"})
        return answer

    def _answer(self, request: Request, body: bytes) -> Response:
        try:
            return _json(200, self._carry_out(request, body))
        except ApiError as error:
            _log.info(
                "request_refused",
                method=request.method,
                path=request.url.path,
                status=error.status,
                message=str(error),
            )
            return _refusal(error)
        except Exception:  # noqa: BLE001 - a client gets JSON whatever happens; the log has it
            _log.exception("request_crashed", method=request.method, path=request.url.path)
            return _json(500, {"message": "the emulator failed; see its log"})

    def _carry_out(self, request: Request, body: bytes) -> Mapping[str, object]:
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        zone, path = self._place(request)
        is_public = self._is_public(request, path)
        key = None if is_public else self._authenticate(request, query, body)
        endpoint, parameters = self._router.find(request.method, path)
        call = Call(
            zone=zone,
            endpoint_of=_endpoints(request),
            body=_fields(body),
            query=query,
            path=parameters,
            source_ip=request.client.host if request.client else "",
        )
        if key is not None:
            authorize(self._world, key, endpoint, call)
        return endpoint.handler(self._world, call)

    def locate(self, scope: Scope) -> tuple[str, Endpoint, Mapping[str, str]]:
        """
        Return what a request asks for: zone, endpoint and the parameters in the path.

        Raises:
            ApiError: Nothing that there is.
        """
        request = Request(scope)
        zone, path = self._place(request)
        return zone, *self._router.find(request.method, path)

    def _place(self, request: Request) -> tuple[str, str]:
        """Find out the zone, and what of the path is below /v2."""
        path: str = request.scope["path"]
        if not path.startswith("/"):
            raise Forbidden(f"no proxy for {path}; only CONNECT *.exoscale.com:443 is served")
        match = _PLACE.fullmatch(path)
        if match is None:
            raise NotFound(f"no such path: {path}; the API is below /v2 and /z/<zone>/v2")
        zone = match["zone"] or self._zone_of(request)
        if zone not in ZONES:
            raise NotFound.of("zone", zone)
        return zone, match["path"]

    def _zone_of(self, request: Request) -> str:
        if request.scope.get("scheme") != "https":
            return self._default_zone
        return zone_of_host(request.headers.get("host", ""), self._default_zone)

    def _is_public(self, request: Request, path: str) -> bool:
        """Whether no signature is needed; one that is there is verified all the same."""
        return (request.method, path) in PUBLIC and "authorization" not in request.headers

    def _authenticate(self, request: Request, query: list[tuple[str, str]], body: bytes) -> str:
        raw_path: bytes = request.scope["raw_path"]
        signed = SignedRequest(
            method=request.method, path=raw_path.decode("latin-1"), query=query, body=body
        )
        return verify(
            signed,
            header=request.headers.get("authorization"),
            secrets=self._world.secrets,
            now=self._world.clock(),
        )


async def _body_of(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY_BYTES:
            raise TooLarge(f"body: expected at most {MOST_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _fields(body: bytes) -> Fields:
    if not body.strip():
        return Fields({})
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"body: expected JSON: {error}") from error
    if not isinstance(values, dict):
        raise Invalid.field("body", "a JSON object", values)
    return Fields(values)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _endpoints(request: Request) -> Callable[[str], str]:
    """Say where zones are for this client: endpoints in answers must be reachable for it, too."""
    return partial(
        zone_endpoint,
        scheme=request.scope.get("scheme", "http"),
        host=request.headers.get("host", ""),
        server=request.scope["server"],
    )


def _refusal(error: ApiError) -> Response:
    return _json(error.status, {"message": str(error)})


def _json(status: int, content: Mapping[str, object]) -> Response:
    """ASCII only: names may hold anything, and every client can read escapes."""
    body = json.dumps(content, separators=(",", ":"))
    return Response(body, status_code=status, media_type="application/json")

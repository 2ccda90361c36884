"""
Calls to the Exoscale API: signed, limited in time and in size, every failure a typed error.

The same file stands in both agents, since the image of each is built from its folder alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import httpcore2

from .errors import (
    Busy,
    CloudError,
    CloudUnavailable,
    NonsenseAnswer,
    PoolNotFound,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from .network import CUT, cause_of, connections_to

LARGEST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_MOST_VALUES: Final = 250_000
"""A megabyte of empty lists would be twenty in memory."""
_LARGEST_REFUSAL_BYTES: Final = 65_536
_SIGNATURE_S: Final = 600
_SHOWN: Final = 200
_KINDS: Final[Mapping[int, type[CloudError]]] = {
    **dict.fromkeys((401, 403), Unauthorized),
    404: PoolNotFound,
    **dict.fromkeys((408, 425, 429), CloudUnavailable),
    **dict.fromkeys((409, 423), Busy),
}
_ADVICE: Final[Mapping[type[CloudError], str]] = {
    Unauthorized: "check EXOSCALE_KEY, EXOSCALE_SECRET, the key's role, this machine's clock",
    PoolNotFound: "check EXOSCALE_INSTANCEPOOL_ID and EXOSCALE_ZONE",
    NonsenseAnswer: "expected 200",
}


class Client:
    """
    One key's way to one API: a connection that is kept, and calls one after the other.

    A call ends within its time whatever hangs: the look-up of the name, the connection, the
    answer. It is cancelled, not abandoned. Proxies and certificate authorities come from the
    environment as with other clients: HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, SSL_CERT_FILE.
    No redirect is followed: a signed request goes where it was meant to go.
    """

    def __init__(
        self,
        key: str,
        secret: str,
        *,
        endpoint: str,
        timeout_s: float,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """
        Args:
            endpoint: Base URL with its path, such as https://api-at-vie-1.exoscale.com/v2.
            timeout_s: The time that one call may take in all.
        """
        parts = urlsplit(endpoint)
        self._key, self._secret = key, secret
        self._host = parts.netloc.rpartition("@")[2]
        self._origin = f"{parts.scheme}://{self._host}"
        self._path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._timeout_s = timeout_s
        self._environ = environ
        self._turn = asyncio.Lock()
        self._connections: httpcore2.AsyncConnectionPool | None = None

    async def read(
        self, operation: str, path: str, query: Mapping[str, str] = MappingProxyType({})
    ) -> object:
        """
        Return the document that a GET answers.

        A read whose connection was cut is made once more on a fresh one.

        Raises:
            CloudError: there is none; its text begins with `operation`.
        """
        return await self._call(operation, self._signed("GET", path, query, b""), attempts=2)

    async def change(self, operation: str, path: str, body: Mapping[str, object]) -> object:
        """
        Return the document that a PUT answers. It is sent once: it may have been carried out.

        Raises:
            CloudError: its `outcome_unknown` tells whether something may have changed.
        """
        content = json.dumps(body).encode()
        return await self._call(operation, self._signed("PUT", path, {}, content), attempts=1)

    async def close(self) -> None:
        """Close the connection; another call opens a new one."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    def _signed(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> _Request:
        path = f"{self._path}{path}"
        signature = authorization(
            method,
            path,
            query,
            body,
            key=self._key,
            secret=self._secret,
            expires=int(time.time()) + _SIGNATURE_S,
        )
        headers: dict[bytes | str, bytes | str] = {
            "Host": self._host,
            "Authorization": signature,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "exotide",
        }
        if body:
            headers["Content-Type"] = "application/json"
        target = f"{path}?{urlencode(query)}" if query else path
        return _Request(method=method, url=f"{self._origin}{target}", headers=headers, body=body)

    async def _call(self, operation: str, request: _Request, *, attempts: int) -> object:
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                answer = await self._exchange(request, attempts)
            return self._read(answer, request)
        except CloudError as error:
            raise type(error)(f"{operation}: {error}", said=error.said) from None
        except TimeoutError:
            text = f"{operation}: no whole answer within {self._timeout_s:g} s"
            raise CloudUnavailable(text) from None
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a bad network
            cause = one_line(self._without_secrets(cause_of(error), request))
            raise CloudUnavailable(f"{operation}: no connection: {cause}") from None

    def _read(self, answer: _Answer, request: _Request) -> object:
        if not answer.good:
            said = self._without_secrets(_said(answer), request)
            reason = self._without_secrets(answer.reason, request)
            raise _refusal(answer.status, said, reason)
        try:
            return _document(answer.body)
        except (ValueError, RecursionError):
            raise NonsenseAnswer("the answer is not JSON") from None

    async def _exchange(self, request: _Request, attempts: int) -> _Answer:
        for _ in range(attempts - 1):
            try:
                return await self._once(request)
            except CUT:
                continue
        return await self._once(request)

    async def _once(self, request: _Request) -> _Answer:
        if self._connections is None:
            self._connections = connections_to(urlsplit(request.url), self._environ)
        try:
            async with self._connections.stream(
                request.method, request.url, headers=request.headers, content=request.body or None
            ) as response:
                return await _received(response)
        except BaseException:
            # Nothing of what failed is used again, neither a connection nor a certificate.
            with contextlib.suppress(Exception):
                await self.close()
            raise

    def _without_secrets(self, text: str, request: _Request) -> str:
        """Whatever an API repeats of a request, nobody reads it in a log."""
        header = str(request.headers["Authorization"])
        for secret in (header, header.partition("signature=")[2], self._secret, self._key):
            text = text.replace(secret, "***") if secret else text
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    url: str
    headers: Mapping[bytes | str, bytes | str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    reason: str
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def authorization(
    method: str,
    path: str,
    query: Mapping[str, str],
    body: bytes,
    *,
    key: str,
    secret: str,
    expires: int,
) -> str:
    """
    Sign a request (EXO2-HMAC-SHA256); the value of its Authorization header.

    Args:
        path: As it is sent, with the endpoint's own.
        expires: Seconds since 1970.
    """
    names = sorted(query)
    values = "".join(query[name] for name in names)
    message = b"\n".join(
        [f"{method} {path}".encode(), body, values.encode(), b"", str(expires).encode()]
    )
    digest = hmac.new(secret.encode(), message, hashlib.sha256).digest()
    signed = f"signed-query-args={';'.join(names)}," if names else ""
    signature = base64.b64encode(digest).decode()
    return f"EXO2-HMAC-SHA256 credential={key},{signed}expires={expires},signature={signature}"


def one_line(text: object, *, limit: int = _SHOWN) -> str:
    """Text from outside, fit for a log, a journal and a terminal."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= limit else f"{line[:limit]}..."


async def _received(response: httpcore2.Response) -> _Answer:
    headers = {name.lower(): value for name, value in response.headers}
    coding = headers.get(b"content-encoding", b"identity")
    good = 200 <= response.status < 300
    if good and coding.lower() != b"identity":
        # A small answer could be endless once it is unpacked, and nobody asked for a packed one.
        raise NonsenseAnswer(f"the answer is packed: {one_line(coding.decode('latin-1'))}")
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if good and len(body) > LARGEST_ANSWER_BYTES:
            raise NonsenseAnswer(f"the answer has more than {LARGEST_ANSWER_BYTES} bytes")
        if not good and len(body) > _LARGEST_REFUSAL_BYTES:
            break
    reason = response.extensions.get("reason_phrase", b"")
    return _Answer(
        status=response.status, reason=reason.decode("latin-1", "replace"), body=bytes(body)
    )


def _document(body: bytes) -> Any:
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ValueError("too many values")
    return json.loads(body, parse_constant=_no_number)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refusal(status: int, said: str, reason: str) -> CloudError:
    """What an answer means that is no success."""
    kind = _kind(status, said)
    text = f"{status} {one_line(said or reason)}".rstrip()
    return kind(f"{text}; {_ADVICE[kind]}" if kind in _ADVICE else text, said=said)


def _kind(status: int, said: str) -> type[CloudError]:
    if "quota" in said.lower() and status in {400, 403, 409, 412}:
        return QuotaExceeded
    if status >= 500:
        return CloudUnavailable
    return _KINDS.get(status, Refused if status >= 400 else NonsenseAnswer)


def _said(answer: _Answer) -> str:
    """What the API says about a refusal; empty if that is a page for people."""
    try:
        document = _document(answer.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    found = (document.get(name) for name in ("message", "error", "detail", "title"))
    return next((text for text in found if isinstance(text, str) and text), "")

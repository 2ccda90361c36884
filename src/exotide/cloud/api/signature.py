"""
EXO2-HMAC-SHA256, the request signature of the Exoscale API.

What is signed: method and path as sent (percent-encoding and prefix kept, no query), the body, the
values of the listed query parameters, no headers, and the second of expiry; five parts joined by
newlines. The host is not signed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exotide.cloud.api.errors import Forbidden

SCHEME: Final = "EXO2-HMAC-SHA256"
_EXPIRES: Final = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """The parts of a request that a signature covers."""

    method: str
    path: str
    """As on the wire: still percent-encoded, with any prefix, without the query."""
    query: Sequence[tuple[str, str]] = ()
    """Decoded names and values, in the order sent."""
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A parsed Authorization header."""

    key: str
    query_args: tuple[str, ...]
    expires: str
    signature: str


def sign(request: SignedRequest, *, secret: str, query_args: Sequence[str], expires: str) -> str:
    """Return the signature, in padded base64."""
    values = [_only_value(request.query, name) for name in query_args]
    head = f"{request.method} {request.path}\n".encode()
    tail = f"\n{''.join(values)}\n\n{expires}".encode()
    mac = hmac.digest(secret.encode(), head + request.body + tail, hashlib.sha256)
    return b64encode(mac).decode()


def verify(
    request: SignedRequest, *, header: str | None, secrets: Mapping[str, str], now: float
) -> str:
    """
    Return the key that signed the request.

    Args:
        header: The value of Authorization.
        secrets: The secret of each valid key.
        now: Unix seconds.

    Raises:
        Forbidden: No, malformed, expired or wrong signature, or an unknown key.
    """
    if not header:
        raise Forbidden("Invalid request signature: no Authorization header")
    credential = parse(header)
    secret = secrets.get(credential.key)
    if secret is None:
        raise Forbidden("Invalid request signature: unknown key")
    if not _EXPIRES.fullmatch(credential.expires) or int(credential.expires) < now:
        raise Forbidden("Invalid request signature: expired; check the clock of this machine")
    _refuse_unsigned_arguments(request.query, credential.query_args)
    expected = sign(
        request, secret=secret, query_args=credential.query_args, expires=credential.expires
    )
    if not hmac.compare_digest(expected.encode(), credential.signature.encode()):
        raise Forbidden("Invalid request signature")
    return credential.key


def parse(header: str) -> Credential:
    """
    Read an Authorization header.

    Raises:
        Forbidden: It is of another scheme or lacks a part.
    """
    scheme, _, rest = header.partition(" ")
    pairs = dict(part.partition("=")[::2] for part in rest.split(","))
    if scheme != SCHEME or not {"credential", "expires", "signature"} <= pairs.keys():
        raise Forbidden(f"Invalid request signature: expected {SCHEME} credential=...")
    names = pairs.get("signed-query-args", "")
    return Credential(
        key=pairs["credential"],
        query_args=tuple(names.split(";")) if names else (),
        expires=pairs["expires"],
        signature=pairs["signature"],
    )


def _only_value(query: Sequence[tuple[str, str]], name: str) -> str:
    """Clients list a repeated parameter or leave it out, but never sign its values."""
    values = [value for key, value in query if key == name]
    return values[0] if len(values) == 1 else ""


def _refuse_unsigned_arguments(query: Sequence[tuple[str, str]], signed: Sequence[str]) -> None:
    for name, _ in query:
        if name not in signed and _only_value(query, name):
            raise Forbidden(f"Invalid request signature: query parameter {name} is not signed")

"""Objects of the world as JSON and back: every field of every dataclass, by its type."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import msgspec

RUNTIME_ONLY: Final = (asyncio.Lock,)
"""Fields of these types are stored as null and made anew."""


def encode(value: object) -> bytes:
    """Write a dataclass, or a plain value, as JSON; bytes become base64."""
    try:
        return msgspec.json.encode(value, enc_hook=_to_plain)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        plain = msgspec.to_builtins(value, enc_hook=_to_plain)
        return json.dumps(plain, separators=(",", ":")).encode()


def decode(kind: Any, text: bytes) -> Any:
    """
    Read what `encode` wrote of a value of this type.

    Raises:
        ValueError: It is no JSON, or no such value; names the field.
    """
    # Not msgspec's own reader, which refuses half of a surrogate pair.
    return msgspec.convert(json.loads(text), type=kind, dec_hook=_from_plain)


def _to_plain(value: object) -> None:
    if not isinstance(value, RUNTIME_ONLY):
        raise NotImplementedError(f"no stored form for {type(value).__name__}")


def _from_plain(kind: type, value: object) -> object:
    if kind is object:  # whatever JSON holds, such as a rule as it was sent
        return value
    if kind not in RUNTIME_ONLY:
        raise NotImplementedError(f"no stored form for {kind.__name__}")
    return kind()

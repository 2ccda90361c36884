"""Answers in which a field is missing or has another value."""

from __future__ import annotations

import json
from typing import NoReturn

from exotide.cloud.faults.model import WrongField


def rewrite(body: bytes, effect: WrongField) -> bytes:
    """Return an answer as the fault wants it; what is no JSON stays as it is."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    _walk(answer, effect)
    return json.dumps(answer, separators=(",", ":")).encode()


def _walk(value: object, effect: WrongField) -> None:
    if isinstance(value, list):
        for item in value:
            _walk(item, effect)
    elif isinstance(value, dict):
        for item in list(value.values()):
            _walk(item, effect)
        is_meant = effect.of is None or effect.of in (value.get("id"), value.get("name"))
        if is_meant and effect.field in value:
            _change(value, effect)


def _change(value: dict[str, object], effect: WrongField) -> None:
    if effect.value is None:
        del value[effect.field]
        return
    try:
        value[effect.field] = json.loads(effect.value, parse_constant=_refuse)
    except ValueError:
        value[effect.field] = effect.value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")

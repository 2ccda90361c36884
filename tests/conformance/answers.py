"""Judges answers of an Exoscale API: those with status 200 by the official document."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from exotide.cloud.watching import Exchange

from .document import answer_validator, find

REFUSALS: Final = frozenset({400, 403, 404, 405, 409, 412, 413})
"""The document describes no refusal of the operations that we have; the contract names these."""

_EMPTY_POOL: Final = "scale-instance-pool takes 0, but the document gives a pool at least 1"
DEVIATIONS: Final[dict[tuple[str, str, str], str]] = {
    ("get-instance-pool", "size", "0"): _EMPTY_POOL,
    ("list-instance-pools", "instance-pools.*.size", "0"): _EMPTY_POOL,
}
"""Operation, JSON path (numbers as `*`) and value where we leave the document, and why."""

_PLACE: Final = re.compile(r"(?:/z/[a-z0-9-]+)?/v2(?P<path>/.*)")


def faults(exchange: Exchange) -> list[str]:
    """Say what is wrong with an answer: operation, JSON path, value, what was expected."""
    place = _PLACE.fullmatch(exchange.path)
    operation = place and find(exchange.method, place["path"])
    name = operation.id if operation else f"{exchange.method} {exchange.path}"
    if not exchange.content_type.startswith("application/json"):
        return [f"{name}: content type {exchange.content_type!r}, expected application/json"]
    try:
        value = json.loads(exchange.body)
    except ValueError as error:
        return [f"{name}: the body is no JSON: {error}"]
    if exchange.status != 200:
        return _refusal_faults(name, exchange.status, value)
    if operation is None:
        return [f"{name}: answered with 200, but the document has no such operation"]
    return value_faults(operation.id, value)


def value_faults(operation: str, value: Any) -> list[str]:
    """Say where a value leaves the schema of an operation's answer."""
    found = []
    for error in answer_validator(operation).iter_errors(value):
        steps = ["*" if isinstance(step, int) else step for step in error.instance_path]
        if (operation, ".".join(steps), json.dumps(error.instance)) not in DEVIATIONS:
            place = "".join(
                f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path
            )
            found.append(f"{operation}: ${place}: {error.message}")
    return found


def _refusal_faults(name: str, status: int, value: Any) -> list[str]:
    if status not in REFUSALS:
        return [f"{name}: status {status} with {value!r}"]
    if not isinstance(value, dict) or set(value) != {"message"} or not value["message"]:
        return [f"{name}: status {status} with {value!r}, expected only a message"]
    return []

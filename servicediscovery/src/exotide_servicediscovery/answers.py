"""Reads the API's answers, and refuses those that do not say what its contract promises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from .errors import AnswerInvalid
from .targets import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAnswer:
    """What get-instance-pool says: the pool, and the ids of its members."""

    id: str
    name: str
    instance_ids: tuple[str, ...]


def read_pool(answer: object, *, pool_id: str) -> PoolAnswer:
    """
    Read the answer of get-instance-pool.

    Raises:
        AnswerInvalid: it is another pool or none, or does not say who its members are. A pool
            of size 0 need not list them; any other that does not is not taken for empty.
    """
    operation = "get-instance-pool"
    pool = _object(answer, operation)
    if (found := _text(pool, "id", operation).lower()) != pool_id.lower():
        raise AnswerInvalid(f"{operation}: asked for pool {pool_id}, got {found!r}")
    size = pool.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise AnswerInvalid(f"{operation}: size must be a number, got: {size!r:.80}")
    listed = pool.get("instances", [] if size == 0 else None)
    ids = tuple(_text(_object(ref, operation), "id", operation) for ref in _list(listed, operation))
    return PoolAnswer(id=found, name=_text(pool, "name", operation), instance_ids=ids)


def read_instances(answer: object) -> dict[str, Instance]:
    """Read the answer of list-instances, by id. Raises AnswerInvalid."""
    operation = "list-instances"
    listed = _list(_object(answer, operation).get("instances"), operation)
    instances = [_instance(item, operation) for item in listed]
    return {instance.id: instance for instance in instances}


def _instance(item: object, operation: str) -> Instance:
    found = _object(item, operation)
    return Instance(
        id=_text(found, "id", operation),
        name=_text(found, "name", operation),
        state=_text(found, "state", operation),
        ip=_address(found.get("public-ip"), operation),
    )


def _address(value: object, operation: str) -> IPv4Address | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return IPv4Address(value)
    except ValueError:
        pass
    raise AnswerInvalid(f"{operation}: public-ip must be an IPv4 address, got: {value!r:.80}")


def _object(value: object, operation: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise AnswerInvalid(f"{operation}: expected an object, got: {value!r:.80}")
    return value


def _list(value: object, operation: str) -> list[object]:
    if not isinstance(value, list):
        raise AnswerInvalid(f"{operation}: instances must be a list, got: {value!r:.80}")
    return value


def _text(found: dict[str, object], key: str, operation: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise AnswerInvalid(f"{operation}: {key} must be a text, got: {value!r:.80}")
    return value

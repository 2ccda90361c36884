"""Reads the API's answers, and refuses those that do not say what its contract promises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from .client import one_line
from .errors import NonsenseAnswer
from .targets import Address, Instance

LARGEST_SIZE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAnswer:
    """What get-instance-pool says: the pool, and the ids of its members."""

    id: str
    name: str
    size: int
    """How many members were asked for, which is not how many there are."""
    instance_ids: tuple[str, ...]


def read_pool(answer: object, *, pool_id: str) -> PoolAnswer:
    """
    Read the answer of get-instance-pool.

    Raises:
        NonsenseAnswer: it is another pool or none, or does not say who its members are. A pool
            of size 0 need not list them; any other that does not is not taken for empty.
    """
    operation = "get-instance-pool"
    pool = _object(answer, operation)
    if (found := _text(pool, "id", operation)).lower() != pool_id.lower():
        raise _nonsense(operation, f"pool {pool_id}", found)
    size = pool.get("size")
    if type(size) is not int or not 0 <= size <= LARGEST_SIZE:
        raise _nonsense(operation, f"a size from 0 to {LARGEST_SIZE}", size)
    listed = pool.get("instances", [] if size == 0 else None)
    ids = tuple(_text(_object(ref, operation), "id", operation) for ref in _list(listed, operation))
    if len(set(ids)) != len(ids):
        raise NonsenseAnswer(f"{operation}: expected instances with ids that differ")
    return PoolAnswer(
        id=found.lower(), name=_text(pool, "name", operation), size=size, instance_ids=ids
    )


def read_instances(answer: object, *, pool_id: str, local: bool) -> dict[str, Instance]:
    """
    Read the answer of list-instances about a pool's members, by id.

    Args:
        local: Whether members may have loopback addresses, since the cloud itself has one.

    Raises:
        NonsenseAnswer: it is no list of instances.
    """
    operation = "list-instances"
    listed = _list(_object(answer, operation).get("instances"), operation)
    found = [_object(item, operation) for item in listed]
    instances = [_instance(item, operation, local) for item in found if _is_managed(item, pool_id)]
    by_id = {instance.id: instance for instance in instances}
    if len(by_id) != len(instances):
        raise NonsenseAnswer(f"{operation}: expected instances with ids that differ")
    return by_id


def _instance(found: dict[str, object], operation: str, local: bool) -> Instance:
    public = found.get("public-ip")
    address = _address(public, local=local)
    return Instance(
        id=_text(found, "id", operation),
        name=_text(found, "name", operation),
        state=_text(found, "state", operation),
        ip=address,
        unusable="" if address or public in (None, "") else _shown(public),
    )


def _address(value: object, *, local: bool) -> Address | None:
    """The address of one host that others can reach, or None."""
    try:
        address = ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if address is None or address.is_unspecified or address.packed[0] == 0:
        return None
    if address.is_multicast or address.is_reserved or address.is_link_local:
        return None
    return address if local or not address.is_loopback else None


def _is_managed(found: dict[str, object], pool_id: str) -> bool:
    """Whether it is the pool's; an answer that does not tell was filtered by the cloud."""
    manager = found.get("manager")
    named = manager.get("id") if isinstance(manager, dict) else None
    return not isinstance(named, str) or named.lower() == pool_id.lower()


def _object(value: object, operation: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _nonsense(operation, "an object", value)
    return value


def _list(value: object, operation: str) -> list[object]:
    if not isinstance(value, list):
        raise _nonsense(operation, "instances", value)
    return value


def _text(found: dict[str, object], key: str, operation: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise _nonsense(operation, f"a text as {key}", value)
    return one_line(value)


def _nonsense(operation: str, expected: str, got: object) -> NonsenseAnswer:
    return NonsenseAnswer(f"{operation}: expected {expected}, got {_shown(got)}")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return type(value).__name__
    return one_line(repr(value), limit=50)

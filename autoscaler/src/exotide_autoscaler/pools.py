"""The pool behind the Exoscale API: what its answers mean, and which of them cannot be true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from exotide_autoscaler.client import Client, one_line
from exotide_autoscaler.domain import Member, Pool
from exotide_autoscaler.errors import (
    Busy,
    CloudError,
    CloudUnavailable,
    MemberRefused,
    NonsenseAnswer,
    QuotaExceeded,
    Refused,
)
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.ports import Pools

_LARGEST_SIZE: Final = 10_000
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_HALF_DONE: Final = frozenset({"interrupted", "partial", "unknown"})
"""Reasons of a failed operation after which something may have changed."""


class ExoscalePools:
    """Adapter of ports.Pools."""

    def __init__(self, client: Client, *, pool_id: str) -> None:
        self._client = client
        self._pool_id = pool_id
        self._path = f"/instance-pool/{pool_id}"

    async def get(self) -> Pool:
        """See the port."""
        return read_pool(await self._client.read("get-instance-pool", self._path), self._pool_id)

    async def scale(self, size: int) -> None:
        """See the port."""
        operation = "scale-instance-pool"
        answer = await self._client.change(operation, f"{self._path}:scale", {"size": size})
        check_operation(operation, answer)

    async def evict(self, victims: tuple[str, ...]) -> None:
        """See the port."""
        operation, body = "evict-instance-pool-members", {"instances": list(victims)}
        try:
            answer = await self._client.change(operation, f"{self._path}:evict", body)
            check_operation(operation, answer)
        except CloudError as error:
            raise _about_members(error, victims) from error

    async def members(self) -> tuple[Member, ...]:
        """See the port."""
        mine = {"manager-id": self._pool_id, "manager-type": "instance-pool"}
        answer = await self._client.read("list-instances", "/instance", mine)
        return read_members(answer, self._pool_id)

    async def failing(self) -> frozenset[str]:
        """See the port."""
        answer = await self._client.read("list-load-balancers", "/load-balancer")
        return read_failing(answer, self._pool_id)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


class MeasuredPools:
    """Any pools, with the seconds and the errors of each call as metrics."""

    def __init__(self, inner: Pools, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def get(self) -> Pool:
        """See the port."""
        with self._metrics.api_call("get"):
            return await self._inner.get()

    async def scale(self, size: int) -> None:
        """See the port."""
        with self._metrics.api_call("scale"):
            await self._inner.scale(size)

    async def evict(self, victims: tuple[str, ...]) -> None:
        """See the port."""
        with self._metrics.api_call("evict"):
            await self._inner.evict(victims)

    async def members(self) -> tuple[Member, ...]:
        """See the port."""
        with self._metrics.api_call("list"):
            return await self._inner.members()

    async def failing(self) -> frozenset[str]:
        """See the port."""
        with self._metrics.api_call("health"):
            return await self._inner.failing()


def read_pool(answer: object, pool_id: str) -> Pool:
    """Read what get-instance-pool answers. Raises NonsenseAnswer."""
    operation = "get-instance-pool"
    found = _object(operation, answer)
    size, state = found.get("size"), found.get("state")
    if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
        raise _nonsense(operation, f"a size from 0 to {_LARGEST_SIZE}", size)
    if not isinstance(state, str):
        raise _nonsense(operation, "a state", state)
    if _text(found.get("id", pool_id)).lower() != pool_id.lower():
        raise _nonsense(operation, f"pool {pool_id}", found.get("id"))
    name, listed = found.get("name"), found.get("instances")
    return Pool(
        name=one_line(name) if isinstance(name, str) else pool_id,
        size=size,
        state=one_line(state),
        members=None if listed is None else tuple(_ids(operation, _list(operation, listed))),
    )


def read_members(answer: object, pool_id: str) -> tuple[Member, ...]:
    """Read what list-instances answers about a pool's members. Raises NonsenseAnswer."""
    operation = "list-instances"
    listed = _list(operation, _object(operation, answer).get("instances"))
    ids = _ids(operation, listed)
    members = zip(ids, listed, strict=True)
    return tuple(_member(id_, item) for id_, item in members if _is_managed(item, pool_id))


def read_failing(answer: object, pool_id: str) -> frozenset[str]:
    """
    Read from list-load-balancers whom the health checks of a pool's services call failed.

    What cannot be read of one balancer or service says nothing; somebody else's may be of a kind
    that is not known here.

    Raises:
        NonsenseAnswer: it is no list of load balancers at all.
    """
    operation = "list-load-balancers"
    balancers = _list(operation, _object(operation, answer).get("load-balancers"))
    return frozenset(
        address
        for balancer in balancers
        for service in _inner(balancer, "services")
        if _is_of(service.get("instance-pool"), pool_id)
        for check in _inner(service, "healthcheck-status")
        if check.get("status") == "failure" and (address := _address(check.get("public-ip")))
    )


def check_operation(operation: str, answer: object) -> None:
    """Read what a change answers. Raises CloudError if it failed already, or is no operation."""
    found = _object(operation, answer)
    state, reason, message = (_text(found.get(name)) for name in ("state", "reason", "message"))
    if state in {"pending", "success"}:
        return
    if state not in {"failure", "timeout"}:
        raise _nonsense(operation, "the state of an operation", found.get("state"))
    said = f"{reason} {message}".strip() or state
    text = f"{operation}: the operation failed: {one_line(said)}"
    if "quota" in said.lower():
        raise QuotaExceeded(text, said=said)
    if state == "timeout" or reason in _HALF_DONE:
        raise CloudUnavailable(text, said=said)
    raise (Busy if reason == "busy" else Refused)(text, said=said)


def _about_members(error: CloudError, victims: tuple[str, ...]) -> CloudError:
    """A refusal that names a member or a protection is about them, whatever its code."""
    said = error.said.lower()
    named = frozenset(victim for victim in victims if victim.lower() in said)
    if error.outcome_unknown or isinstance(error, QuotaExceeded):
        return error
    if not named and "protect" not in said:
        return error
    text = str(error).partition("; check EXOSCALE_")[0]
    return MemberRefused(text, members=named or frozenset(victims), said=error.said)


def _member(id_: str, item: dict[str, object]) -> Member:
    state = item.get("state")
    return Member(
        id=id_,
        created_at=_moment(item.get("created-at")),
        state=one_line(state) if isinstance(state, str) else None,
        ip=_address(item.get("public-ip")),
    )


def _is_managed(item: dict[str, object], pool_id: str) -> bool:
    """Whether it is the pool's; an answer that does not tell was filtered by the cloud."""
    return "manager" not in item or _is_of(item["manager"], pool_id)


def _is_of(reference: object, pool_id: str) -> bool:
    id_ = reference.get("id") if isinstance(reference, dict) else None
    return _text(id_).lower() == pool_id.lower()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: object) -> str | None:
    """A time in one form, so that text order is time order."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            return None
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return None


def _address(value: object) -> str | None:
    try:
        return str(ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _ids(operation: str, items: Iterable[dict[str, object]]) -> list[str]:
    ids = [item.get("id") for item in items]
    known = [id_ for id_ in ids if isinstance(id_, str) and _ID.fullmatch(id_)]
    if len(known) != len(ids) or len(set(known)) != len(known):
        raise NonsenseAnswer(f"{operation}: expected instances with ids that differ")
    return known


def _inner(item: dict[str, object], name: str) -> Iterator[dict[str, object]]:
    listed = item.get(name)
    return (each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, dict))


def _object(operation: str, answer: object) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise _nonsense(operation, "an object", answer)
    return answer


def _list(operation: str, listed: object) -> list[dict[str, object]]:
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise _nonsense(operation, "a list of objects", listed)
    return listed


def _nonsense(operation: str, expected: str, got: object) -> NonsenseAnswer:
    shown = type(got).__name__ if isinstance(got, dict | list) else one_line(repr(got), limit=50)
    return NonsenseAnswer(f"{operation}: expected {expected}, got {shown}")

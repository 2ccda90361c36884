"""The pool behind Exoscale's official SDK: answers checked, errors translated, time limited."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import requests
from exoscale.api.exceptions import ExoscaleAPIException
from exoscale.api.v2 import Client
from urllib3.exceptions import HTTPError, ProtocolError

from exotide_autoscaler.domain import Pool
from exotide_autoscaler.errors import (
    CloudError,
    CloudUnavailable,
    NonsenseAnswer,
    PoolNotFound,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.policy import Member, choose_victims
from exotide_autoscaler.ports import Pools
from exotide_autoscaler.threads import Caller

T = TypeVar("T")
_CONNECT_S: Final = 3.0
_LARGEST_SIZE: Final = 10_000
_LARGEST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 65_536
_SHOWN: Final = 200


class LimitedSession(requests.Session):
    """
    A session whose calls end: explicit time-outs, a size limit, no redirects.

    A connection that rested for an interval may be given up by the server at the very moment of
    the next call; 60 s is a common limit, and the usual interval. So a read that finds its
    connection cut is made once more on a fresh one. A change is not: it may have been made.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def request(self, method: str | bytes, url: str | bytes, **options: Any) -> requests.Response:  # type: ignore[override]  # requests' own has 16 arguments
        """Make the request and read the whole answer; raises requests' and urllib3's errors."""
        ends_at = time.monotonic() + self._timeout_s
        try:
            return self._once(method, url, ends_at=ends_at, **options)
        except requests.exceptions.ConnectionError as error:
            if method != "GET" or not _was_cut(error):
                raise
        return self._once(method, url, ends_at=ends_at, **options)

    def _once(
        self, method: str | bytes, url: str | bytes, *, ends_at: float, **options: Any
    ) -> requests.Response:
        limits = (min(_CONNECT_S, self._timeout_s), self._timeout_s)
        response = super().request(
            method, url, **options, timeout=limits, stream=True, allow_redirects=False
        )
        with response:
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
                body += chunk
                if len(body) > _LARGEST_ANSWER_BYTES:
                    raise requests.exceptions.ContentDecodingError("the answer has no end")
                if time.monotonic() > ends_at:
                    raise requests.exceptions.ReadTimeout("the answer trickles")
        response._content = bytes(body)  # noqa: SLF001 - as requests does when it does not stream
        return response


def _was_cut(error: requests.exceptions.ConnectionError) -> bool:
    """Whether the connection was there and ended before an answer began."""
    return any(isinstance(cause, ProtocolError) for cause in error.args)


class ExoscalePools:
    """Adapter of ports.Pools."""

    def __init__(self, key: str, secret: str, *, endpoint: str, pool_id: str, timeout_s: float):
        """`timeout_s` is the time that one call may take in all."""
        self._client = Client(key, secret, url=endpoint)
        session = LimitedSession(timeout_s)
        session.auth = self._client.http_client.auth
        self._client.http_client = session
        self._pool_id = pool_id
        self._timeout_s = timeout_s
        self._caller = Caller()

    async def get(self) -> Pool:
        """See the port."""
        answer = await self._call(lambda: self._client.get_instance_pool(id=self._pool_id))
        return _pool(answer, self._pool_id)

    async def scale(self, size: int) -> None:
        """See the port."""
        answer = await self._call(
            lambda: self._client.scale_instance_pool(id=self._pool_id, size=size)
        )
        _check_operation(answer)

    async def evict(self, victims: tuple[str, ...]) -> None:
        """See the port."""
        answer = await self._call(
            lambda: self._client.evict_instance_pool_members(
                id=self._pool_id, instances=list(victims)
            )
        )
        _check_operation(answer)

    async def oldest(self, pool: Pool, count: int) -> tuple[str, ...]:
        """See the port; falls back to the order of the list if ages cannot be read."""
        members = pool.members or ()
        if len(members) <= count:
            return ()
        try:
            answer = await self._call(
                lambda: self._client.list_instances(
                    manager_id=self._pool_id, manager_type="instance-pool"
                )
            )
            created = _creation_times(answer)
        except CloudError:
            created = {}
        listed = [Member(id=member, created_at=created.get(member)) for member in members]
        return choose_victims(listed, count)

    async def _call(self, call: Callable[[], T]) -> T:
        return await self._caller.run(
            lambda: _translated(call), deadline_s=self._timeout_s + _CONNECT_S
        )


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

    async def oldest(self, pool: Pool, count: int) -> tuple[str, ...]:
        """See the port."""
        with self._metrics.api_call("list"):
            return await self._inner.oldest(pool, count)


def _translated(call: Callable[[], T]) -> T:
    """Make the call in the present thread; every failure becomes a CloudError."""
    try:
        return call()
    except ExoscaleAPIException as error:
        raise _from_status(error) from error
    except requests.exceptions.JSONDecodeError as error:
        raise NonsenseAnswer("the answer is not JSON") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise Refused(f"the endpoint cannot be called: {_short(error)}") from error
    except requests.exceptions.Timeout as error:
        raise CloudUnavailable(f"timed out: {_short(error)}") from error
    except (requests.exceptions.RequestException, HTTPError, OSError) as error:
        raise CloudUnavailable(f"no connection: {_short(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NonsenseAnswer(f"the SDK could not read the answer: {_short(error)}") from error


def _from_status(error: ExoscaleAPIException) -> CloudError:
    status = error.response.status_code if error.response is not None else 0
    text = _short(error)
    if status in {401, 403}:
        return Unauthorized(f"{text}; check EXOSCALE_KEY, its secret and its role")
    if status == 404:
        return PoolNotFound(f"{text}; check EXOSCALE_INSTANCEPOOL_ID and EXOSCALE_ZONE")
    if status == 429 or status >= 500 or not status:
        return CloudUnavailable(text)
    if "quota" in text.lower():
        return QuotaExceeded(text)
    return Refused(text)


def _short(error: Exception) -> str:
    """The error's text, short enough for a log line and free of line breaks."""
    text = " ".join(str(error).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _pool(answer: object, pool_id: str) -> Pool:
    if not isinstance(answer, dict):
        raise NonsenseAnswer(f"expected a pool, got {type(answer).__name__}")
    size, state = answer.get("size"), answer.get("state")
    if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
        raise NonsenseAnswer(f"expected a size from 0 to {_LARGEST_SIZE}, got {size!r:.50}")
    if not isinstance(state, str):
        raise NonsenseAnswer(f"expected a state, got {state!r:.50}")
    if answer.get("id", pool_id) != pool_id:
        raise NonsenseAnswer(f"expected pool {pool_id}, got {answer.get('id')!r:.50}")
    name = answer.get("name")
    return Pool(
        name=name if isinstance(name, str) else pool_id,
        size=size,
        state=state,
        members=_members(answer.get("instances")),
    )


def _members(listed: object) -> tuple[str, ...] | None:
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise NonsenseAnswer(f"expected a list of instances, got {type(listed).__name__}")
    ids = [item.get("id") if isinstance(item, dict) else None for item in listed]
    members = tuple(member for member in ids if isinstance(member, str))
    if len(members) != len(ids) or len(set(members)) != len(members):
        raise NonsenseAnswer("expected instances with ids that differ")
    return members


def _creation_times(answer: object) -> dict[str, str]:
    listed = answer.get("instances") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise NonsenseAnswer("expected a list of instances")
    return {
        item["id"]: item["created-at"]
        for item in listed
        if isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and isinstance(item.get("created-at"), str)
    }


def _check_operation(answer: object) -> None:
    state = answer.get("state") if isinstance(answer, dict) else None
    if state in {"pending", "success"}:
        return
    if isinstance(answer, dict) and state in {"failure", "timeout"}:
        reason = f"{answer.get('reason', '')} {answer.get('message', '')}".strip()
        kind = QuotaExceeded if "quota" in reason.lower() else Refused
        raise kind(f"the operation failed: {reason or state:.{_SHOWN}}")
    raise NonsenseAnswer(f"expected an operation, got {answer!r:.{_SHOWN}}")

"""Asks the Exoscale API who the members are, through the official SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import requests
from exoscale.api.exceptions import ExoscaleAPIException
from exoscale.api.v2 import Client
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from .answers import PoolAnswer, read_instances, read_pool
from .errors import (
    AnswerInvalid,
    CloudError,
    CloudUnavailable,
    NotFound,
    RequestRefused,
    Unauthorized,
)
from .settings import Settings
from .targets import Instance, Pool

CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 5.0
LOOKS: Final = 2
"""How often a pass looks at most, when the list does not show every member yet."""
ERRORS: Final[Mapping[int, tuple[type[CloudError], str]]] = {
    401: (Unauthorized, "check EXOSCALE_KEY and EXOSCALE_SECRET"),
    403: (Unauthorized, "check EXOSCALE_KEY, EXOSCALE_SECRET, and that its role may read the pool"),
    404: (NotFound, "check EXOSCALE_INSTANCEPOOL_ID and EXOSCALE_ZONE"),
    429: (CloudUnavailable, "too many requests"),
}


class Pools(Protocol):
    """Knows the pool. Adapters: ExoscalePools; tests have their own."""

    def get(self) -> Pool:
        """Return the pool with all its members. Raises CloudError."""


class ExoscalePools:
    """The pool, as the Exoscale API sees it at each call; may block for several time-outs."""

    def __init__(self, settings: Settings) -> None:
        self._pool_id = settings.pool_id
        self._client = Client(settings.key, settings.secret, url=settings.endpoint)
        session: requests.Session = self._client.http_client
        session.max_redirects = 0  # a signed request goes where it was meant to go
        for scheme in ("http://", "https://"):
            session.mount(scheme, _TimedAdapter())

    def get(self) -> Pool:
        """
        Return the pool with all its members. Raises CloudError.

        The pool says who is a member; one list gives their addresses. The two calls are not one
        moment: when a member is missing in the list, both are made once more, and what is missing
        then is left out. No member is asked for by itself, as that would need a key that reads
        every server's user-data.
        """
        pool, listed = self._look()
        for _ in range(LOOKS - 1):
            if all(id_ in listed for id_ in pool.instance_ids):
                break
            pool, listed = self._look()
        instances = tuple(listed[id_] for id_ in pool.instance_ids if id_ in listed)
        if pool.instance_ids and not instances:
            raise AnswerInvalid(
                f"list-instances: shows none of the pool's {len(pool.instance_ids)} members"
            )
        return Pool(id=pool.id, name=pool.name, instances=instances)

    def close(self) -> None:
        """Close idle connections."""
        self._client.http_client.close()

    def _look(self) -> tuple[PoolAnswer, dict[str, Instance]]:
        answer = _call("get-instance-pool", self._client.get_instance_pool, id=self._pool_id)
        pool = read_pool(answer, pool_id=self._pool_id)
        return pool, self._list() if pool.instance_ids else {}

    def _list(self) -> dict[str, Instance]:
        answer = _call(
            "list-instances",
            self._client.list_instances,
            manager_id=self._pool_id,
            manager_type="instance-pool",
        )
        return read_instances(answer)


class _TimedAdapter(HTTPAdapter):
    """The SDK sets no time-outs: without these, a half-open connection is waited for for ever."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send with this program's time-outs, whatever the caller gave."""
        return super().send(*args, **{**kwargs, "timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)})


def _call(operation: str, function: Callable[..., object], **arguments: str) -> object:
    """Call the SDK and translate whatever it raises."""
    try:
        return function(**arguments)
    except ExoscaleAPIException as error:
        raise _translate(operation, error.response) from error
    except (requests.JSONDecodeError, RecursionError) as error:
        raise AnswerInvalid(f"{operation}: the answer is no JSON") from error
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise CloudUnavailable(f"{operation}: {_reason(error)}") from error


def _translate(operation: str, response: requests.Response) -> CloudError:
    status = response.status_code
    fallback = CloudUnavailable if status >= 500 else RequestRefused
    kind, advice = ERRORS.get(status, (fallback, ""))
    text = f"{operation}: {status} {_message(response)}".rstrip()
    return kind(f"{text}; {advice}" if advice else text)


def _message(response: requests.Response) -> str:
    """Return what the API says about an error, as one short line."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    text = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(text or response.reason or "").split())[:200]


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {READ_TIMEOUT_S:g} s"
    while error.__context__ is not None:
        error = error.__context__  # what the system said, without the layers around it
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

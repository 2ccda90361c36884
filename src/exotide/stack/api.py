"""The official SDK plus what it lacks: time-outs, retried reads, quick waits, clear errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

import requests
from exoscale.api.exceptions import (
    ExoscaleAPIAuthException,
    ExoscaleAPIClientException,
    ExoscaleAPIException,
    ExoscaleAPIServerException,
)
from exoscale.api.v2 import Client
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from .errors import (
    AccessDenied,
    CloudUnavailable,
    NotFound,
    OperationFailed,
    Refused,
    StackError,
)
from .settings import StackSettings
from .waiting import Patience

Json: TypeAlias = dict[str, Any]

TIMEOUT_S: Final = (5.0, 30.0)
"""To connect, and between two bytes of an answer."""
_POLL_FAULTS: Final = 4
"""So many polls in a row may fail before a wait gives up, as in the official clients."""
_RETRIED_READS: Final = Retry(
    total=3,
    backoff_factor=0.2,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=("GET",),
    raise_on_status=False,
)


class _TimedAdapter(HTTPAdapter):
    """Gives every request a time-out: the SDK sets none, and a half-open connection has no end."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # keywords are passed on unchanged
        options["timeout"] = options.get("timeout") or TIMEOUT_S
        return super().send(request, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One account in one zone, for one thread at a time; leave it to close its connections."""

    client: Client
    patience: Patience = field(default_factory=Patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.http_client.close()

    def call(self, operation: str, **arguments: Any) -> Json:
        """
        Call an operation by the SDK's name for it.

        Raises:
            AccessDenied: 403.
            NotFound: 404.
            Refused: any other 4xx but 429.
            CloudUnavailable: 5xx, 429, no connection, or an answer that is not JSON.
        """
        if self.patience.stop.is_set():
            self.patience.pause(0)
        try:
            answer: Json = getattr(self.client, operation)(**arguments)
        except (ExoscaleAPIException, requests.RequestException) as error:
            raise _translated(error, operation, self.client) from error
        return answer

    def change(self, operation: str, **arguments: Any) -> None:
        """
        Call an operation that takes a while, and wait for its end.

        Raises:
            OperationFailed: with the cloud's reason and message.
            TookTooLong, Interrupted: while waiting.
        """
        self._finish(self.call(operation, **arguments), what=operation.replace("_", " "))

    def _finish(self, started: Json, *, what: str) -> None:
        poll = _Poll(api=self, operation=started)
        ended = self.patience.until(poll.look, what=what, state=lambda: str(poll.operation))
        if ended["state"] != "success":
            reason, message = ended.get("reason", "unknown"), ended.get("message", "no message")
            raise OperationFailed(f"{what} failed ({ended['state']}, {reason}): {message}")


@dataclass(slots=True, kw_only=True)
class _Poll:
    api: Api
    operation: Json
    faults: int = 0

    def look(self) -> Json | None:
        if self.operation["state"] == "pending":
            self._ask()
        return None if self.operation["state"] == "pending" else self.operation

    def _ask(self) -> None:
        try:
            self.operation = self.api.call("get_operation", id=self.operation["id"])
        except CloudUnavailable:
            self.faults += 1
            if self.faults > _POLL_FAULTS:
                raise
        else:
            self.faults = 0


def connect(settings: StackSettings, patience: Patience | None = None) -> Api:
    """Make the client for a stack's endpoint; nothing is called yet."""
    client = Client(settings.key, settings.secret, url=settings.api_url)
    for scheme in ("http://", "https://"):
        client.http_client.mount(scheme, _TimedAdapter(max_retries=_RETRIED_READS))
    return Api(client=client, patience=patience or Patience())


def _translated(error: Exception, operation: str, client: Client) -> StackError:
    what = f"{operation.replace('_', ' ')} at {client.endpoint}"
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    message = _message(response)
    if isinstance(error, ExoscaleAPIAuthException):
        return AccessDenied(
            f"{what} was refused (403): {message}; check EXOSCALE_KEY and EXOSCALE_SECRET, "
            f"and that the key may do this, key: {client.key}"
        )
    if isinstance(error, ExoscaleAPIClientException) and status == 404:
        return NotFound(f"{what} found nothing (404): {message}")
    if isinstance(error, ExoscaleAPIClientException) and status != 429:
        return Refused(f"{what} was refused ({status}): {message}", status=status)
    if isinstance(error, ExoscaleAPIServerException) or status:
        return CloudUnavailable(f"{what} had a fault ({status}): {message}")
    return CloudUnavailable(f"{what} got no answer, check the endpoint: {type(error).__name__}")


def _message(response: requests.Response | None) -> str:
    if response is None:
        return "no answer"
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or "no message"

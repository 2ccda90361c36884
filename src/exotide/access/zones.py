"""What an endpoint tells without a key: where its zones answer, and what time it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from .errors import NoAccess
from .shell import Kind, Shell, check_zone, public_endpoint

ANOTHER_ZONE: Final = "ch-gva-2"
"""The zone that official tools ask for what is of no zone."""
TIMEOUT_S: Final = (5.0, 15.0)
"""To connect, and between two bytes of the answer."""
_RETRIES: Final = Retry(
    total=3,
    connect=0,
    backoff_factor=0.3,
    status_forcelist=(500, 502, 503, 504),
    raise_on_status=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """The answer of an Exoscale API to `list-zones`."""

    endpoints: Mapping[str, str]
    """By the zone's name."""
    time_s: float | None
    """Unix time by the cloud's clock. None: it did not say."""

    def endpoint(self, zone: str) -> str:
        """
        Where a zone answers.

        Raises:
            NoAccess: there is no such zone; names those that there are.
        """
        if zone not in self.endpoints:
            known = ", ".join(sorted(self.endpoints))
            raise NoAccess(f"there is no zone {zone} there; --zone may be: {known}")
        return self.endpoints[zone]


class Silent(NoAccess):
    """Nothing answers."""


Ask = Callable[[str], Zones]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One zone of a cloud that answers."""

    kind: Kind
    zone: str
    endpoint: str
    time_s: float | None
    """Unix time by the cloud's clock when it answered. None: it did not say."""

    @property
    def line(self) -> str:
        """Say which cloud this is, in one line."""
        name = "the real Exoscale" if self.kind is Kind.EXOSCALE else "a local cloud"
        return f"{name}, zone {self.zone}: {self.endpoint}"


def ask_zones(endpoint: str) -> Zones:
    """
    Ask an endpoint for its zones; needs no key.

    Raises:
        Silent: nothing answers there.
        NoAccess: something does, and is no Exoscale API.
    """
    url = f"{endpoint.rstrip('/')}/zone"
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
            answer = session.get(url, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise Silent(f"{endpoint} does not answer: {_reason(error)}") from error
    if answer.status_code >= 500:
        raise NoAccess(f"{endpoint} has a fault ({answer.status_code}); try again later")
    try:
        shown = answer.json()["zones"]
        found = {str(each["name"]): str(each["api-endpoint"]).rstrip("/") for each in shown}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAccess(
            f"{endpoint} answers {answer.status_code}, and is no Exoscale API; "
            "see EXOSCALE_API_ENDPOINT"
        ) from error
    return Zones(endpoints=found, time_s=_time_s(answer.headers.get("Date", "")))


def reach(shell: Shell, zone: str, *, ask: Ask = ask_zones) -> Reached:
    """
    Find the endpoint of a zone.

    Raises:
        NoAccess: nothing answers, or there is no such zone; names the next step.
    """
    check_zone(zone)
    try:
        zones = ask(shell.endpoint)
    except Silent as silence:
        if shell.kind is Kind.EXOSCALE:
            _check_zone(zone, ask)
        raise NoAccess(shell.why_silent(str(silence))) from silence
    return Reached(kind=shell.kind, zone=zone, endpoint=zones.endpoint(zone), time_s=zones.time_s)


def _check_zone(zone: str, ask: Ask) -> None:
    """Where a zone's own address does not answer, ask another's whether there is such a zone."""
    try:
        zones = ask(public_endpoint(ANOTHER_ZONE))
    except NoAccess:
        return
    zones.endpoint(zone)


def _time_s(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _reason(error: requests.RequestException) -> str:
    """Say the innermost reason; the whole chain is too long for a line."""
    inner: BaseException = error
    while (deeper := inner.__context__) is not None:
        inner = deeper
    return str(inner).rpartition("] ")[2] or type(error).__name__

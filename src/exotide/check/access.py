"""Whose account is checked and where, from the environment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.stack.api import connect
from exotide.stack.errors import SettingsError, StackError
from exotide.stack.settings import DEFAULT_ZONE, StackSettings

from .errors import CannotRun

PAIRS: Final = (
    ("EXOSCALE_API_KEY", "EXOSCALE_API_SECRET"),
    ("EXOSCALE_KEY", "EXOSCALE_SECRET"),
    ("TF_VAR_exoscale_key", "TF_VAR_exoscale_secret"),
)
ENDPOINT: Final = "EXOSCALE_API_ENDPOINT"
PASSWORD: Final = "EXOTIDE_GRAFANA_PASSWORD"  # noqa: S105 - the name of a variable
STATE: Final = "terraform.tfstate"
_ZONE: Final = re.compile(r"[a-z]{2}-[a-z]{3}-[0-9]{1,2}")

Zones = Callable[[StackSettings], dict[str, str]]
"""Asks an endpoint for the endpoint of each zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the API is reached."""

    key: str
    secret: str = field(repr=False)
    zone: str
    endpoint: str

    @property
    def is_public(self) -> bool:
        """Whether it is the real cloud's own endpoint of the zone."""
        return self.endpoint == _public(self.zone)

    def settings(self) -> StackSettings:
        """What the SDK's client is made from."""
        return StackSettings(
            key=self.key, secret=self.secret, endpoint=self.endpoint, zone=self.zone
        )


def read_access(environ: Mapping[str, str], *, zone: str = "", ask: Zones | None = None) -> Access:
    """
    Find key, secret, zone and the zone's endpoint.

    Raises:
        CannotRun: with what is missing or wrong.
    """
    key, secret = _credentials(environ)
    zone = zone or environ.get("EXOSCALE_ZONE", "") or environ.get("TF_VAR_zone", "")
    zone = zone or DEFAULT_ZONE
    if not _ZONE.fullmatch(zone):
        raise CannotRun(f"--zone must look like at-vie-1, got: {zone!r}")
    given = environ.get(ENDPOINT, "").strip()
    try:
        access = Access(key=key, secret=secret, zone=zone, endpoint=given or _public(zone))
        settings = access.settings()
    except SettingsError as error:
        raise CannotRun(str(error)) from error
    if not given:
        return access
    endpoint = _of_zone((ask or zones)(settings), zone, given)
    return Access(key=key, secret=secret, zone=zone, endpoint=endpoint)


def zones(settings: StackSettings) -> dict[str, str]:
    """
    Ask an endpoint for the endpoint of each zone.

    Raises:
        CannotRun: it does not answer.
    """
    try:
        with connect(settings) as api:
            shown = api.call("list_zones")["zones"]
            return {zone["name"]: zone["api-endpoint"].rstrip("/") for zone in shown}
    except (StackError, LookupError, TypeError, AttributeError) as error:
        raise CannotRun(
            f"{ENDPOINT} is no Exoscale API, got: {settings.api_url}; {error}"
        ) from error


def grafana_password(
    environ: Mapping[str, str], *, file: Path | None, folder: Path, pool_ids: Container[str]
) -> str:
    """
    Find Grafana's password: in a file, the environment, or Terraform's state in a folder.

    Args:
        pool_ids: Of the pools that exist; a state of another one is passed over.

    Raises:
        CannotRun: the file cannot be read.
    """
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise CannotRun(f"--grafana-password-file cannot be read: {error}") from error
    return environ.get(PASSWORD, "") or _in_state(folder / STATE, pool_ids)


def _credentials(environ: Mapping[str, str]) -> tuple[str, str]:
    for key, secret in PAIRS:
        if environ.get(key) and environ.get(secret):
            return environ[key], environ[secret]
    half = [(key, secret) for key, secret in PAIRS if environ.get(key) or environ.get(secret)]
    for key, secret in half:
        missing = secret if environ.get(key) else key
        raise CannotRun(f"{missing} is not set, but its other half is: set both")
    raise CannotRun(
        "no API key in the environment: set EXOSCALE_API_KEY and EXOSCALE_API_SECRET, "
        'or for a local cloud: eval "$(exotide cloud env)"'
    )


def _of_zone(known: Mapping[str, str], zone: str, given: str) -> str:
    if zone not in known:
        raise CannotRun(f"{given} has no zone {zone}; --zone may be: {', '.join(sorted(known))}")
    return known[zone]


def _public(zone: str) -> str:
    return f"https://api-{zone}.exoscale.com/v2"


def _in_state(file: Path, pool_ids: Container[str]) -> str:
    try:
        outputs = json.loads(file.read_text(encoding="utf-8"))["outputs"]
        if outputs["pool_id"]["value"] in pool_ids:
            return str(outputs["grafana_password"]["value"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return ""

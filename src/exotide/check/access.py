"""Whose account is checked and where, from the environment; and Grafana's password."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.access.errors import NoAccess
from exotide.access.keys import read_key
from exotide.access.shell import DEFAULT_ZONE, Kind, read_shell
from exotide.access.zones import Ask, Reached, ask_zones, reach
from exotide.stack.errors import SettingsError
from exotide.stack.settings import StackSettings

from .errors import CannotRun

PASSWORD: Final = "EXOTIDE_GRAFANA_PASSWORD"  # noqa: S105 - the name of a variable
STATE: Final = "terraform.tfstate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the API is reached."""

    key: str
    secret: str = field(repr=False)
    cloud: Reached
    remark: str = ""
    """Which of several keys is used."""

    @property
    def zone(self) -> str:
        """Where the stack is."""
        return self.cloud.zone

    @property
    def endpoint(self) -> str:
        """Base URL of the zone."""
        return self.cloud.endpoint

    @property
    def is_public(self) -> bool:
        """Whether it is the real cloud."""
        return self.cloud.kind is Kind.EXOSCALE

    def settings(self) -> StackSettings:
        """What the SDK's client is made from."""
        return StackSettings(
            key=self.key, secret=self.secret, endpoint=self.endpoint, zone=self.zone
        )


def read_access(environ: Mapping[str, str], *, zone: str = "", ask: Ask | None = None) -> Access:
    """
    Find key, zone and the zone's endpoint.

    Raises:
        CannotRun: with what is missing or wrong.
    """
    zone = zone or environ.get("EXOSCALE_ZONE", "") or environ.get("TF_VAR_zone", "")
    zone = zone or DEFAULT_ZONE
    try:
        key = read_key(environ)
        cloud = reach(read_shell(environ, zone=zone), zone, ask=ask or ask_zones)
        access = Access(key=key.key, secret=key.secret, cloud=cloud, remark=key.remark)
        access.settings()
    except (NoAccess, SettingsError) as error:
        raise CannotRun(str(error)) from error
    return access


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


def _in_state(file: Path, pool_ids: Container[str]) -> str:
    try:
        outputs = json.loads(file.read_text(encoding="utf-8"))["outputs"]
        if outputs["pool_id"]["value"] in pool_ids:
            return str(outputs["grafana_password"]["value"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return ""

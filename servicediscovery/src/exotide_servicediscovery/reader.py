"""
Reads settings from the environment and collects what is wrong with them, to tell it all at once.

The same file stands in both agents, since the image of each is built from its folder alone.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from .errors import SettingsError

ZONE: Final = re.compile(r"[a-z]{2}-[a-z]{2,4}-[0-9]{1,2}")
"""What Exoscale's zones look like: ch-dk-2, at-vie-1. The name becomes part of a host's."""
DAY_S: Final = 86_400.0


class Reader:
    """Collects values and problems; a variable that is empty counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[tuple[str, str]] = []

    def finish(self) -> None:
        """Raise SettingsError if anything is missing or wrong."""
        if self.problems:
            raise SettingsError(self.problems)

    def problem(self, name: str, text: str) -> None:
        """Note what is wrong with a setting, and the next step."""
        self.problems.append((name, text))

    def text(self, *names: str, missing: str | None = None, default: str = "") -> str:
        """The first of the names that is set."""
        for name in names:
            if value := self._environ.get(name, "").strip():
                return value
        if missing is not None:
            self.problem(names[0], f"not set; {missing}")
        return default

    def is_set(self, name: str) -> bool:
        return bool(self.text(name))

    def secret(self, *names: str, missing: str | None = None, blanks: bool = False) -> str:
        """Text for a header; never repeated in a problem, whatever was put into the variable."""
        text = self.text(*names, missing=missing)
        if not text.isascii() or not text.isprintable():
            self.problem(names[0], "must be printable ASCII, as it goes into a header")
        elif " " in text and not blanks:
            self.problem(names[0], "has a blank in it; copy it again")
        return text

    def integer(self, name: str, *, default: int | None, low: int, high: int) -> int:
        """A whole number; `default` None: it has to be set."""
        text = self.text(name)
        if not text and default is not None:
            return default
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text)
        wanted = f"a whole number from {low} to {high}"
        self.problem(name, f"must be {wanted}, got: {text!r}" if text else f"not set; {wanted}")
        return low

    def seconds(self, name: str, *, default: float, low: float, high: float = DAY_S) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        self.problem(name, f"must be seconds from {low:g} to {high:g}, got: {text!r}")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name, default="1" if default else "0").lower()
        if text not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
            self.problem(name, f"must be 0 or 1, got: {text!r}")
        return text in {"1", "true", "yes", "on"}

    def one_of(self, name: str, choices: tuple[str, ...], *, default: str) -> str:
        value = self.text(name, default=default).lower()
        if value not in choices:
            self.problem(name, f"must be one of {', '.join(choices)}, got: {value!r}")
            return default
        return value

    def file(self, name: str, *, default: str) -> Path:
        path = Path(self.text(name, default=default))
        if not path.is_absolute():
            self.problem(name, f"must be the absolute path of a file, got: {str(path)!r}")
        return path

    def key(self) -> tuple[str, str]:
        """An API key and its secret."""
        return (
            self.secret("EXOSCALE_KEY", "EXOSCALE_API_KEY", missing="an API key for this pool"),
            self.secret("EXOSCALE_SECRET", "EXOSCALE_API_SECRET", missing="the secret of that key"),
        )

    def pool_id(self) -> str:
        name = "EXOSCALE_INSTANCEPOOL_ID"
        text = self.text(name, missing="the id (a UUID) of the pool")
        try:
            return str(uuid.UUID(text)) if text else ""
        except ValueError:
            self.problem(name, f"must be a UUID, got: {text!r}")
            return ""

    def endpoint(self, *, zone_needed: bool) -> tuple[str, str]:
        """The zone, and the base URL of its API without a slash at the end."""
        zone = self.text("EXOSCALE_ZONE")
        endpoint = self.text("EXOSCALE_API_ENDPOINT").rstrip("/")
        if zone and not ZONE.fullmatch(zone):
            self.problem("EXOSCALE_ZONE", f"must look like at-vie-1 or ch-dk-2, got: {zone!r}")
        if not zone and (zone_needed or not endpoint):
            self.problem("EXOSCALE_ZONE", "not set; the zone of the pool, for example at-vie-1")
        if endpoint and not _is_base(endpoint):
            # It may hold a password, so it is not repeated.
            self.problem(
                "EXOSCALE_API_ENDPOINT",
                "must be a URL like https://api-at-vie-1.exoscale.com/v2, without a password",
            )
        return zone, endpoint or f"https://api-{zone}.exoscale.com/v2"


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return _has_place(parts) and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        return False


def _has_place(parts: SplitResult) -> bool:
    """Raises ValueError if the port is none."""
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0

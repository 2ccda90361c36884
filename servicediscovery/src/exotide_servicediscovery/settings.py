"""The settings: environment variables in, one checked value out, all problems at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .errors import SettingsError

DEFAULT_TARGETS_FILE: Final = "/srv/service-discovery/config.json"
ZONE: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
PRINTABLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names of the variables are those of the acceptance contract."""

    key: str
    """EXOSCALE_KEY or EXOSCALE_API_KEY: a key that may read the pool; it needs no more."""
    secret: str = field(repr=False)
    """EXOSCALE_SECRET or EXOSCALE_API_SECRET."""
    zone: str
    """EXOSCALE_ZONE: where the pool is, such as at-vie-1; also a label of each target."""
    pool_id: str
    """EXOSCALE_INSTANCEPOOL_ID: the UUID of the pool."""
    target_port: int
    """TARGET_PORT: the port that Prometheus shall scrape on each member."""
    endpoint: str
    """EXOSCALE_API_ENDPOINT: base URL with its path; https://api-<zone>.exoscale.com/v2."""
    refresh_s: float = 10.0
    """EXOTIDE_REFRESH_S: seconds from the start of one pass to the start of the next."""
    targets_file: Path = Path(DEFAULT_TARGETS_FILE)
    """EXOTIDE_TARGETS_FILE: what Prometheus reads."""
    metrics_address: str = "0.0.0.0"
    """EXOTIDE_METRICS_ADDRESS, else EXOTIDE_LISTEN_ADDRESS: where /metrics is served."""
    metrics_port: int = 9177
    """EXOTIDE_METRICS_PORT; 0 lets the system choose, and the log says which."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """
    Check the whole environment.

    Raises:
        SettingsError: with one problem per variable that is missing or wrong.
    """
    source = _Source(environ)
    zone = source.text("EXOSCALE_ZONE", ZONE, "a zone's name, such as at-vie-1")
    settings = Settings(
        key=source.credential("EXOSCALE_KEY", "EXOSCALE_API_KEY"),
        secret=source.credential("EXOSCALE_SECRET", "EXOSCALE_API_SECRET"),
        zone=zone,
        pool_id=source.uuid("EXOSCALE_INSTANCEPOOL_ID"),
        target_port=int(source.number("TARGET_PORT", None, 1, 65535, whole=True)),
        endpoint=source.url("EXOSCALE_API_ENDPOINT", f"https://api-{zone}.exoscale.com/v2"),
        refresh_s=source.number("EXOTIDE_REFRESH_S", 10.0, 0.1, 3600),
        targets_file=source.file("EXOTIDE_TARGETS_FILE", DEFAULT_TARGETS_FILE),
        metrics_address=source.first("EXOTIDE_METRICS_ADDRESS", "EXOTIDE_LISTEN_ADDRESS")
        or "0.0.0.0",
        metrics_port=int(source.number("EXOTIDE_METRICS_PORT", 9177, 0, 65535, whole=True)),
    )
    if source.problems:
        raise SettingsError(source.problems)
    return settings


class _Source:
    """Reads variables; collects problems instead of raising the first. Empty means not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[tuple[str, str]] = []

    def first(self, *names: str) -> str:
        return next((text for name in names if (text := self._environ.get(name, "").strip())), "")

    def text(self, name: str, pattern: re.Pattern[str], meaning: str) -> str:
        text = self.first(name)
        if not text:
            self._problem(name, f"not set; give {meaning}")
        elif not pattern.fullmatch(text):
            self._problem(name, f"must be {meaning}, got: {text}")
        return text

    def credential(self, *names: str) -> str:
        """Never repeats the value: it may be a secret that was put in the wrong variable."""
        text = self.first(*names)
        if not text:
            self._problem(names[0], "not set; make a key that may read this pool")
        elif not PRINTABLE.fullmatch(text):
            self._problem(names[0], "holds blanks or control characters; copy it again")
        return text

    def uuid(self, name: str) -> str:
        text = self.first(name)
        if not text:
            self._problem(name, "not set; give the pool's id")
            return text
        try:
            return str(uuid.UUID(text))
        except ValueError:
            self._problem(name, f"must be a UUID, got: {text}")
            return text

    def number(
        self, name: str, default: float | None, low: float, high: float, *, whole: bool = False
    ) -> float:
        text = self.first(name)
        wanted = f"a {'whole ' if whole else ''}number from {low:g} to {high:g}"
        if not text:
            if default is None:
                self._problem(name, f"not set; give {wanted}")
            return low if default is None else default
        try:
            value = float(int(text) if whole else float(text))
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self._problem(name, f"must be {wanted}, got: {text}")
            return low
        return value

    def url(self, name: str, default: str) -> str:
        """Return a base URL without the slash at its end, to which paths are appended."""
        text = self.first(name) or default
        try:
            parts = urlsplit(text)
            fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        else:
            fine = fine and not (parts.query or parts.fragment or parts.username)
        if not fine:
            self._problem(name, "must be like https://api-at-vie-1.exoscale.com/v2")
        return text.rstrip("/")

    def file(self, name: str, default: str) -> Path:
        path = Path(self.first(name) or default)
        if not path.is_absolute():
            self._problem(name, f"must be the absolute path of a file, got: {path}")
        return path

    def _problem(self, name: str, text: str) -> None:
        self.problems.append((name, text))

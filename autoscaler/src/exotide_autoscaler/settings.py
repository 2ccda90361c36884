"""The program's settings: read from the environment, all problems told at once."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exotide_autoscaler.domain import Policy
from exotide_autoscaler.errors import SettingsError

DEFAULT_JOURNAL: Final = Path("/srv/autoscaler/journal.sqlite")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_ZONE: Final = re.compile(r"[a-z]{2}-[a-z]{3}-[0-9]{1,2}")
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names in the environment are given beside each field; times in seconds."""

    key: str
    """EXOSCALE_KEY or EXOSCALE_API_KEY."""
    secret: str = field(repr=False)
    """EXOSCALE_SECRET or EXOSCALE_API_SECRET."""
    pool_id: str
    """EXOSCALE_INSTANCEPOOL_ID: the pool that is scaled."""
    endpoint: str
    """EXOSCALE_API_ENDPOINT, or the public API of EXOSCALE_ZONE."""
    zone: str
    """EXOSCALE_ZONE; only shown, if an endpoint is set."""
    listen_address: str
    """EXOTIDE_LISTEN_ADDRESS: where webhooks arrive; 0.0.0.0 as a container needs it."""
    listen_port: int
    """LISTEN_PORT."""
    metrics_address: str
    """EXOTIDE_METRICS_ADDRESS: where the read-only listener is, if it has a port."""
    metrics_port: int | None
    """EXOTIDE_METRICS_PORT: moves status page and decisions away from the webhooks."""
    token: str = field(repr=False)
    """EXOTIDE_WEBHOOK_TOKEN: what a webhook must know; empty lets everybody in."""
    strict_bodies: bool
    """EXOTIDE_STRICT_BODIES: refuse each body that is no alert of Alertmanager or Grafana."""
    journal: Path | None
    """EXOTIDE_JOURNAL; None: the default place, or the temporary directory if that is closed."""
    default_journal: Path
    """STATE_DIRECTORY/journal.sqlite under systemd, else /srv/autoscaler/journal.sqlite; the
    pool's id is added to its name."""
    api_timeout_s: float
    """EXOTIDE_API_TIMEOUT_S: how long one call to the cloud may take in all."""
    log_level: str
    """EXOTIDE_LOG_LEVEL: debug, info, warning or error."""
    policy: Policy


class _Reader:
    """Collects values and problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[tuple[str, str]] = []

    def text(self, *names: str, missing: str | None = None, default: str = "") -> str:
        """The first of the names that is set and not empty."""
        for name in names:
            if value := self._environ.get(name, "").strip():
                return value
        if missing is not None:
            self.problem(names[0], f"not set; {missing}")
        return default

    def problem(self, name: str, text: str) -> None:
        """Note what is wrong with a setting, and the next step."""
        self.problems.append((name, text))

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text)
        self.problem(name, f"must be a whole number from {low} to {high}, got: {text!r}")
        return default

    def seconds(self, name: str, *, default: float, low: float) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= _DAY_S:
            return value
        self.problem(name, f"must be seconds from {low:g} to {_DAY_S:g}, got: {text!r}")
        return default

    def is_set(self, name: str) -> bool:
        return bool(self.text(name))

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name, default="1" if default else "0").lower()
        if text in {"1", "true", "yes", "on"}:
            return True
        if text not in {"0", "false", "no", "off"}:
            self.problem(name, f"must be 0 or 1, got: {text!r}")
        return False

    def one_of(self, name: str, choices: tuple[str, ...], *, default: str) -> str:
        value = self.text(name, default=default).lower()
        if value not in choices:
            self.problem(name, f"must be one of {', '.join(choices)}, got: {value!r}")
            return default
        return value


def read_settings(environ: Mapping[str, str]) -> Settings:
    """
    Read all settings.

    Raises:
        SettingsError: some are missing or wrong; names every one of them.
    """
    reader = _Reader(environ)
    address = reader.text("EXOTIDE_LISTEN_ADDRESS", default="0.0.0.0")
    metrics_port = reader.integer("EXOTIDE_METRICS_PORT", default=0, low=1, high=65535)
    journal = reader.text("EXOTIDE_JOURNAL")
    state = reader.text("STATE_DIRECTORY").split(":")[0]
    zone, endpoint = _endpoint(reader)
    settings = Settings(
        key=reader.text(
            "EXOSCALE_KEY", "EXOSCALE_API_KEY", missing="create a key that may scale one pool"
        ),
        secret=reader.text(
            "EXOSCALE_SECRET", "EXOSCALE_API_SECRET", missing="the secret of that key"
        ),
        pool_id=_pool_id(reader),
        endpoint=endpoint,
        zone=zone,
        listen_address=address,
        listen_port=reader.integer("LISTEN_PORT", default=8090, low=1, high=65535),
        metrics_address=reader.text("EXOTIDE_METRICS_ADDRESS", default=address),
        metrics_port=metrics_port or None,
        token=_token(reader),
        strict_bodies=reader.flag("EXOTIDE_STRICT_BODIES", default=False),
        journal=Path(journal) if journal else None,
        default_journal=Path(state) / "journal.sqlite" if state else DEFAULT_JOURNAL,
        api_timeout_s=reader.seconds("EXOTIDE_API_TIMEOUT_S", default=10.0, low=0.1),
        log_level=reader.one_of("EXOTIDE_LOG_LEVEL", LOG_LEVELS, default="info"),
        policy=_policy(reader),
    )
    if metrics_port == settings.listen_port and not reader.problems:
        reader.problem("EXOTIDE_METRICS_PORT", f"must differ from LISTEN_PORT, got: {metrics_port}")
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def _token(reader: _Reader) -> str:
    token = reader.text("EXOTIDE_WEBHOOK_TOKEN")
    if token and not (token.isascii() and token.isprintable()):
        reader.problem("EXOTIDE_WEBHOOK_TOKEN", "must be printable ASCII, as it goes into a header")
    return token


def _endpoint(reader: _Reader) -> tuple[str, str]:
    zone = reader.text("EXOSCALE_ZONE")
    endpoint = reader.text("EXOSCALE_API_ENDPOINT").rstrip("/")
    if zone and not _ZONE.fullmatch(zone):
        reader.problem("EXOSCALE_ZONE", f"must look like at-vie-1, got: {zone!r}")
    if not endpoint:
        if not zone:
            reader.problem("EXOSCALE_ZONE", "not set; the zone of the pool, for example at-vie-1")
        return zone, f"https://api-{zone}.exoscale.com/v2"
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        reader.problem(
            "EXOSCALE_API_ENDPOINT", f"must be a URL like http://host:1234/v2, got: {endpoint!r}"
        )
    return zone, endpoint


def _pool_id(reader: _Reader) -> str:
    name = "EXOSCALE_INSTANCEPOOL_ID"
    text = reader.text(name, missing="the id (a UUID) of the pool to scale")
    if not text:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        reader.problem(name, f"must be a UUID, got: {text!r}")
        return ""


def _policy(reader: _Reader) -> Policy:
    enforced = reader.flag("EXOTIDE_ENFORCE_LIMITS", default=True)
    ttl_s = reader.seconds("EXOTIDE_INTENT_TTL_S", default=900.0, low=0.1)
    policy = Policy(
        min_size=reader.integer("EXOTIDE_MIN_SIZE", default=1, low=1, high=1000),
        max_size=reader.integer("EXOTIDE_MAX_SIZE", default=10, low=1, high=1000),
        holds_min=enforced and reader.is_set("EXOTIDE_MIN_SIZE"),
        holds_max=enforced and reader.is_set("EXOTIDE_MAX_SIZE"),
        interval_s=reader.seconds("EXOTIDE_INTERVAL_S", default=60.0, low=0.1),
        cooldown_s=reader.seconds("EXOTIDE_COOLDOWN_S", default=0.0, low=0.0),
        request_ttl_s=ttl_s,
        settle_s=reader.seconds("EXOTIDE_SETTLE_S", default=min(600.0, ttl_s * 2 / 3), low=0.05),
        alert_holds_s=reader.seconds("EXOTIDE_ALERT_HOLDS_S", default=330.0, low=0.0),
    )
    if policy.max_size < policy.min_size:
        reader.problem(
            "EXOTIDE_MAX_SIZE",
            f"must be at least EXOTIDE_MIN_SIZE ({policy.min_size}), got: {policy.max_size}",
        )
    if policy.settle_s >= ttl_s:
        reader.problem(
            "EXOTIDE_SETTLE_S",
            f"must be less than EXOTIDE_INTENT_TTL_S ({ttl_s:g}), since a request has to live until"
            f" its pool settles; got: {policy.settle_s:g}",
        )
    return policy

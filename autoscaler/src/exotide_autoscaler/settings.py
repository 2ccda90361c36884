"""The program's settings: read from the environment, all problems told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide_autoscaler.domain import Policy
from exotide_autoscaler.reader import Reader

DEFAULT_JOURNAL: Final = Path("/srv/autoscaler/journal.sqlite")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


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
    notice: Path | None
    """EXOTIDE_NOTICE: a file that may come and go; the status page shows what it says."""
    api_timeout_s: float
    """EXOTIDE_API_TIMEOUT_S: how long one call to the cloud may take in all."""
    log_level: str
    """EXOTIDE_LOG_LEVEL: debug, info, warning or error."""
    policy: Policy


def read_settings(environ: Mapping[str, str]) -> Settings:
    """
    Read all settings.

    Raises:
        SettingsError: some are missing or wrong; names every one of them.
    """
    reader = Reader(environ)
    address = reader.text("EXOTIDE_LISTEN_ADDRESS", default="0.0.0.0")
    metrics_port = reader.integer("EXOTIDE_METRICS_PORT", default=0, low=1, high=65535)
    journal, notice = reader.text("EXOTIDE_JOURNAL"), reader.text("EXOTIDE_NOTICE")
    state = reader.text("STATE_DIRECTORY").split(":")[0]
    zone, endpoint = reader.endpoint(zone_needed=False)
    key, secret = reader.key()
    settings = Settings(
        key=key,
        secret=secret,
        pool_id=reader.pool_id(),
        endpoint=endpoint,
        zone=zone,
        listen_address=address,
        listen_port=reader.integer("LISTEN_PORT", default=8090, low=1, high=65535),
        metrics_address=reader.text("EXOTIDE_METRICS_ADDRESS", default=address),
        metrics_port=metrics_port or None,
        token=reader.secret("EXOTIDE_WEBHOOK_TOKEN", blanks=True),
        strict_bodies=reader.flag("EXOTIDE_STRICT_BODIES", default=False),
        journal=Path(journal) if journal else None,
        notice=Path(notice) if notice else None,
        default_journal=Path(state) / "journal.sqlite" if state else DEFAULT_JOURNAL,
        api_timeout_s=reader.seconds("EXOTIDE_API_TIMEOUT_S", default=10.0, low=0.1),
        log_level=reader.one_of("EXOTIDE_LOG_LEVEL", LOG_LEVELS, default="info"),
        policy=_policy(reader),
    )
    if metrics_port == settings.listen_port and not reader.problems:
        reader.problem("EXOTIDE_METRICS_PORT", f"must differ from LISTEN_PORT, got: {metrics_port}")
    reader.finish()
    return settings


def _policy(reader: Reader) -> Policy:
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

"""The settings: environment variables in, one checked value out, all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .reader import Reader

DEFAULT_TARGETS_FILE: Final = "/srv/service-discovery/config.json"


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
    Read all settings.

    Raises:
        SettingsError: some are missing or wrong; names every one of them.
    """
    reader = Reader(environ)
    zone, endpoint = reader.endpoint(zone_needed=True)
    key, secret = reader.key()
    settings = Settings(
        key=key,
        secret=secret,
        zone=zone,
        pool_id=reader.pool_id(),
        target_port=reader.integer("TARGET_PORT", default=None, low=1, high=65535),
        endpoint=endpoint,
        refresh_s=reader.seconds("EXOTIDE_REFRESH_S", default=10.0, low=0.1, high=3600.0),
        targets_file=reader.file("EXOTIDE_TARGETS_FILE", default=DEFAULT_TARGETS_FILE),
        metrics_address=reader.text(
            "EXOTIDE_METRICS_ADDRESS", "EXOTIDE_LISTEN_ADDRESS", default="0.0.0.0"
        ),
        metrics_port=reader.integer("EXOTIDE_METRICS_PORT", default=9177, low=0, high=65535),
    )
    reader.finish()
    return settings

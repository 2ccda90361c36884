"""The monitoring server's files at a chosen speed; at speed 1 they are those of `monitoring/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from .durations import parse_s, quicken
from .errors import StackError

SCRAPE_FLOOR_S: Final = 1.0
"""Scraping more often costs more CPU than a small member has."""
WINDOW_FLOOR_S: Final = 5.0
"""A rate needs several samples, and Prometheus needs up to 6 s to act on a new target."""

FILES: Final = (
    "prometheus/prometheus.yml",
    "prometheus/rules/pool-cpu.yml",
    "prometheus/rules/stack.yml",
    "alertmanager/alertmanager.yml",
)
"""What the server reads, below /srv there and below `monitoring/` here."""

GRAFANA_FLOOR_S: Final = 10.0
"""Grafana's scheduler ticks that often; an interval must be a multiple of it."""
GRAFANA_FILES: Final = (
    "grafana/provisioning/datasources/prometheus.yaml",
    "grafana/provisioning/dashboards/exotide.yaml",
    "grafana/provisioning/alerting/rules.yaml",
    "grafana/provisioning/alerting/contact-points.yaml",
    "grafana/provisioning/alerting/policies.yaml",
    "grafana/provisioning/plugins/none.yaml",
    "grafana/dashboards/pool.json",
)

_FLOOR_S: Final = {
    "scrape_interval": SCRAPE_FLOOR_S,
    "scrape_timeout": SCRAPE_FLOOR_S,
    "evaluation_interval": SCRAPE_FLOOR_S,
    "interval": SCRAPE_FLOOR_S,
    "refresh_interval": SCRAPE_FLOOR_S,
    "for": WINDOW_FLOOR_S,
    "group_wait": 0.0,
    "group_interval": 0.0,
    "repeat_interval": 0.0,
}
_RANGE: Final = re.compile(r"(?<=\[)\w+(?=\])|(?<=\boffset )\w+")
_RESEND: Final = "1m"
_LOOKBACK: Final = "30s"


def monitoring_files(*, speed: float = 1.0, folder: Path | None = None) -> dict[str, str]:
    """
    Text of each file, by its path below /srv.

    Args:
        speed: How many times faster than the assignment's own numbers.
        folder: Where the files at speed 1 are. None: those that come with the kit.
    """
    source = folder or _shipped()
    files = {name: (source / name).read_text(encoding="utf-8") for name in FILES}
    if speed != 1:
        files = {name: _quickened(text, speed) for name, text in files.items()}
    files["alertmanager/self.json"] = '[{"targets": ["127.0.0.1:9093"]}]\n'
    return files | {"prometheus/prometheus.args": _arguments(speed)}


def _arguments(speed: float) -> str:
    """
    What Prometheus is started with, one argument a line.

    It looks back no further than a few scrapes: after a restart, the average of before would else
    be judged for five minutes though nobody answers, and members that have gone would be listed.
    """
    resend = quicken(_RESEND, speed=speed, floor_s=SCRAPE_FLOOR_S)
    lookback = quicken(_LOOKBACK, speed=speed, floor_s=WINDOW_FLOOR_S)
    return f"--rules.alert.resend-delay={resend}\n--query.lookback-delta={lookback}\n"


def grafana_files(*, speed: float = 1.0, folder: Path | None = None) -> dict[str, str]:
    """
    Text of each of Grafana's files, by its path below /srv; arguments as of `monitoring_files`.

    The dashboard is the same at every speed.
    """
    source = folder or _shipped()
    files = {name: (source / name).read_text(encoding="utf-8") for name in GRAFANA_FILES}
    if speed == 1:
        return files
    floors = _FLOOR_S | {"interval": GRAFANA_FLOOR_S}
    return {
        name: text if name.endswith(".json") else _quickened(text, speed, floors)
        for name, text in files.items()
    }


def _shipped() -> Path:
    """Inside the package where it was installed from a wheel, else in the repository."""
    package = Path(__file__).resolve().parent
    for folder in (package / "monitoring", package.parents[2] / "monitoring"):
        if folder.is_dir():
            return folder
    raise StackError(f"the folder monitoring/ is missing, looked beside: {package}")


def _quickened(text: str, speed: float, floors: Mapping[str, float] = _FLOOR_S) -> str:
    head = f"# Derived from the file at speed 1: durations divided by {speed:g}, with floors.\n"
    return head + yaml.safe_dump(
        _walk(yaml.safe_load(text), speed, floors), sort_keys=False, width=1000
    )


def _walk(node: Any, speed: float, floors: Mapping[str, float]) -> Any:
    if isinstance(node, dict):
        return {key: _value(key, value, speed, floors) for key, value in node.items()}
    if isinstance(node, list):
        return [_walk(item, speed, floors) for item in node]
    return node


def _value(key: str, value: Any, speed: float, floors: Mapping[str, float]) -> Any:
    if key in floors and isinstance(value, str):
        return quicken(value, speed=speed, floor_s=floors[key])
    if key == "expr":
        return _RANGE.sub(
            lambda match: quicken(match[0], speed=speed, floor_s=_floor_s(match[0])), value
        )
    return _walk(value, speed, floors)


def _floor_s(window: str) -> float:
    """Keep what is shorter than a minute in proportion: patience stays below the pending time."""
    return WINDOW_FLOOR_S * min(1.0, parse_s(window) / 60)

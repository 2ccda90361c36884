"""The monitoring server's files at a chosen speed; at speed 1 they are those of `monitoring/`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from .durations import quicken
from .errors import StackError

SCRAPE_FLOOR_S: Final = 1.0
"""Scraping more often costs more CPU than a small member has."""
WINDOW_FLOOR_S: Final = 5.0
"""A rate needs several samples, and Prometheus needs up to 6 s to act on a new target."""

FILES: Final = (
    "prometheus/prometheus.yml",
    "prometheus/rules/pool-cpu.yml",
    "alertmanager/alertmanager.yml",
)
"""What the server reads, below /srv there and below `monitoring/` here."""

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
_RANGE: Final = re.compile(r"\[(\w+)\]")
_RESEND: Final = "1m"


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
    resend = quicken(_RESEND, speed=speed, floor_s=SCRAPE_FLOOR_S)
    return files | {"prometheus/prometheus.args": f"--rules.alert.resend-delay={resend}\n"}


def _shipped() -> Path:
    """Inside the package where it was installed from a wheel, else in the repository."""
    package = Path(__file__).resolve().parent
    for folder in (package / "monitoring", package.parents[2] / "monitoring"):
        if folder.is_dir():
            return folder
    raise StackError(f"the folder monitoring/ is missing, looked beside: {package}")


def _quickened(text: str, speed: float) -> str:
    head = f"# Derived from the file at speed 1: durations divided by {speed:g}, with floors.\n"
    return head + yaml.safe_dump(_walk(yaml.safe_load(text), speed), sort_keys=False, width=1000)


def _walk(node: Any, speed: float) -> Any:
    if isinstance(node, dict):
        return {key: _value(key, value, speed) for key, value in node.items()}
    if isinstance(node, list):
        return [_walk(item, speed) for item in node]
    return node


def _value(key: str, value: Any, speed: float) -> Any:
    if key in _FLOOR_S and isinstance(value, str):
        return quicken(value, speed=speed, floor_s=_FLOOR_S[key])
    if key == "expr":
        return _RANGE.sub(
            lambda match: f"[{quicken(match[1], speed=speed, floor_s=WINDOW_FLOOR_S)}]", value
        )
    return _walk(value, speed)

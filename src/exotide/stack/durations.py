"""Durations as Prometheus and Alertmanager write them: 5s, 1m30s, 250ms."""

from __future__ import annotations

import re
from typing import Final

UNITS_S: Final = {
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
_PART: Final = re.compile(r"(\d+)(ms|[smhdw])")
_WHOLE: Final = re.compile(r"(?:\d+(?:ms|[smhdw]))+")


def parse_s(text: str) -> float:
    """
    Read a duration as seconds.

    Raises:
        ValueError: if it is not one, with the text.
    """
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"not a duration such as 5s or 1m30s: {text!r}")
    return sum(int(number) * UNITS_S[unit] for number, unit in _PART.findall(text))


def format_s(duration_s: float) -> str:
    """Write seconds as a duration, to the millisecond."""
    rest_ms = round(duration_s * 1000)
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, rest_ms = divmod(rest_ms, round(UNITS_S[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def quicken(text: str, *, speed: float, floor_s: float = 0.0) -> str:
    """
    Divide a duration by the speed, down to a floor.

    A duration that is below the floor already is left alone: a floor never slows down.
    """
    duration_s = parse_s(text)
    return format_s(max(duration_s / speed, min(floor_s, duration_s)))

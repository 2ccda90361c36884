"""What a run is going to do to the stack, and what that may cost; told before anything happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exotide.cost.prices import UnknownPrice, server_per_hour

from .model import Check

DISK_GIB: Final = 10.0
SLOWER: Final = 2.0
"""So much longer servers may run where they come slowly."""


def announcement(checks: Sequence[Check], *, member_type: str, is_slow: bool = False) -> list[str]:
    """Tell it line by line, each thing once; nothing if the checks only look."""
    warnings = dict.fromkeys(check.warns for check in checks if check.warns)
    if not warnings:
        return []
    hours = sum(check.server_hours for check in checks) * (SLOWER if is_slow else 1.0)
    cost = f"this costs {_price(hours, member_type)}" if hours else "this costs nothing more"
    return ["to check it, this run", *(f"  - {text}" for text in warnings), cost]


def _price(hours: float, member_type: str) -> str:
    share = f"{hours:g} hours of a {member_type}"
    try:
        euro = hours * server_per_hour(member_type, disk_gib=DISK_GIB)
    except UnknownPrice:
        return f"{share} at most"
    return f"{euro:.3f} EUR without VAT at most ({share})"

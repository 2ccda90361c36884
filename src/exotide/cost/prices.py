"""What servers and balancers cost, by Exoscale's public price list (October 2026)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SECONDS_PER_HOUR: Final = 3600.0

INSTANCE_PER_HOUR: Final[dict[str, float]] = {
    "standard.micro": 0.00729,
    "standard.tiny": 0.01458,
    "standard.small": 0.02333,
    "standard.medium": 0.04666,
    "standard.large": 0.09333,
    "standard.extra-large": 0.18667,
    "standard.huge": 0.37334,
    "standard.mega": 0.74667,
    "standard.titan": 1.49333,
    "standard.jumbo": 2.24,
    "standard.colossus": 2.98666,
    "cpu.extra-large": 0.23333,
    "memory.extra-large": 0.14,
}
"""EUR (the same number in CHF and USD) per hour of a running server, without VAT and disk."""

LOAD_BALANCER_PER_HOUR: Final = 0.03472
DISK_PER_GIB_HOUR: Final = 0.00014


class UnknownPrice(LookupError):
    """The price list has no such instance type."""


def server_per_hour(instance_type: str, *, disk_gib: float) -> float:
    """
    EUR per hour of one running server with its disk.

    Raises:
        UnknownPrice: the type is not on the list; the message names those that are.
    """
    try:
        return INSTANCE_PER_HOUR[instance_type] + disk_gib * DISK_PER_GIB_HOUR
    except KeyError:
        known = ", ".join(INSTANCE_PER_HOUR)
        raise UnknownPrice(f"no price for type '{instance_type}'; known: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPrices:
    """EUR per hour of the parts of the assignment's stack."""

    member: float
    base: float
    """All that does not depend on the pool's size: balancer and monitoring server."""


def stack_prices(
    *,
    member_type: str = "standard.micro",
    monitoring_type: str = "standard.small",
    disk_gib: float = 10,
) -> StackPrices:
    """Prices of a stack whose servers all have a disk of disk_gib."""
    return StackPrices(
        member=server_per_hour(member_type, disk_gib=disk_gib),
        base=LOAD_BALANCER_PER_HOUR + server_per_hour(monitoring_type, disk_gib=disk_gib),
    )


def accumulated(
    steps: Iterable[tuple[float, float]], *, member_per_hour: float, scale: float = 1.0
) -> list[float]:
    """
    EUR spent on members since the first step, at each step.

    Args:
        steps: (seconds, members billed from then on), in order of time.
        scale: Seconds of cloud time per second given, for a run faster than life.
    """
    total, spent = 0.0, [0.0]
    for (start_s, members), (end_s, _) in pairwise(steps):
        total += (end_s - start_s) * scale / SECONDS_PER_HOUR * members * member_per_hour
        spent.append(total)
    return spent

"""
How many cores each server may use; pure.

The sum stays below what the host has: a server that is starved by its neighbours would show
less than 100 % CPU although it has no reserve left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOST_RATIO: Final = 0.9
"""Part of the host's cores that servers may have together; the rest is for the cloud itself."""
MONITORING_CORES: Final = 0.75
"""At least this for a monitoring server: Prometheus and the agents must never starve."""
MOST_CORES_PER_VCPU: Final = 0.25
"""A whole core for each vCPU would leave no room for a pool on a laptop."""
LEAST_CORES: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one server would have on a host with room for all."""

    cores: float
    firm: bool = False
    """Never lowered when the host gets tight."""


def default_cores_per_vcpu(host_cores: int) -> float:
    """Choose the share of a vCPU so that a pool of some members fits this host."""
    return min(MOST_CORES_PER_VCPU, host_cores / 8)


def demand(*, vcpus: int, cores_per_vcpu: float, role: str | None) -> Demand:
    """Give a server's cores by its instance type and role."""
    cores = vcpus * cores_per_vcpu
    if role == "monitoring":
        return Demand(cores=max(cores, MONITORING_CORES), firm=True)
    return Demand(cores=cores)


def divide(demands: Mapping[str, Demand], *, host_cores: int) -> dict[str, float]:
    """
    Give each server its cores; when the host is tight, all but the firm ones shrink alike.

    Firm demands alone may exceed the host; then the others get the least that works.
    """
    budget = host_cores * HOST_RATIO
    firm = sum(item.cores for item in demands.values() if item.firm)
    wanted = sum(item.cores for item in demands.values() if not item.firm)
    ratio = min(1.0, max(0.0, budget - firm) / wanted) if wanted else 1.0
    return {
        key: item.cores if item.firm else max(item.cores * ratio, LEAST_CORES)
        for key, item in demands.items()
    }

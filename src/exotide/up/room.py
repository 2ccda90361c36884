"""Whether a stack fits into the account's quotas, and how large its pool may get: PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exotide.access.quota import BALANCERS, INSTANCES, RAISE, Quota

from .errors import CannotRun

UNKNOWN: Final = "max_size is not known here, so that it was not compared with the quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class Has:
    """What of the stack exists already, and so is in use already."""

    members: int = 0
    monitoring: bool = False
    balancer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The pool's largest size, and what is to be said of it."""

    max_size: int
    remark: str = ""


def fit(
    quotas: Mapping[str, Quota], *, min_size: int, max_size: int, has: Has, stays: bool
) -> Size:
    """
    Lower the largest size to what the quota of instances leaves, never below the smallest.

    Args:
        stays: The largest size was applied before; another would replace the monitoring server,
            so that it is only said what does not fit.

    Raises:
        CannotRun: Not even the smallest stack fits; nothing was made.
    """
    _check_balancer(quotas.get(BALANCERS), has)
    quota = quotas.get(INSTANCES)
    if quota is None:
        return Size(max_size=max_size, remark=f"no quota of instances is told; {_stays(max_size)}")
    free = quota.free
    if free is None:
        return Size(max_size=max_size)
    _check_smallest(quota, min_size, has)
    room = has.members + free - (0 if has.monitoring else 1)
    if room >= max_size:
        return Size(max_size=max_size)
    others = quota.usage - has.members - int(has.monitoring)
    why = f"the quota of instances is {quota.limit}, {others} are others', 1 is for monitoring"
    if stays:
        return Size(
            max_size=max_size,
            remark=f"the pool cannot get larger than {room}, though max_size is {max_size}: {why}",
        )
    lowered = max(room, min_size, has.members)
    return Size(
        max_size=lowered,
        remark=f"max_size is lowered from {max_size} to {lowered}: {why}. To have that in plain "
        f"terraform, too: max_size = {lowered}",
    )


def unread(fault: str, *, max_size: int) -> Size:
    """What follows if the quotas cannot be read."""
    return Size(max_size=max_size, remark=f"the quotas cannot be read, {_stays(max_size)}: {fault}")


def _stays(max_size: int) -> str:
    return f"max_size stays {max_size}"


def _check_smallest(quota: Quota, min_size: int, has: Has) -> None:
    members = max(min_size - has.members, 0)
    needed = members + (0 if has.monitoring else 1)
    if needed <= (quota.free or 0):
        return
    raise CannotRun(
        f"{quota}, and the smallest stack needs {needed} more ({members} of the pool, "
        f"{needed - members} for monitoring); nothing was made. Remove what is not needed, or "
        f"{RAISE}"
    )


def _check_balancer(quota: Quota | None, has: Has) -> None:
    if quota is None or has.balancer or quota.free is None or quota.free:
        return
    raise CannotRun(
        f"{quota}, and the stack needs one more; nothing was made. Remove what is not needed, or "
        f"{RAISE}"
    )

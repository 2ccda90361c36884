"""Which members go when a pool shrinks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from exotide_autoscaler.domain import Member


def rank_victims(
    listed: Sequence[str],
    members: Sequence[Member],
    *,
    failing: Collection[str],
    spared: Collection[str],
) -> tuple[str, ...] | None:
    """
    Order those who may go, who goes first in front; None: their ages are not known.

    Members in state `error` first, then those that the load balancer's health check calls failed,
    then the oldest, as the cloud itself would choose. Whoever serves goes only when nobody else
    can. Without all ages that are needed there is no order: a list is never sorted by luck.

    Args:
        listed: Ids of the pool's members.
        members: What the list of instances tells of them.
        failing: Public addresses of members that fail the health check.
        spared: Ids of members that cannot go at present.
    """
    told = {member.id: member for member in members}
    known = [told[member] for member in listed if member in told and member not in spared]
    dead = [member for member in known if member.state == "error"]
    ill = [member for member in known if member.ip in failing and member not in dead]
    rest = [member for member in known if member not in dead and member not in ill]
    unlisted = any(member not in told for member in listed if member not in spared)
    if unlisted and not (dead or ill):
        return None
    ordered: list[str] = []
    for group in (dead, ill, rest):
        if any(member.created_at is None for member in group):
            return tuple(ordered) or None
        ordered += [
            member.id for member in sorted(group, key=lambda each: (each.created_at or "", each.id))
        ]
    return tuple(ordered)

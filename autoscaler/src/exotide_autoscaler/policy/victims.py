"""Which members go when a pool shrinks."""

from __future__ import annotations

from collections.abc import Sequence

from exotide_autoscaler.domain import Member


def choose_victims(members: Sequence[Member], count: int) -> tuple[str, ...]:
    """
    Name the members that go: the oldest, as the cloud itself would choose.

    The same members give the same victims, so that a request repeated after an unknown outcome
    names nobody else. If any age is unknown, the order of the list decides.
    """
    if all(member.created_at for member in members):
        members = sorted(members, key=lambda member: (member.created_at or "", member.id))
    return tuple(member.id for member in members[:count])

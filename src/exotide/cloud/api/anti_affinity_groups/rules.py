"""Who is in an anti-affinity group, and how many may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exotide.cloud.api.catalogue import INSTANCES_PER_ANTI_AFFINITY_GROUP
from exotide.cloud.api.errors import InUse, QuotaExceeded
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World

_WITHOUT_HOST: Final = frozenset({InstanceState.DESTROYING, InstanceState.ERROR})


def members_of(world: World, group_id: str) -> list[Instance]:
    """Return the instances that a group keeps apart: those that have a host."""
    return [
        instance
        for instance in world.instances.values()
        if group_id in instance.plan.anti_affinity_groups and instance.state not in _WITHOUT_HOST
    ]


def require_room(world: World, group_ids: Iterable[str]) -> None:
    """
    Check that each group takes one instance more.

    Raises:
        QuotaExceeded: One of them is full.
    """
    limit = INSTANCES_PER_ANTI_AFFINITY_GROUP
    for group_id in group_ids:
        usage = len(members_of(world, group_id))
        if usage >= limit:
            name = world.anti_affinity_groups[group_id].name
            resource = f"instances in anti-affinity group {name}"
            raise QuotaExceeded.of(resource, limit=limit, usage=usage, wanted=1)


def require_unused(world: World, group_id: str) -> None:
    """
    Check that no pool or instance, not even one on its way out, names a group.

    Raises:
        InUse: One does.
    """
    pools, instances = world.pools.values(), world.instances.values()
    users = [("instance pool", pool.name) for pool in pools if group_id in _groups(pool)]
    users += [("instance", each.name) for each in instances if group_id in _groups(each)]
    for kind, name in users:
        group = world.anti_affinity_groups[group_id].name
        raise InUse(f"anti-affinity group {group} is in use by {kind} {name}; delete that first")


def _groups(user: Pool | Instance) -> tuple[str, ...]:
    return user.plan.anti_affinity_groups

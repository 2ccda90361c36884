"""The one way to change what security groups let through, for those who have to act on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import structlog

from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.security_groups.model import Rule, SecurityGroup
from exotide.cloud.api.world import World

_log: Final = structlog.get_logger(__name__)


def change_rules(world: World, group: SecurityGroup, rules: Mapping[str, Rule]) -> None:
    """Give a group exactly these rules, by id."""
    group.rules = dict(rules)
    _tell(world, (group.id,))


def change_sources(world: World, group: SecurityGroup, cidrs: Iterable[str]) -> None:
    """Let exactly these networks count as members of a group, beside its instances."""
    group.external_sources = tuple(cidrs)
    _tell(world, (group.id,))


def change_groups(world: World, instance: Instance, groups: Iterable[str]) -> None:
    """Put an instance into exactly these groups, by id."""
    before, after = instance.plan.security_groups, tuple(groups)
    instance.plan = replace(instance.plan, security_groups=after)
    _tell(world, sorted(set(before) ^ set(after)))


def members_of(world: World, group_id: str) -> list[Instance]:
    """Return the instances that are in a group."""
    return [each for each in world.instances.values() if group_id in each.plan.security_groups]


def _tell(world: World, groups: Iterable[str]) -> None:
    """Rules, sources or members of these groups are not what they were."""
    for group in groups:
        count = len(members_of(world, group))
        _log.info("security_group_changed", group=group, instances=count)

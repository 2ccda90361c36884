"""
From security groups to the filter of each server.

A server is reachable only where a rule of one of its groups says so. It reaches everything until
one of its groups has an egress rule; from then on only what the egress rules name. A rule's other
end is a network, the members and external sources of a group, or what a managed group stands for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, collapse_addresses, ip_network
from typing import Final

import structlog

from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.security_groups.changes import members_of
from exotide.cloud.api.security_groups.model import HEALTH_CHECKERS, Rule, SecurityGroup
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World
from exotide.cloud.firewall import Firewall, Traffic
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

AT_ONCE: Final = 16
"""Servers whose filters change at the same time; the kernel makes each wait, not work."""
_FILTERED: Final = frozenset(
    {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.STOPPING}
)

Resolve = Callable[[Rule], Iterable[str]]
"""Gives the networks at the other end of a rule."""


def firewall_of(groups: Sequence[SecurityGroup], resolve: Resolve) -> Firewall:
    """Combine the rules of all groups of one server; pure."""
    rules = [rule for group in groups for rule in group.rules.values()]
    leaving = [rule for rule in rules if rule.sent["flow-direction"] == "egress"]
    arriving = [rule for rule in rules if rule.sent["flow-direction"] == "ingress"]
    return Firewall(
        ingress=_traffic(arriving, resolve),
        egress=_traffic(leaving, resolve) if leaving else None,
    )


def collapsed(networks: Iterable[str]) -> tuple[str, ...]:
    """Sort IPv4 networks and merge those that touch; the servers have no IPv6, so drop that."""
    found = [ip_network(network, strict=False) for network in networks]
    return tuple(map(str, collapse_addresses(n for n in found if isinstance(n, IPv4Network))))


def hand_over(world: World, instance: Instance) -> Firewall:
    """Give the filter with which a server starts; changes after that reach it by `refresh`."""
    firewall = _wanted(world, instance)
    world.filters.handed[instance.id] = firewall
    return firewall


def managed_sources(world: World, name: str) -> list[str]:
    """Give the addresses that a group of Exoscale's own stands for."""
    if name != HEALTH_CHECKERS:
        return []
    return [balancer.ip for balancer in world.load_balancers.values()]


async def refresh(world: World) -> None:
    """
    Bring every server's filter to what the groups say at this moment; returns when that is done.

    Calls that come while one is at work share the next round, so a burst costs two rounds.

    Raises:
        CloudFault: A server has its former filter still; the next round tries again.
    """
    filters = world.filters
    filters.known.clear()
    filters.asked += 1
    mine = filters.asked
    async with filters.turn:
        if filters.done < mine:
            covered = filters.asked
            filters.faults = await _apply_all(world)
            filters.done = covered
        if filters.faults:
            raise CloudFault(f"security groups are not in force: {filters.faults[0]}")


async def follow_membership(world: World) -> None:
    """Refresh after a server or balancer came or went; that succeeds or fails without this."""
    try:
        await refresh(world)
    except CloudFault as error:
        _log.error("filters_not_set", error=str(error))


async def _apply_all(world: World) -> list[str]:
    limit = asyncio.Semaphore(AT_ONCE)
    instances = [each for each in world.instances.values() if each.state in _FILTERED]
    present = {instance.id for instance in instances}
    for gone in world.filters.handed.keys() - present:
        del world.filters.handed[gone]
    faults = await asyncio.gather(*(_apply(world, each, limit) for each in instances))
    return [fault for fault in faults if fault is not None]


async def _apply(world: World, instance: Instance, limit: asyncio.Semaphore) -> str | None:
    async with limit:
        wanted = _wanted(world, instance)
        if world.filters.handed.get(instance.id) == wanted:
            return None
        world.filters.handed[instance.id] = wanted
        try:
            await world.servers.set_firewall(instance.id, wanted)
        except CloudFault as error:
            world.filters.handed.pop(instance.id, None)
            return f"instance {instance.name}: {error}"
    return None


def _wanted(world: World, instance: Instance) -> Firewall:
    """Servers of the same groups share one filter."""
    key = instance.plan.security_groups
    known = world.filters.known.get(key)
    if known is None:
        groups = [world.security_groups[each] for each in key if each in world.security_groups]
        known = firewall_of(groups, lambda rule: _other_end(world, rule))
        world.filters.known[key] = known
    return known


def _other_end(world: World, rule: Rule) -> Iterable[str]:
    if rule.source_group is not None:
        return _addresses(world, rule.source_group)
    if (network := rule.sent.get("network")) is not None:
        return (str(network),)
    match rule.sent.get("security-group"):
        case {"name": str(name)}:
            return managed_sources(world, name)
    return ()


def _addresses(world: World, group_id: str) -> list[str]:
    group = world.security_groups.get(group_id)
    if group is None:
        return []
    return [*(member.ip for member in members_of(world, group_id)), *group.external_sources]


def _traffic(rules: Iterable[Rule], resolve: Resolve) -> tuple[Traffic, ...]:
    found = [_one(rule, collapsed(resolve(rule))) for rule in rules]
    return tuple(dict.fromkeys(each for each in found if each is not None and each.networks))


def _one(rule: Rule, networks: tuple[str, ...]) -> Traffic | None:
    protocol = str(rule.sent["protocol"])
    if protocol == "icmpv6":
        return None
    icmp = rule.sent.get("icmp")
    kind, code = (icmp.get("type"), icmp.get("code")) if isinstance(icmp, dict) else (None, None)
    first, last = rule.sent.get("start-port"), rule.sent.get("end-port")
    return Traffic(
        protocol=protocol,
        networks=networks,
        ports=(first, last) if isinstance(first, int) and isinstance(last, int) else None,
        icmp_type=_any_below_zero(kind),
        icmp_code=_any_below_zero(code),
    )


def _any_below_zero(value: object) -> int | None:
    """The API writes -1 for every type or code."""
    return value if isinstance(value, int) and value >= 0 else None

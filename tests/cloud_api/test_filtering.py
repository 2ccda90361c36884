"""From security groups to the filter of each server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.api.security_groups.filtering import collapsed, firewall_of, refresh
from exotide.cloud.api.security_groups.model import Rule, SecurityGroup
from exotide.cloud.firewall import Firewall, Traffic
from exotide.cloud.testing import FakeServers

from .conftest import Account

NETWORKS = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "192.0.2.0/31", "::/0")
PEERS = ("10.1.2.3", "10.200.0.1", "192.0.2.7", "192.0.2.1", "203.0.113.9")
PORTS = (1, 79, 80, 443, 65_535)


@dataclass(frozen=True, kw_only=True)
class Packet:
    """The first one of a connection; `peer` is the other end."""

    peer: str
    protocol: str
    port: int = 0
    icmp: tuple[int, int] = (0, 0)


def lets_pass(allowed: tuple[Traffic, ...], packet: Packet) -> bool:
    """Read a filter as the drivers must."""
    return any(
        traffic.protocol in {"all", packet.protocol}
        and any(ip_address(packet.peer) in ip_network(network) for network in traffic.networks)
        and (traffic.ports is None or traffic.ports[0] <= packet.port <= traffic.ports[1])
        and traffic.icmp_type in {None, packet.icmp[0]}
        and traffic.icmp_code in {None, packet.icmp[1]}
        for traffic in allowed
    )


def names(rule: Rule, packet: Packet) -> bool:
    """Read a rule as its author meant it."""
    sent = rule.sent
    if sent["protocol"] not in {"all", packet.protocol}:
        return False
    network = ip_network(str(sent["network"]))
    if network.version != 4 or ip_address(packet.peer) not in network:
        return False
    if packet.protocol in {"tcp", "udp"} and "start-port" in sent:
        return int(str(sent["start-port"])) <= packet.port <= int(str(sent["end-port"]))
    icmp = sent.get("icmp")
    if not isinstance(icmp, dict):
        return True
    return icmp.get("type", -1) in {-1, packet.icmp[0]} and icmp.get("code", -1) in {
        -1,
        packet.icmp[1],
    }


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    protocol = draw(st.sampled_from(("tcp", "udp", "icmp", "icmpv6", "esp", "all")))
    sent: dict[str, object] = {
        "flow-direction": draw(st.sampled_from(("ingress", "egress"))),
        "protocol": protocol,
        "network": draw(st.sampled_from(NETWORKS)),
    }
    if protocol in {"tcp", "udp"}:
        first, last = sorted(draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))))
        sent |= {"start-port": first, "end-port": last}
    if protocol in {"icmp", "icmpv6"} and draw(st.booleans()):
        sent["icmp"] = draw(
            st.fixed_dictionaries(
                {}, optional={"type": st.integers(-1, 2), "code": st.integers(-1, 2)}
            )
        )
    return Rule(id=str(draw(st.uuids())), sent=sent)


GROUPS = st.lists(
    st.lists(rules(), max_size=4).map(
        lambda found: SecurityGroup(id="g", name="g", rules={each.id: each for each in found})
    ),
    max_size=3,
)
PACKETS = st.builds(
    Packet,
    peer=st.sampled_from(PEERS),
    protocol=st.sampled_from(("tcp", "udp", "icmp", "esp", "gre")),
    port=st.sampled_from(PORTS),
    icmp=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)


def network_of(rule: Rule) -> list[str]:
    return [str(rule.sent["network"])]


@given(GROUPS, PACKETS)
def test_a_packet_passes_exactly_where_a_rule_of_a_group_names_it(
    groups: list[SecurityGroup], packet: Packet
) -> None:
    firewall = firewall_of(groups, network_of)
    known = [rule for group in groups for rule in group.rules.values()]
    ingress = [rule for rule in known if rule.sent["flow-direction"] == "ingress"]
    egress = [rule for rule in known if rule.sent["flow-direction"] == "egress"]
    assert lets_pass(firewall.ingress, packet) == any(names(rule, packet) for rule in ingress)
    leaves = firewall.egress is None or lets_pass(firewall.egress, packet)
    assert leaves == (not egress or any(names(rule, packet) for rule in egress))


@given(st.lists(st.sampled_from((*NETWORKS, *PEERS))), st.sampled_from(PEERS))
def test_collapsed_networks_hold_the_same_addresses_without_overlap(
    networks: list[str], address: str
) -> None:
    merged = [ip_network(network) for network in collapsed(networks)]
    holds = any(ip_address(address) in ip_network(network) for network in networks)
    assert any(ip_address(address) in network for network in merged) == holds
    assert sum(ip_address(address) in network for network in merged) <= 1
    assert collapsed(reversed(networks)) == collapsed(networks)


def test_a_server_in_no_group_is_closed_and_reaches_everything() -> None:
    assert firewall_of([], network_of) == Firewall(ingress=(), egress=None)


def tcp(port: int, *networks: str) -> Traffic:
    return Traffic(protocol="tcp", ports=(port, port), networks=networks)


def allow(account: Account, group: str, port: int, **source: Any) -> str:
    return account.done(
        account.client.add_rule_to_security_group(
            id=group,
            flow_direction="ingress",
            protocol="tcp",
            start_port=port,
            end_port=port,
            **source,
        )
    )


def ip_of(account: Account, instance: str) -> str:
    return str(account.client.get_instance(id=instance)["public-ip"])


def test_a_rule_is_in_force_when_its_operation_has_succeeded(
    account: Account, servers: FakeServers
) -> None:
    group = account.group("web")
    instance = account.instance(security_groups=[{"id": group}])
    assert servers.firewalls[instance] == Firewall()
    allow(account, group, 8080, network="0.0.0.0/0")
    assert servers.firewalls[instance] == Firewall(ingress=(tcp(8080, "0.0.0.0/0"),))
    (rule,) = account.client.get_security_group(id=group)["rules"]
    account.done(account.client.delete_rule_from_security_group(id=group, rule_id=rule["id"]))
    assert servers.firewalls[instance] == Firewall()


def test_a_group_as_source_means_its_members_and_external_sources_of_the_moment(
    account: Account, servers: FakeServers
) -> None:
    web, monitoring = account.group("web"), account.group("monitoring")
    allow(account, web, 9100, security_group={"id": monitoring, "visibility": "private"})
    member = account.instance(security_groups=[{"id": web}])
    assert servers.firewalls[member].ingress == ()
    watcher = account.instance(name="mon2", security_groups=[{"id": monitoring}])
    ip = ip_of(account, watcher)
    assert servers.firewalls[member].ingress == (tcp(9100, f"{ip}/32"),)
    account.done(
        account.client.add_external_source_to_security_group(id=monitoring, cidr="192.0.2.0/24")
    )
    assert servers.firewalls[member].ingress == (tcp(9100, "192.0.2.0/24", f"{ip}/32"),)
    account.done(account.client.delete_instance(id=watcher))
    assert servers.firewalls[member].ingress == (tcp(9100, "192.0.2.0/24"),)


def test_joining_and_leaving_a_group_changes_the_filter(
    account: Account, servers: FakeServers
) -> None:
    group, instance = account.group("web"), account.instance()
    allow(account, group, 80, network="10.0.0.0/8")
    attach = account.client.attach_instance_to_security_group
    account.done(attach(id=group, instance={"id": instance}))
    assert servers.firewalls[instance].ingress == (tcp(80, "10.0.0.0/8"),)
    detach = account.client.detach_instance_from_security_group
    account.done(detach(id=group, instance={"id": instance}))
    assert servers.firewalls[instance].ingress == ()


def test_the_health_check_sources_are_the_balancers(account: Account, servers: FakeServers) -> None:
    group = account.group("web")
    source = {"name": "public-nlb-healthcheck-sources", "visibility": "public"}
    allow(account, group, 8080, security_group=source)
    instance = account.instance(security_groups=[{"id": group}])
    assert servers.firewalls[instance].ingress == ()
    nlb = account.nlb()
    ip = account.client.get_load_balancer(id=nlb)["ip"]
    assert servers.firewalls[instance].ingress == (tcp(8080, f"{ip}/32"),)
    public = account.client.list_security_groups(visibility="public")["security-groups"]
    shown = {each["name"]: each["external-sources"] for each in public}
    assert shown == {
        "public-nlb-healthcheck-sources": [f"{ip}/32"],
        "public-sks-apiservers": [],
    }
    account.done(account.client.delete_load_balancer(id=nlb))
    assert servers.firewalls[instance].ingress == ()


def test_a_filter_that_cannot_be_set_fails_the_operation_and_is_tried_again(
    account: Account, servers: FakeServers
) -> None:
    group = account.group("web")
    instance = account.instance(name="stuck", security_groups=[{"id": group}])
    servers.fail_next_firewall("nft: too busy")
    order = account.client.add_rule_to_security_group(
        id=group, flow_direction="ingress", protocol="all", network="0.0.0.0/0"
    )
    ended = account.settled(order)
    assert ended["state"] == "failure"
    assert ended["message"] == "security groups are not in force: instance stuck: nft: too busy"
    assert servers.firewalls[instance] == Firewall()
    allow(account, group, 80, network="0.0.0.0/0")
    assert len(servers.firewalls[instance].ingress) == 2


def test_a_change_touches_only_the_servers_it_concerns_however_often_it_is_asked_for(
    account: Account, servers: FakeServers
) -> None:
    web, other = account.group("web"), account.group("other")
    pool = account.pool(size=3, security_groups=[{"id": web}])
    account.instance(security_groups=[{"id": other}])
    world = account.cloud.cloud.world

    async def ask_often() -> None:
        rule = {"flow-direction": "ingress", "protocol": "all", "network": "0.0.0.0/0"}
        world.security_groups[web].rules["r"] = Rule(id="r", sent=rule)
        await asyncio.gather(*(refresh(world) for _ in range(50)))

    asyncio.run_coroutine_threadsafe(ask_often(), account.cloud.loop).result(5.0)
    changed = [server for server, _ in servers.firewall_changes]
    assert sorted(changed) == sorted(account.members(pool))


def test_a_server_that_starts_again_filters_by_the_rules_of_then(
    account: Account, servers: FakeServers
) -> None:
    group = account.group("web")
    instance = account.instance(security_groups=[{"id": group}])
    account.done(account.client.stop_instance(id=instance))
    assert instance not in servers.firewalls
    allow(account, group, 80, network="0.0.0.0/0")
    account.done(account.client.start_instance(id=instance))
    assert servers.firewalls[instance] == Firewall(ingress=(tcp(80, "0.0.0.0/0"),))
    assert servers.started[-1].firewall == servers.firewalls[instance]

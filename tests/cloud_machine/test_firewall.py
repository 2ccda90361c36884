"""Filters of servers: real nftables, real packets between real namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exotide.cloud.firewall import ANYWHERE, OPEN, Firewall, Traffic
from exotide.cloud.ports import METADATA_IP
from exotide.cloud.servers.errors import CommandFailed
from exotide.cloud.servers.network import Network, in_namespace
from exotide.cloud.servers.processes import ProcessServers

if TYPE_CHECKING:
    from exotide.cloud.ports import ServerSpec
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.root, pytest.mark.anyio]

UNREACHABLE_AFTER_S = 0.3
"""A dropped packet looks like silence; the network here answers within a millisecond."""


def tcp(port: int, *networks: str) -> Traffic:
    return Traffic(protocol="tcp", ports=(port, port), networks=networks or (ANYWHERE,))


def answers(ip: str, port: int) -> bool:
    try:
        socket.create_connection((ip, port), UNREACHABLE_AFTER_S).close()
    except OSError:
        return False
    return True


class Stand:
    """Servers that answer on port 8080, and who reaches whom."""

    def __init__(self, servers: ProcessServers, tools: Tools) -> None:
        self.servers, self.tools = servers, tools
        assert isinstance(servers.network, Network)
        self.network = servers.network

    async def server(self, firewall: Firewall) -> ServerSpec:
        spec = self.tools.spec(self.servers, firewall=firewall)
        await self.servers.start(spec)
        machine = self.servers._servers[spec.id].machine
        await self.tools.eventually(lambda: {8080, 9100} <= machine.listening())
        return spec

    def reaches(self, origin: ServerSpec, ip: str, port: int) -> bool:
        namespace = self.network.namespace(origin.id)
        return in_namespace(namespace, lambda: answers(ip, port))


@pytest.fixture
async def stand(run_dir: Path, cloud_id: str, tools: Tools) -> AsyncIterator[Stand]:
    command = f"exec {sys.executable} -I -S {tools.stub} 8080"
    servers = ProcessServers(cloud_id=cloud_id, run_dir=run_dir, command=command)
    await servers.open()
    yield Stand(servers, tools)
    await servers.close(grace_s=0.5)


async def test_without_a_rule_nobody_reaches_a_server_but_itself(stand: Stand) -> None:
    closed, other = await asyncio.gather(stand.server(Firewall()), stand.server(OPEN))
    assert not answers(closed.ip, 8080)
    assert not stand.reaches(other, closed.ip, 8080)
    assert stand.reaches(closed, closed.ip, 8080)
    assert stand.reaches(closed, "127.0.0.1", 9100)
    assert stand.reaches(closed, other.ip, 8080)
    assert answers(other.ip, 8080)


async def test_a_rule_opens_its_port_to_its_source_only(stand: Stand) -> None:
    friend, stranger = await asyncio.gather(stand.server(OPEN), stand.server(OPEN))
    spec = await stand.server(Firewall(ingress=(tcp(8080), tcp(9100, f"{friend.ip}/32"))))
    assert answers(spec.ip, 8080)
    assert stand.reaches(friend, spec.ip, 9100)
    assert not stand.reaches(stranger, spec.ip, 9100)
    assert not answers(spec.ip, 9100)


async def test_a_change_is_in_force_at_once_and_open_connections_live_on(stand: Stand) -> None:
    spec = await stand.server(Firewall(ingress=(tcp(8080),)))
    connection = await asyncio.to_thread(
        socket.create_connection, (spec.ip, 8080), UNREACHABLE_AFTER_S
    )
    with connection:
        await stand.servers.set_firewall(spec.id, Firewall())
        assert not answers(spec.ip, 8080)
        connection.settimeout(5.0)
        connection.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert spec.name.encode() in await asyncio.to_thread(connection.makefile("rb").read)
    await stand.servers.set_firewall(spec.id, OPEN)
    assert answers(spec.ip, 8080)


async def test_an_egress_rule_closes_all_other_ways_out(stand: Stand) -> None:
    friend, stranger = await asyncio.gather(stand.server(OPEN), stand.server(OPEN))
    leaving = Firewall(ingress=OPEN.ingress, egress=(tcp(8080, f"{friend.ip}/32"),))
    spec = await stand.server(leaving)
    assert stand.reaches(spec, friend.ip, 8080)
    assert not stand.reaches(spec, friend.ip, 9100)
    assert not stand.reaches(spec, stranger.ip, 8080)
    assert answers(spec.ip, 8080)  # answers always leave
    with contextlib.ExitStack() as stack:
        for listener in stand.network.metadata_sockets():
            stack.enter_context(listener)
        assert stand.reaches(spec, METADATA_IP, 80)


async def test_the_newest_wish_wins_over_a_start_that_is_under_way(stand: Stand) -> None:
    spec = stand.tools.spec(stand.servers, firewall=OPEN, boot_delay_s=0.1)
    start = asyncio.create_task(stand.servers.start(spec))
    await asyncio.sleep(0)
    await stand.servers.set_firewall(spec.id, Firewall())
    await start
    machine = stand.servers._servers[spec.id].machine
    await stand.tools.eventually(lambda: 8080 in machine.listening())
    assert not answers(spec.ip, 8080)


async def test_a_burst_of_changes_ends_with_the_last(stand: Stand) -> None:
    spec = await stand.server(Firewall())
    wishes = [Firewall(ingress=(tcp(8080),)), Firewall(), OPEN, Firewall(ingress=(tcp(9100),))]
    await asyncio.gather(*(stand.servers.set_firewall(spec.id, each) for each in wishes))
    assert not answers(spec.ip, 8080)
    assert answers(spec.ip, 9100)


async def test_what_nft_refuses_fails_loudly_and_leaves_the_former_filter(stand: Stand) -> None:
    spec = await stand.server(Firewall(ingress=(tcp(8080),)))
    with pytest.raises(CommandFailed, match="no-network"):
        await stand.servers.set_firewall(spec.id, Firewall(ingress=(tcp(9100, "no-network"),)))
    assert answers(spec.ip, 8080)
    assert not answers(spec.ip, 9100)


async def test_a_reboot_keeps_the_filter_and_a_stopped_server_needs_none(stand: Stand) -> None:
    spec = await stand.server(Firewall(ingress=(tcp(8080),)))
    await stand.servers.reboot(spec.id)
    machine = stand.servers._servers[spec.id].machine
    await stand.tools.eventually(lambda: {8080, 9100} <= machine.listening())
    assert answers(spec.ip, 8080)
    assert not answers(spec.ip, 9100)
    await stand.servers.stop(spec.id, grace_s=0.5)
    await stand.servers.set_firewall(spec.id, OPEN)


@pytest.mark.parametrize(
    "traffic",
    [
        pytest.param(Traffic(protocol=protocol, networks=("10.0.0.0/8", ANYWHERE)), id=protocol)
        for protocol in ("all", "icmp", "ah", "esp", "gre", "ipip")
    ]
    + [
        pytest.param(
            Traffic(protocol="icmp", networks=(ANYWHERE,), icmp_type=kind, icmp_code=code),
            id=f"icmp-{kind}-{code}",
        )
        for kind, code in ((8, None), (8, 0), (None, 3), (254, 254))
    ]
    + [pytest.param(Traffic(protocol="udp", networks=(ANYWHERE,), ports=(1, 65535)), id="udp")],
)
async def test_nft_knows_every_kind_of_traffic(stand: Stand, traffic: Traffic) -> None:
    namespace = await stand.network.attach(f"{id(traffic):08x}", "198.18.0.77")
    firewalls = stand.servers._firewalls
    firewalls.plan("any", Firewall(ingress=(traffic,), egress=(traffic,)))
    await firewalls.raise_in("any", namespace)

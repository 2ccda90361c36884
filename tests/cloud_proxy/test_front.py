"""Tunnels to the API, and everything else that may arrive on the cloud's port."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.v2 import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.cloud.proxy import front
from exotide.cloud.proxy.authority import Authority
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud

API = "api-at-vie-1.exoscale.com"


@pytest.fixture
def connect(
    cloud: RunningCloud, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    """Clients that know a zone and no address, as on the real cloud."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{cloud.access.port}")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{cloud.access.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_file))
    clients = []

    def make(zone: str) -> Any:
        clients.append(Client(cloud.access.key, cloud.access.secret, zone=zone))
        return clients[-1]

    yield make
    for client in clients:
        client.http_client.close()


def test_the_sdk_with_nothing_but_a_zone_makes_a_pool_in_that_zone(
    connect: Callable[[str], Any], cloud: RunningCloud
) -> None:
    vienna, frankfurt = connect("at-vie-1"), connect("de-fra-1")
    types = frankfurt.list_instance_types()["instance-types"]
    operation = frankfurt.create_instance_pool(
        name="web",
        size=2,
        instance_type={"id": next(kind["id"] for kind in types if kind["size"] == "micro")},
        template={"id": frankfurt.list_templates()["templates"][0]["id"]},
        disk_size=10,
        user_data="A" * 30_000,
    )
    frankfurt.wait(operation["id"])
    assert [pool["name"] for pool in frankfurt.list_instance_pools()["instance-pools"]] == ["web"]
    assert vienna.list_instance_pools()["instance-pools"] == []
    assert {pool.zone for pool in cloud.cloud.world.pools.values()} == {"de-fra-1"}


def test_zones_are_where_the_client_came_from(wire: Any, cloud: RunningCloud) -> None:
    with wire.tunnel() as tunnel:
        _, body = wire.get(tunnel, API)
    assert json.loads(body)["zones"][0]["api-endpoint"] == "https://api-at-vie-1.exoscale.com/v2"
    here = f"127.0.0.1:{cloud.access.port}"
    with wire.plain() as sock:
        _, body = wire.get(sock, here)
    assert json.loads(body)["zones"][0]["api-endpoint"] == f"http://{here}/z/at-vie-1/v2"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.exoscale.com", 200),
        ("api-ch-gva-2.exoscale.com", 200),
        ("API-CH-GVA-2.EXOSCALE.COM", 200),
        ("emul-de-muc-1.exoscale.com", 200),
        ("api-ch-gva-2.exoscale.com:443", 200),
        ("portal.exoscale.com", 404),
        ("api-us-nyc-1.exoscale.com", 404),
        ("at-vie-1.exoscale.com", 404),
        ("api-at-vie-1.example.com", 404),
    ],
)
def test_the_host_in_a_tunnel_names_the_zone(wire: Any, host: str, status: int) -> None:
    with wire.tunnel() as tunnel:
        answered, body = wire.get(tunnel, host)
    assert answered == status, body
    assert status == 200 or host in json.loads(body)["message"]


def test_a_kept_tunnel_answers_at_once_each_time(wire: Any) -> None:
    with wire.tunnel() as tunnel:
        began = time.monotonic()
        assert {wire.get(tunnel, API)[0] for _ in range(50)} == {200}
        assert time.monotonic() - began < 1.5, "40 ms each would be a delayed ACK"


@pytest.mark.parametrize(
    "place",
    [
        "example.com:443",
        "sos-at-vie-1.exo.io:443",
        "exoscale.com:443",
        "api-at-vie-1.exoscale.com:80",
        "api-at-vie-1.exoscale.com:8443",
        "a.b.exoscale.com:443",
        "api-at-vie-1.exoscale.com.evil.test:443",
        "evilexoscale.com:443",
        "127.0.0.1:22",
        "[::1]:443",
    ],
)
def test_every_other_place_is_refused_and_named(wire: Any, place: str) -> None:
    answer = wire.say(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
    line, _, rest = answer.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 403 ")
    assert place.encode() in line
    assert place.encode() in rest


@settings(max_examples=200, deadline=None)
@given(host=st.from_regex(r"[a-z0-9.:-]{1,40}", fullmatch=True))
def test_a_tunnel_opens_for_no_other_name(wire: Any, host: str) -> None:
    answer = wire.say(f"CONNECT {host} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_a_request_for_a_plain_http_proxy_is_refused(wire: Any) -> None:
    answer = wire.say(
        b"GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"no proxy for http://example.com/x" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"CONNECT  HTTP/1.1\r\n\r\n",
        b"CONNECT api.exoscale.com:443\r\n\r\n",
        b"CONNECT api.exoscale.com:443 HTTP/2\r\n\r\n",
        b"CONNECT a\x00b:443 HTTP/1.1\r\n\r\n",
        b"CONNECT " + b"a" * 300 + b":443 HTTP/1.1\r\n\r\n",
        b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n\x16\x03\x01too early",
        b"CONNECT api.exoscale.com:443 HTTP/1.1\r\nX: " + b"a" * 20_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_malformed_beginnings_end_with_an_answer(wire: Any, sent: bytes) -> None:
    assert wire.say(sent).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))


@settings(max_examples=200, deadline=None)
@given(
    garbage=st.binary(max_size=200),
    prefix=st.sampled_from([b"", b"CONNECT ", b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n"]),
)
def test_no_garbage_is_taken_for_a_request_or_stops_the_cloud(
    wire: Any, garbage: bytes, prefix: bytes
) -> None:
    with wire.plain() as sock:
        sock.sendall(prefix)
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        try:
            answer = wire.rest(sock)
        except ConnectionResetError:
            answer = b""
    assert b"HTTP/1.1 5" not in answer
    with wire.plain() as sock:
        assert wire.get(sock, "here")[0] == 200


def test_a_head_that_comes_byte_by_byte_is_read(wire: Any) -> None:
    with wire.plain() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"CONNECT example.com:443 HTTP/1.1\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert wire.rest(sock).startswith(b"HTTP/1.1 403 ")


def test_who_speaks_no_tls_or_trusts_another_authority_hurts_nobody_else(
    wire: Any, tmp_path: Path
) -> None:
    with wire.plain() as sock:
        sock.sendall(b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n")
        sock.recv(100)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wire.rest(sock)
    stranger = Authority.open(tmp_path / "ca", now=datetime.now(UTC)).file
    context = ssl.create_default_context(cafile=str(stranger))
    with pytest.raises(ssl.SSLCertVerificationError), wire.tunnel(context=context):
        pass
    with wire.plain() as sock:
        sock.sendall(b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n")
        sock.recv(100)
    with wire.tunnel() as tunnel:
        assert wire.get(tunnel, API)[0] == 200


def test_a_body_that_is_too_large_is_refused_in_a_tunnel_too(wire: Any) -> None:
    with wire.tunnel() as tunnel:
        tunnel.sendall(
            f"POST /v2/ssh-key HTTP/1.1\r\nHost: {API}\r\nContent-Length: {3 << 20}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        tunnel.sendall(b"x" * ((1 << 20) + 1))
        assert tunnel.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_who_leaves_in_the_middle_of_a_head_is_forgotten(wire: Any) -> None:
    with wire.plain() as sock:
        sock.sendall(b"CONNECT api.exo")
        sock.shutdown(socket.SHUT_WR)
        assert wire.rest(sock) == b""


def test_without_an_authority_no_tunnel_opens() -> None:
    with (
        running_cloud() as cloud,
        socket.create_connection(("127.0.0.1", cloud.access.port), timeout=5) as sock,
    ):
        sock.sendall(b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 403 this local cloud has no certificate")


def test_idle_and_half_open_connections_do_not_hold_up_the_end(tls: Tls) -> None:
    with running_cloud(tls=tls) as cloud:
        place = ("127.0.0.1", cloud.access.port)
        idle, half, shaking = (socket.create_connection(place, timeout=5) for _ in range(3))
        half.sendall(b"CONNECT api")
        shaking.sendall(b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n")
        assert shaking.recv(100).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    for sock in (idle, half, shaking):
        sock.close()


class _State:
    """The part of uvicorn's state that a front uses."""

    def __init__(self) -> None:
        self.connections: set[object] = set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent", [b"", b"CONNECT ", b"CONNECT api.exoscale.com:443 HTTP/1.1\r\n\r\n"]
)
async def test_who_goes_no_further_is_closed_after_a_while(tls: Tls, sent: bytes) -> None:
    """Waits 0.1 s of real time: the limits are attributes of the class."""
    limits = {"head_within_s": 0.1, "handshake_within_s": 0.1}
    hurried: Any = type("Hurried", (front.Front,), {"tls": tls} | limits)
    state, loop = _State(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: hurried(None, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await writer.wait_closed()
    assert state.connections == set()

"""The agents' client of the API, against servers that say whatever they like over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from exotide_autoscaler.client import LARGEST_ANSWER_BYTES, Client, authorization
from exotide_autoscaler.errors import (
    Busy,
    CloudError,
    CloudUnavailable,
    NonsenseAnswer,
    PoolNotFound,
    QuotaExceeded,
    Refused,
    Unauthorized,
)
from exotide_autoscaler.network import Lookups
from exotide_autoscaler.network import _exempt as exempt_from
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.proxy.tls import Tls

from .agent import free_port
from .wire import (
    Asked,
    Play,
    answer,
    cut,
    echo,
    for_ever,
    saying,
    silence,
    well,
    wired,
)

KEY, SECRET = "EXOtestkey000000000000000", "testsecret"
POOL = "/instance-pool/6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
WITHIN_S = 0.5
Work = Callable[[Client], Awaitable[Any]]


def run(
    endpoint: str, work: Work, *, timeout_s: float = WITHIN_S, environ: dict[str, str] | None = None
) -> Any:
    """Do something with a client in a loop of its own, as the agents have one."""

    async def whole() -> Any:
        asyncio.get_running_loop().set_default_executor(Lookups())
        client = Client(KEY, SECRET, endpoint=endpoint, timeout_s=timeout_s, environ=environ or {})
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(whole())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def get(client: Client) -> object:
    return await client.read("get-instance-pool", POOL)


async def scale(client: Client) -> object:
    return await client.change("scale-instance-pool", f"{POOL}:scale", {"size": 2})


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "signature"),
    [
        pytest.param(
            "GET",
            "/v2/instance-pool",
            {},
            b"",
            "CIB5qHzeLLNJQU3TcJefW21kk8HjNa0bvfYWKy9gWL8=",
            id="plain",
        ),
        pytest.param(
            "GET",
            "/v2/instance",
            {
                "manager-type": "instance-pool",
                "manager-id": "3b39f220-61a4-4224-89ca-9dfb54bc4874",
            },
            b"",
            "aRCV8+yuINJsA3y9lVgM6fUCpkGlem+LxK7mQeDYvS0=",
            id="two-arguments",
        ),
        pytest.param(
            "PUT",
            f"/v2{POOL}:scale",
            {},
            b'{"size":3}',
            "BhNsu6gKBhxavztaaTGNq41Hs9LmirCWRRWwpMz+Ik8=",
            id="body",
        ),
        pytest.param(
            "GET",
            "/z/at-vie-1/v2/instance",
            {"labels": "role=web app"},
            b"",
            "Vzz1UHc5EYMcIGGHnaBl7XNZY/ebubs+Q09svL/kaIM=",
            id="encoded-argument",
        ),
    ],
)
def test_requests_are_signed_as_the_api_wants_it(
    method: str, path: str, query: dict[str, str], body: bytes, signature: str
) -> None:
    header = authorization(method, path, query, body, key=KEY, secret=SECRET, expires=1_767_225_600)
    names = f"signed-query-args={';'.join(sorted(query))}," if query else ""
    assert header == (
        f"EXO2-HMAC-SHA256 credential={KEY},{names}expires=1767225600,signature={signature}"
    )


def test_calls_share_a_connection_and_read_each_its_own_answer() -> None:
    with wired(well({"n": 1}), well({"n": 2}), well({"n": 3})) as wire:

        async def three(client: Client) -> list[object]:
            return [await get(client), await scale(client), await get(client)]

        assert run(wire.endpoint, three) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert wire.connections == 1
    assert [head.split(b" HTTP")[0].decode() for head in wire.heads] == [
        f"GET /v2{POOL}",
        f"PUT /v2{POOL}:scale",
        f"GET /v2{POOL}",
    ]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MUCH = b" " * (LARGEST_ANSWER_BYTES + 1)
PACKED = "Content-Encoding: gzip\r\n"
HOSTILE: dict[str, tuple[Play, type[CloudError], str]] = {
    "a page": (saying(answer(b"<html>maintenance</html>")), NonsenseAnswer, "not JSON"),
    "nothing": (saying(answer(b"")), NonsenseAnswer, "not JSON"),
    "no content": (saying(b"HTTP/1.1 204 No\r\n\r\n"), NonsenseAnswer, "not JSON"),
    "no text": (saying(answer(b"\xff\xfe\x00")), NonsenseAnswer, "not JSON"),
    "half a document": (saying(answer(b'{"id": "6e')), NonsenseAnswer, "not JSON"),
    "deep": (saying(answer(b"[" * 200_000)), NonsenseAnswer, "not JSON"),
    "deep and closed": (
        saying(answer(b"[" * 100_000 + b"]" * 100_000)),
        NonsenseAnswer,
        "not JSON",
    ),
    "no number": (saying(answer(b'{"size": NaN}')), NonsenseAnswer, "not JSON"),
    "infinite": (saying(answer(b'{"size": -Infinity}')), NonsenseAnswer, "not JSON"),
    "a number of 5,000 digits": (
        saying(answer(b'{"size": ' + b"9" * 5000 + b"}")),
        NonsenseAnswer,
        "not JSON",
    ),
    "a crowd": (
        saying(answer(b"[" + b"[]," * 300_000 + b"[]]")),
        NonsenseAnswer,
        "not JSON",
    ),
    "huge": (saying(answer(TOO_MUCH)), NonsenseAnswer, "more than 8388608 bytes"),
    "endless": (
        for_ever(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
        NonsenseAnswer,
        "more than 8388608 bytes",
    ),
    "endless refusal": (
        for_ever(
            CHUNKED.replace(b"200 OK", b"400 Bad Request"), b"1000\r\n" + b" " * 4096 + b"\r\n"
        ),
        Refused,
        "400 Bad Request",
    ),
    "packed": (
        saying(answer(gzip.compress(b"{}"), headers=PACKED)),
        NonsenseAnswer,
        "packed: gzip",
    ),
    "packed, a bomb": (
        saying(answer(gzip.compress(TOO_MUCH * 10), headers=PACKED)),
        NonsenseAnswer,
        "packed: gzip",
    ),
    "elsewhere": (
        saying(answer(b"", status="302 Found", headers="Location: /v2/elsewhere\r\n")),
        NonsenseAnswer,
        "302 Found; expected 200",
    ),
    "another protocol": (
        saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        CloudUnavailable,
        "no connection",
    ),
    "soon, soon": (for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), CloudUnavailable, "0.5 s"),
    "one endless header": (
        for_ever(b"HTTP/1.1 200 OK\r\nA: ", b"a" * 65_536),
        CloudUnavailable,
        "",
    ),
    "endless headers": (
        for_ever(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000),
        CloudUnavailable,
        "",
    ),
    "headers, one by one": (
        for_ever(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.05),
        CloudUnavailable,
        "no whole answer within 0.5 s",
    ),
    "a trickle": (
        for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b" ", 0.05),
        CloudUnavailable,
        "no whole answer within 0.5 s",
    ),
    "silence": (silence, CloudUnavailable, "no whole answer within 0.5 s"),
    "silence in the middle": (
        for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"", 0.05),
        CloudUnavailable,
        "no whole answer within 0.5 s",
    ),
    "the end in the middle": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        CloudUnavailable,
        "no connection",
    ),
    "the end at once": (saying(b""), CloudUnavailable, "no connection"),
    "a reset": (cut, CloudUnavailable, "no connection"),
    "another server": (saying(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), CloudUnavailable, "no connection"),
    "a broken length": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
        CloudUnavailable,
        "no connection",
    ),
    "two lengths": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}"),
        CloudUnavailable,
        "no connection",
    ),
    "a broken chunk": (saying(CHUNKED + b"zz\r\n{}\r\n"), CloudUnavailable, "no connection"),
    "no such status": (saying(answer(b"", status="999 What")), CloudUnavailable, "999 What"),
    "a status of four digits": (
        saying(answer(b"", status="2000 What")),
        CloudUnavailable,
        "no connection",
    ),
    "an unknown refusal": (saying(answer(b"[7]", status="418 Teapot")), Refused, "418 Teapot"),
}


@pytest.mark.parametrize("call", [get, scale])
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_server_says_is_a_typed_error_on_one_line_in_good_time(
    name: str, call: Work
) -> None:
    play, kind, words = HOSTILE[name]
    with wired(play) as wire:
        began = time.monotonic()
        with pytest.raises(CloudError) as raised:
            run(wire.endpoint, call)
        assert time.monotonic() - began < 4 * WITHIN_S
    text = str(raised.value)
    assert type(raised.value) is kind
    assert text.startswith(f"{'get' if call is get else 'scale'}-instance-pool: ")
    assert words in text
    assert text.isprintable()
    assert len(text) < 400
    assert len(wire.heads) == 1 or (call is get and kind is CloudUnavailable)


STATUSES = {
    ("401 No", "unknown key"): Unauthorized,
    ("403 No", "Invalid request signature"): Unauthorized,
    ("403 No", "Quota exceeded"): QuotaExceeded,
    ("404 No", "Not Found"): PoolNotFound,
    ("400 No", "size"): Refused,
    ("400 No", "over your quota"): QuotaExceeded,
    ("408 No", "late"): CloudUnavailable,
    ("409 No", "Quota exceeded: instance"): QuotaExceeded,
    ("409 No", "the pool is scaling"): Busy,
    ("412 No", "quota exceeded: instance limit is 20"): QuotaExceeded,
    ("412 No", "min-available"): Refused,
    ("423 No", "locked"): Busy,
    ("429 No", "slow down; quota of requests"): CloudUnavailable,
    ("500 No", "quota service is down"): CloudUnavailable,
    ("503 No", "later"): CloudUnavailable,
}


@pytest.mark.parametrize(("status", "message"), STATUSES)
@pytest.mark.parametrize("field", ["message", "error", "detail", "title"])
def test_a_refusal_has_the_type_of_what_it_means_and_says_what_the_api_said(
    status: str, message: str, field: str
) -> None:
    with (
        wired(saying(answer({field: message}, status=status))) as wire,
        pytest.raises(CloudError) as raised,
    ):
        run(wire.endpoint, scale)
    assert type(raised.value) is STATUSES[status, message]
    assert f"scale-instance-pool: {status[:3]} {message}" in str(raised.value)
    assert raised.value.said == message


@given(st.text(), st.sampled_from(["400 No", "403 No", "409 No", "503 No"]))
def test_no_message_makes_an_error_longer_or_other_than_one_printable_line(
    message: str, status: str
) -> None:
    with (
        wired(saying(answer({"message": message * 50}, status=status))) as wire,
        pytest.raises(CloudError) as raised,
    ):
        run(wire.endpoint, get, timeout_s=5)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("status", ["400 No", "403 No", "404 No", "409 No", "500 No"])
def test_what_an_api_repeats_of_a_request_is_not_in_the_error(status: str) -> None:
    with wired(echo(status)) as wire, pytest.raises(CloudError) as raised:
        run(wire.endpoint, get)
    signature = wire.heads[0].partition(b"signature=")[2].split(b"\r\n")[0].decode()
    assert len(signature) == 44
    for secret in (KEY, SECRET, signature, signature[:20], "EXO2-HMAC"):
        assert secret not in f"{raised.value} {raised.value.said} {raised.value!r}"
    assert "***" in raised.value.said


def test_a_read_whose_resting_connection_was_cut_is_made_once_more_on_a_fresh_one() -> None:
    async def two(client: Client) -> list[object]:
        return [await get(client), await get(client)]

    with wired(well({"n": 1}), cut, well({"n": 2})) as wire:
        assert run(wire.endpoint, two) == [{"n": 1}, {"n": 2}]
    assert (wire.connections, len(wire.heads)) == (2, 3)


def test_a_read_whose_connections_are_always_cut_is_made_twice() -> None:
    with wired(cut) as wire, pytest.raises(CloudUnavailable, match="no connection"):
        run(wire.endpoint, get)
    assert len(wire.heads) == 2


def test_a_change_whose_resting_connection_was_cut_is_not_made_again() -> None:
    async def two(client: Client) -> None:
        await get(client)
        await scale(client)

    with (
        wired(well({}), cut, well({})) as wire,
        pytest.raises(CloudUnavailable, match="scale-instance-pool: no connection"),
    ):
        run(wire.endpoint, two)
    assert len(wire.heads) == 2


def test_a_connection_that_the_server_closed_while_it_rested_costs_nothing() -> None:
    async def later(client: Client) -> None:
        await get(client)
        await asyncio.sleep(0.1)
        await scale(client)

    with wired(saying(answer({})), well({})) as wire:
        run(wire.endpoint, later)
    assert (wire.connections, len(wire.heads)) == (2, 2)


def test_hints_before_the_answer_are_no_answer() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    with wired(saying(hint + answer({"n": 1}))) as wire:
        assert run(wire.endpoint, get) == {"n": 1}


def test_after_any_failure_the_next_call_works() -> None:
    async def all_of_them(client: Client) -> None:
        for play, _, _ in HOSTILE.values():
            wire.plays[:] = [play]
            with pytest.raises(CloudError):
                await scale(client)
            wire.plays[:] = [well({"n": 7})]
            assert await get(client) == {"n": 7}

    with wired(silence) as wire:
        run(wire.endpoint, all_of_them, timeout_s=0.3)


def test_a_call_that_is_cancelled_leaves_no_trace() -> None:
    async def cancel_often(client: Client) -> object:
        for _ in range(20):
            call = asyncio.create_task(get(client))
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        wire.plays[:] = [well({"n": 7})]
        return await get(client)

    with wired(silence) as wire:
        before = open_files()
        assert run(wire.endpoint, cancel_often) == {"n": 7}
    ends_at = time.monotonic() + 10
    while open_files() > before + 2:  # what the server still has; it notices a little later
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def test_a_call_that_waits_for_its_turn_has_no_more_time_than_others() -> None:
    async def both(client: Client) -> list[object]:
        return [*await asyncio.gather(get(client), get(client), return_exceptions=True)]

    with wired(silence) as wire:
        began = time.monotonic()
        errors = run(wire.endpoint, both)
        assert time.monotonic() - began < 2 * WITHIN_S
    assert [type(error) for error in errors] == [CloudUnavailable, CloudUnavailable]


def test_a_port_that_nobody_serves_is_told_with_its_cause() -> None:
    with pytest.raises(CloudUnavailable, match="no connection: ConnectionRefusedError"):
        run(f"http://127.0.0.1:{free_port()}/v2", get)


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "x" * 70 + ".invalid", "ex\u00e4mple.invalid"]
)
def test_a_name_that_is_none_is_told(host: str) -> None:
    with pytest.raises(CloudUnavailable, match="no connection"):
        run(f"http://{host}/v2", get, timeout_s=10)


class SilentNames(Lookups):
    """A name server that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def submit(self, *_work: Any, **_named: Any) -> Any:
        return super().submit(self.released.wait, 30)


def test_a_name_server_that_hangs_delays_neither_a_call_nor_the_end() -> None:
    names = SilentNames()

    async def call(client: Client) -> list[str]:
        asyncio.get_running_loop().set_default_executor(names)
        errors = []
        for _ in range(6):
            with pytest.raises(CloudUnavailable) as raised:
                await get(client)
            errors.append(str(raised.value))
        return errors

    began = time.monotonic()
    errors = run("http://api.invalid/v2", call, timeout_s=0.1)
    assert time.monotonic() - began < 2
    assert ["within" in error for error in errors] == [True] * 4 + [False] * 2
    assert "4 earlier look-ups of names still hang" in errors[-1]
    names.released.set()


def test_look_ups_that_hung_are_forgotten_when_they_end() -> None:
    names = SilentNames()
    hanging = [names.submit() for _ in range(4)]
    with pytest.raises(RuntimeError, match="still hang"):
        names.submit()
    names.released.set()
    assert [each.result(5) for each in hanging] == [True] * 4
    assert names.submit().result(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("authority") / "ca")


def trusting(authority: Tls, **more: str) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(authority.ca_file), **more}


def test_a_certificate_of_nobody_we_trust_is_no_connection(authority: Tls) -> None:
    with (
        wired(well({}), tls=authority.context()) as wire,
        pytest.raises(CloudUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.* issuer"),
    ):
        run(wire.endpoint, get, timeout_s=5)
    assert wire.heads == []


def test_a_certificate_for_another_name_is_no_connection(authority: Tls) -> None:
    with (
        wired(well({}), tls=authority.context()) as wire,
        pytest.raises(CloudUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.* not valid for"),
    ):
        run(wire.endpoint, get, timeout_s=5, environ=trusting(authority))
    assert wire.heads == []


def test_a_server_that_wants_tls_is_no_connection(authority: Tls) -> None:
    with (
        wired(well({}), tls=authority.context()) as wire,
        pytest.raises(CloudUnavailable, match="no connection"),
    ):
        run(wire.endpoint.replace("https:", "http:"), get, timeout_s=5)


def test_authorities_that_cannot_be_read_are_named_and_read_again_at_the_next_call(
    authority: Tls, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    environ = {"REQUESTS_CA_BUNDLE": str(bundle), **proxied(0)}

    async def twice(client: Client) -> None:
        with pytest.raises(CloudUnavailable, match=f"REQUESTS_CA_BUNDLE names no .*{bundle}"):
            await get(client)
        bundle.write_bytes(authority.ca_file.read_bytes())
        with pytest.raises(CloudUnavailable, match="no connection: ConnectionRefused"):
            await get(client)

    run(REAL, twice, environ=environ)


REAL = "https://api-at-vie-1.exoscale.com/v2"


def proxied(port: int) -> dict[str, str]:
    return {"HTTPS_PROXY": f"http://someone:pass%40word@127.0.0.1:{port}"}


def tunnel(authority: Tls, play: Play) -> Play:
    """A proxy that is the server, too, as the local cloud is."""

    def both(asked: Asked) -> None:
        asked.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with authority.context().wrap_socket(asked.sock, server_side=True) as channel:
            while channel.recv(65_536):
                play(Asked(head=b"", sock=channel, over=asked.over))

    return both


def test_a_proxy_is_asked_for_a_tunnel_with_its_own_credentials_and_nothing_of_the_request(
    authority: Tls,
) -> None:
    with wired(tunnel(authority, well({"n": 1}))) as wire:
        environ = trusting(authority, **proxied(wire.port))
        assert run(REAL, get, timeout_s=5, environ=environ) == {"n": 1}
    (head,) = wire.heads
    assert head.startswith(b"CONNECT api-at-vie-1.exoscale.com:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic c29tZW9uZTpwYXNzQHdvcmQ=" in head
    assert KEY.encode() not in head


PROXIES: dict[str, tuple[Play, str]] = {
    "forbids": (saying(answer(b"", status="403 Forbidden")), "the proxy answered 403$"),
    "wants to know who": (saying(answer(b"", status="407 Who")), "the proxy answered 407$"),
    "is silent": (silence, "no whole answer within 1 s"),
    "is no proxy": (saying(b"220 smtp\r\n\r\n"), "no connection"),
    "is silent in the tunnel": (
        for_ever(b"HTTP/1.1 200 Connection established\r\n\r\n", b"", 0.05),
        "no whole answer within 1 s",
    ),
    "has another server behind it": (
        saying(b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-OpenSSH\r\n"),
        "no connection",
    ),
}


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_that_does_not_help_is_told_and_hurts_no_later_call(
    authority: Tls, name: str
) -> None:
    play, words = PROXIES[name]

    async def often(client: Client) -> object:
        for _ in range(3):
            with pytest.raises(CloudUnavailable, match=words) as raised:
                await get(client)
            assert "pass" not in str(raised.value)
        wire.plays[:] = [tunnel(authority, well({"n": 1}))]
        return await get(client)

    with wired(play) as wire:
        environ = trusting(authority, **proxied(wire.port))
        assert run(REAL, often, timeout_s=1, environ=environ) == {"n": 1}


NOT_ASKED = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        pytest.param({}, True, id="none"),
        pytest.param({"HTTP_PROXY": NOT_ASKED}, False, id="upper"),
        pytest.param({"http_proxy": NOT_ASKED}, False, id="lower"),
        pytest.param({"http_proxy": "127.0.0.1:1"}, False, id="without-scheme"),
        pytest.param({"ALL_PROXY": NOT_ASKED}, False, id="all"),
        pytest.param({"HTTPS_PROXY": NOT_ASKED}, True, id="of-another-scheme"),
        pytest.param({"HTTP_PROXY": NOT_ASKED, "NO_PROXY": "*"}, True, id="exempt-all"),
        pytest.param({"HTTP_PROXY": NOT_ASKED, "no_proxy": "a, 127.0.0.1"}, True, id="exempt"),
        pytest.param({"HTTP_PROXY": NOT_ASKED, "NO_PROXY": "127.0.0.0/8"}, True, id="network"),
        pytest.param({"HTTP_PROXY": NOT_ASKED, "NO_PROXY": "10.0.0.0/8"}, False, id="another"),
        pytest.param({"HTTP_PROXY": NOT_ASKED, "NO_PROXY": "0.0.1,,x"}, False, id="no-part"),
        pytest.param({"HTTP_PROXY": "socks5://127.0.0.1:1"}, False, id="socks"),
    ],
)
def test_the_environment_says_which_proxy_is_asked(environ: dict[str, str], asked: bool) -> None:
    with wired(well({"n": 1})) as wire:
        if asked:
            assert run(wire.endpoint, get, environ=environ) == {"n": 1}
        else:
            with pytest.raises(CloudUnavailable, match=r"ConnectionRefused|must be an http or"):
                run(wire.endpoint, get, environ=environ)
    assert bool(wire.heads) is asked


@pytest.mark.parametrize(
    ("no_proxy", "exempt"),
    [
        ("exoscale.com", True),
        (".exoscale.com", True),
        ("API-at-vie-1.exoscale.com:443", False),
        ("api-at-vie-1.exoscale.com", True),
        ("scale.com", False),
        ("", False),
    ],
)
def test_a_domain_is_exempt_with_all_its_hosts(no_proxy: str, exempt: bool) -> None:
    assert exempt_from(urlsplit(REAL), no_proxy) is exempt


def test_a_plain_proxy_gets_the_whole_address() -> None:
    with wired(well({"n": 1})) as wire:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{wire.port}"}
        assert run("http://api.invalid/v2", get, environ=environ) == {"n": 1}
    assert wire.heads[0].startswith(f"GET http://api.invalid/v2{POOL} HTTP/1.1".encode())

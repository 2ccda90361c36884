"""A client that goes takes its work along."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import SlowApp, wait_until

Start = Callable[..., SlowApp]
Leave = Callable[[socket.socket], None]
PATHS = {"/load": "/load", "/work": "/work?cpu_s=60"}


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def end_sending(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


LEAVES: dict[str, Leave] = {
    "closed": socket.socket.close,
    "reset": reset,
    "half-closed": end_sending,
}


def ask(app: SlowApp, path: str, *, more: bytes = b"") -> socket.socket:
    """Ask for a minute's work, and wait until it is in hand."""
    before = app.in_flight(path)
    connection = app.connect()
    connection.sendall(f"GET {PATHS[path]} HTTP/1.1\r\n\r\n".encode() + more)
    wait_until(lambda: app.in_flight(path) > before)
    return connection


def burnt_s(app: SlowApp, during_s: float) -> float:
    before = app.cpu_s()
    time.sleep(during_s)  # idleness can only be seen by waiting
    return app.cpu_s() - before


def settled(app: SlowApp, path: str) -> None:
    """Nothing is in hand any more, and the CPU has come to rest."""
    wait_until(lambda: app.in_flight(path) == 0)
    time.sleep(0.3)  # the slice in hand, and the pause after it
    assert burnt_s(app, 0.5) < 0.1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
def test_the_work_of_a_client_that_left_is_dropped(start: Start, path: str, leave: Leave) -> None:
    app = start(LOAD_SECONDS="60")
    with ask(app, path) as connection:
        wait_until(lambda: app.cpu_s() > 0.3)
        leave(connection)
        settled(app, path)
    assert f'requests_total{{path="{path}",status="499"}} 1' in app.get("/metrics")[1]


def test_so_is_what_it_asked_for_behind_that(start: Start) -> None:
    app = start(LOAD_SECONDS="60")
    ask(app, "/load", more=b"GET /load HTTP/1.1\r\n\r\n" * 2000).close()
    settled(app, "/load")
    assert 'requests_total{path="/load",status="499"} 1' in app.get("/metrics")[1]


def test_those_who_stay_are_served(start: Start) -> None:
    app = start(LOAD_SECONDS="1.5")
    with ThreadPoolExecutor(2) as threads:
        stays = threads.submit(app.timed, "/load")
        works = threads.submit(app.timed, "/work?cpu_s=0.5")
        ask(app, "/load").close()
        ask(app, "/work").close()
        assert stays.result()[1] == "Load generation done."
        assert works.result()[1] == "Work done."


def test_hundreds_who_leave_at_once_leave_no_work(start: Start) -> None:
    app = start(LOAD_SECONDS="60")
    with ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(app.connect())
            connection.sendall(b"GET /load HTTP/1.1\r\n\r\n")
        wait_until(lambda: app.in_flight("/load") == 300)
    settled(app, "/load")
    assert app.timed("/work?cpu_s=0.01")[0] < 1


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    clients=st.lists(
        st.tuples(st.sampled_from(["/work?cpu_s=0.05", "/load", "/health"]), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_whoever_leaves_when_the_others_get_their_answers(
    short: SlowApp, clients: list[tuple[str, bool]]
) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(short.connect()) for _ in clients]
        for connection, (target, _) in zip(connections, clients, strict=True):
            request = f"GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
        for connection, (_, leaves) in zip(connections, clients, strict=True):
            if leaves:
                reset(connection)
        for connection, (_, leaves) in zip(connections, clients, strict=True):
            if not leaves:
                assert b" 200 OK" in connection.makefile("rb").read()
    wait_until(lambda: short.in_flight("/work") + short.in_flight("/load") == 0)


@pytest.fixture
def short(start: Start) -> SlowApp:
    return start(LOAD_SECONDS="0.2")

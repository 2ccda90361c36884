"""TERM, INT and KILL at any moment, whatever clients do then."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from .conftest import SlowApp, free_port, run_program, wait_until

Start = Callable[..., SlowApp]


def test_term_finishes_requests_in_flight_and_exits_0(app: SlowApp) -> None:
    with ThreadPoolExecutor(2) as threads:
        load = threads.submit(app.get, "/load")
        work = threads.submit(app.get, "/work?cpu_s=0.3")
        wait_until(lambda: app.in_flight("/load") + app.in_flight("/work") == 2)
        app.term()
        assert load.result() == (200, "Load generation done.")
        assert work.result() == (200, "Work done.")
    assert app.ended() == 0


def test_term_to_the_whole_group_finishes_requests_too(app: SlowApp) -> None:
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.get, "/load")
        wait_until(lambda: app.in_flight("/load") == 1)
        for pid in [*app.workers(), app.process.pid]:
            os.kill(pid, signal.SIGTERM)
        assert load.result() == (200, "Load generation done.")
    assert app.ended() == 0


def test_kept_and_silent_connections_do_not_delay_term(app: SlowApp) -> None:
    with app.connect() as kept, app.connect() as silent, app.connect() as half:
        kept.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert kept.recv(4096).endswith(b"OK")
        half.sendall(b"GET /heal")
        began = time.monotonic()
        app.term()
        assert app.ended() == 0
        assert time.monotonic() - began < 2
        assert silent.recv(10) == b""


def test_a_request_that_is_on_its_way_at_term_is_served(app: SlowApp) -> None:
    with app.connect() as client:
        client.sendall(b"GET /work?cpu_s=.01 HTTP/1.1\r\n")
        wait_until(lambda: app.get("/metrics")[0] == 200)  # what came before has been read
        app.term()
        client.sendall(b"\r\n")
        answer = client.makefile("rb").read()
    assert answer.endswith(b"Work done.")
    assert b"Connection: close" in answer
    assert app.ended() == 0


def refused(app: SlowApp) -> bool:
    try:
        app.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_serves_on_while_its_health_fails_and_then_takes_nothing_new(start: Start) -> None:
    app = start(DRAIN_SECONDS="1.5")
    began = time.monotonic()
    app.term()
    assert app.get("/health")[0] == 503
    assert app.get("/health", "HEAD") == (503, "")
    assert app.get("/work?cpu_s=0.01") == (200, "Work done.")
    with ThreadPoolExecutor(1) as threads:
        while time.monotonic() - began < 1.2:
            assert app.get("/health")[0] == 503
            time.sleep(0.05)
        last = threads.submit(app.get, "/load")
        wait_until(lambda: refused(app))
        assert time.monotonic() - began >= 1.5
        assert app.process.poll() is None
        assert last.result() == (200, "Load generation done.")
    assert app.ended() == 0


def test_without_a_word_about_it_nothing_new_is_taken_after_term(start: Start) -> None:
    app = start()
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.get, "/load")
        wait_until(lambda: app.in_flight("/load") == 1)
        app.term()
        wait_until(lambda: refused(app), timeout_s=0.5)
        assert load.result() == (200, "Load generation done.")
    assert app.ended() == 0


def test_a_kept_connection_is_served_and_asked_to_go_elsewhere(start: Start) -> None:
    app = start(DRAIN_SECONDS="1")
    with app.connect() as kept, app.connect() as silent:
        for client in (kept, silent):
            client.sendall(b"GET /work?cpu_s=.01 HTTP/1.1\r\n\r\n")
            assert b"keep-alive" in client.recv(4096)
        app.term()
        kept.sendall(b"GET /work?cpu_s=.01 HTTP/1.1\r\n\r\n")
        answer = kept.makefile("rb").read()
        assert answer.endswith(b"Work done.")
        assert b"Connection: close" in answer
        assert silent.recv(10) == b""
    assert app.ended() == 0


@pytest.mark.parametrize("file_limit", [None, 128], ids=["room", "no-files-left"])
def test_thousands_of_half_open_clients_do_not_hold_it_up(
    start: Start, file_limit: int | None
) -> None:
    app = start(file_limit=file_limit)
    with ExitStack() as stack:
        for number in range(3000 if file_limit is None else 600):
            stack.enter_context(app.connect()).sendall(b"GET /load"[: number % 10])
        began = time.monotonic()
        app.term()
        assert app.ended() == 0
        assert time.monotonic() - began < 6


def test_a_request_among_thousands_of_half_open_clients_is_finished(start: Start) -> None:
    app = start()
    with ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.get, "/load")
        wait_until(lambda: app.in_flight("/load") == 1)
        for _ in range(1000):
            stack.enter_context(app.connect())
        app.term()
        assert load.result() == (200, "Load generation done.")
        assert app.ended() == 0


def test_what_takes_too_long_is_cut(start: Start) -> None:
    app = start(LOAD_SECONDS="3600", FINISH_SECONDS="1")
    with app.connect() as load, app.connect() as work:
        load.sendall(b"GET /load HTTP/1.1\r\n\r\n")
        work.sendall(b"GET /work?cpu_s=60 HTTP/1.1\r\n\r\n")
        wait_until(lambda: app.in_flight("/work") + app.in_flight("/load") == 2)
        began = time.monotonic()
        app.term()
        assert app.ended() == 0
        assert 1 <= time.monotonic() - began < 3
        assert (load.recv(10), work.recv(10)) == (b"", b"")


def test_a_client_that_reads_nothing_does_not_hold_it_up(start: Start) -> None:
    app = start(FINISH_SECONDS="1")
    with app.connect() as client:
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(b"GET /metrics HTTP/1.1\r\n\r\n" * 1000)
        began = time.monotonic()
        app.term()
        assert app.ended() == 0
        assert time.monotonic() - began < 4


def test_a_worker_that_stands_still_does_not_hold_it_up(start: Start) -> None:
    app = start(LOAD_WORKERS="1", FINISH_SECONDS="1")
    with app.connect() as client:
        client.sendall(b"GET /work?cpu_s=60 HTTP/1.1\r\n\r\n")
        wait_until(lambda: len(app.workers()) == 1)
        (worker,) = app.workers()
        os.kill(worker, signal.SIGSTOP)
        app.term()
        assert app.ended(5) == 0
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_whoever_asks_twice_does_not_wait(start: Start, number: signal.Signals, code: int) -> None:
    app = start(LOAD_SECONDS="60", DRAIN_SECONDS="60")
    with app.connect() as client:
        client.sendall(b"GET /load HTTP/1.1\r\n\r\n")
        wait_until(lambda: len(app.workers()) > 0)
        workers = app.workers()
        app.term()
        time.sleep(0.6)  # twice at once is a habit of programs, not a wish of people
        app.process.send_signal(number)
        assert app.ended(2) == code
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_term_twice_at_once_is_term(app: SlowApp) -> None:
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.get, "/load")
        wait_until(lambda: app.in_flight("/load") == 1)
        app.term()
        app.process.send_signal(signal.SIGTERM)
        assert load.result() == (200, "Load generation done.")
    assert app.ended() == 0


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """A program that is started within hears the signal when it asks for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_term_during_the_start_is_heard() -> None:
    with held_back(signal.SIGTERM):
        process = run_program(LISTEN_PORT=str(free_port()))
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=10)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in text.splitlines()] == [
        "started",
        "stopping",
        "stopped",
    ]


@pytest.mark.parametrize("seed", range(10))
def test_term_at_any_moment_of_the_start_ends_it(seed: int) -> None:
    process = run_program(LISTEN_PORT=str(free_port()))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(random.Random(seed).uniform(0, 0.25))
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=10)
    assert process.returncode in {0, -signal.SIGTERM}
    assert "Traceback" not in text or process.returncode < 0

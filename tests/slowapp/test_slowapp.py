"""The slow application, seen from outside: through its port, its signals and its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import SlowApp, free_port, run_program, wait_until

Start = Callable[..., SlowApp]


def test_health_is_ok_and_nothing_else(app: SlowApp) -> None:
    assert app.get("/health") == (200, "OK")
    assert app.get("/health?cachebuster=1") == (200, "OK")


def test_load_burns_for_its_wall_time_and_says_so(app: SlowApp) -> None:
    cpu_before = app.cpu_s()
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.timed, "/load")
        wait_until(lambda: len(app.workers()) == len(os.sched_getaffinity(0)))
        wants = [state == "R" for state in states_until(app, load.done)]
    took_s, text = load.result()
    assert text == "Load generation done."
    assert 1.0 <= took_s < 1.5
    assert app.cpu_s() > cpu_before
    assert sum(wants) > 0.9 * len(wants) > 9  # what they get, other tests decide, too


def states_until(app: SlowApp, ended: Callable[[], bool]) -> Iterator[str]:
    """What the kernel says of each worker, again and again."""
    while not ended():
        for pid in app.workers():
            yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        time.sleep(0.02)


def test_many_loads_at_once_each_take_their_own_time_only(app: SlowApp) -> None:
    with ThreadPoolExecutor(30) as threads:
        results = list(threads.map(app.timed, ["/load"] * 30))
    assert {text for _, text in results} == {"Load generation done."}
    assert all(1.0 <= took_s < 2.0 for took_s, _ in results)


def test_health_answers_within_a_second_under_load(app: SlowApp) -> None:
    with ThreadPoolExecutor(40) as threads:
        loads = [threads.submit(app.get, "/load") for _ in range(20)]
        works = [threads.submit(app.get, "/work?cpu_s=0.05") for _ in range(20)]
        wait_until(lambda: app.in_flight("/load") == 20)
        while not all(load.done() for load in loads):
            took_s, text = app.timed("/health")
            assert (took_s < 1, text) == (True, "OK")
        assert {work.result()[0] for work in works} == {200}


def test_work_costs_the_cpu_time_that_was_asked_for(app: SlowApp) -> None:
    app.get("/work?cpu_s=0.001")  # starts the workers
    before = app.cpu_s()
    took_s, text = app.timed("/work?cpu_s=0.5")
    assert text == "Work done."
    assert took_s >= 0.5
    assert 0.45 <= app.cpu_s() - before <= 0.65


@pytest.mark.parametrize("cores", [1, None], ids=["one-core", "all-cores"])
def test_load_burns_every_core_that_it_may_use(start: Start, cores: int | None) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:cores])
    try:
        app = start()
        assert app.timed("/load")[1] == "Load generation done."
        assert len(app.workers()) == len(allowed[:cores])
    finally:
        os.sched_setaffinity(0, allowed)


def test_more_workers_than_cores_change_no_load(start: Start) -> None:
    app = start(LOAD_WORKERS="16")
    took_s, text = app.timed("/load")
    assert text == "Load generation done."
    assert 1.0 <= took_s < 1.6


def test_too_little_cpu_shows_as_latency(start: Start) -> None:
    app = start(LOAD_WORKERS="1")
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(app.timed, ["/work?cpu_s=0.2"] * 4))
    assert max(took_s for took_s, _ in results) >= 0.8


def test_a_small_request_is_not_behind_a_big_one(start: Start) -> None:
    app = start(LOAD_WORKERS="1")
    with ThreadPoolExecutor(1) as threads:
        big = threads.submit(app.timed, "/work?cpu_s=1.5")
        wait_until(lambda: app.in_flight("/work") == 1)
        app.get("/work?cpu_s=0.02")
        assert not big.done()
        assert big.result()[1] == "Work done."


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        pytest.param("/", 404, "/health", id="root"),
        pytest.param("/health/", 404, "/health", id="slash"),
        pytest.param("//[", 404, "/health", id="no-url"),
        pytest.param("/work", 400, "cpu_s", id="no-number"),
        pytest.param("/work?cpu_s=", 400, "cpu_s", id="empty"),
        pytest.param("/work?cpu_s=0", 400, "cpu_s", id="zero"),
        pytest.param("/work?cpu_s=-1", 400, "cpu_s", id="negative"),
        pytest.param("/work?cpu_s=61", 400, "cpu_s", id="too-much"),
        pytest.param("/work?cpu_s=nan", 400, "cpu_s", id="nan"),
        pytest.param("/work?cpu_s=inf", 400, "cpu_s", id="infinite"),
        pytest.param("/work?cpu_s=1e999", 400, "cpu_s", id="overflow"),
        pytest.param("/work?cpu_s=1_0", 400, "cpu_s", id="underscore"),
        pytest.param("/work?cpu_s=0.1&cpu_s=0.1", 400, "cpu_s", id="twice"),
        pytest.param("/work?cpu_s=.01", 200, "Work done.", id="short-number"),
        pytest.param("/work?cpu_s=1e-2", 200, "Work done.", id="exponent"),
        pytest.param("http://any.example/health", 200, "OK", id="whole-url"),
    ],
)
def test_a_wrong_request_is_told_what_is_right(
    app: SlowApp, target: str, status: int, words: str
) -> None:
    answered, text = app.get(target)
    assert answered == status
    assert words in text


def test_other_methods_are_refused_and_head_has_no_body(app: SlowApp) -> None:
    assert app.get("/health", "POST")[0] == 405
    assert app.get("/health", "HEAD") == (200, "")
    assert app.get("/load", "HEAD") == (200, "")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="nonsense"),
        pytest.param(b"GET /health HTTP/2.0\r\n\r\n", 400, id="version"),
        pytest.param(b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400, id="field"),
        pytest.param(b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, id="length"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\xff\r\n\r\n", 400, id="tls"),
        pytest.param(
            b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            411,
            id="chunked",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000,
            413,
            id="10MB",
        ),
        pytest.param(b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 431, id="long-target"),
    ],
)
def test_an_odd_request_is_refused_and_harms_nobody(app: SlowApp, sent: bytes, status: int) -> None:
    try:
        answer = app.talk(sent)
    except ConnectionError:
        answer = b""  # the application stopped reading what it had already refused
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or len(sent) > 100_000
    assert app.get("/health") == (200, "OK")


def test_a_connection_is_kept_and_requests_may_queue_on_it(app: SlowApp) -> None:
    last = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
    body = b"GET /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    answer = app.talk(b"GET /health HTTP/1.1\r\n\r\n" * 3 + body + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert answer.count(b"Connection: keep-alive") == 4


def test_http_1_0_ends_the_connection_unless_it_asks_to_keep_it(app: SlowApp) -> None:
    assert b"Connection: close" in app.talk(b"GET /health HTTP/1.0\r\n\r\n")
    kept = app.talk(b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
    assert b"Connection: keep-alive" in kept


def test_hundreds_of_silent_clients_do_not_keep_others_away(app: SlowApp) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(app.connect()).sendall(b"GET /hea")
        assert app.get("/health") == (200, "OK")


def test_when_files_run_out_the_longest_silent_client_makes_room(start: Start) -> None:
    app = start(file_limit=128)
    with ExitStack() as stack:
        clients = [stack.enter_context(app.connect()) for _ in range(200)]
        assert app.get("/health") == (200, "OK")
        assert clients[0].recv(10) == b""


def test_a_thousand_clients_at_once_all_get_an_answer(app: SlowApp) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(app.connect()) for _ in range(1000)]
        for client in clients:
            client.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = [client.makefile("rb").read() for client in clients]
    assert all(answer.endswith(b"\r\n\r\nOK") for answer in answers)


def test_metrics_tell_requests_in_flight_served_and_seconds(app: SlowApp) -> None:
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(app.get, "/load")
        wait_until(lambda: app.in_flight("/load") == 1)
        load.result()
    app.get("/nothing")
    _, text = app.get("/metrics")
    assert 'exotide_slowapp_requests_in_flight{path="/load"} 0' in text
    assert 'exotide_slowapp_requests_total{path="/load",status="200"} 1' in text
    assert 'exotide_slowapp_requests_total{path="other",status="404"} 1' in text
    assert 'exotide_slowapp_request_seconds_count{path="/load"} 1' in text
    assert 'exotide_slowapp_request_seconds_sum{path="/load"} 1.0' in text


def test_a_worker_that_is_killed_is_replaced_and_its_request_answered(start: Start) -> None:
    app = start(LOAD_WORKERS="1")
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(app.get, "/work?cpu_s=0.5")
        wait_until(lambda: len(app.workers()) == 1)
        os.kill(app.workers()[0], signal.SIGKILL)
        assert work.result() == (200, "Work done.")


def test_an_application_that_did_nothing_yet_has_no_workers_and_uses_no_cpu(app: SlowApp) -> None:
    app.get("/health")
    before = app.cpu_s()
    time.sleep(0.5)  # idleness can only be seen by waiting
    assert app.cpu_s() - before <= 0.01
    assert app.workers() == []


def test_killed_it_leaves_no_worker_behind(app: SlowApp) -> None:
    app.get("/work?cpu_s=0.01")
    workers = app.workers()
    assert workers
    app.process.kill()
    app.ended()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_all_wrong_settings_are_named_at_once() -> None:
    process = run_program(
        LISTEN_PORT="80.5", LOAD_SECONDS="soon", LOAD_WORKERS="0", DRAIN_SECONDS="-1"
    )
    _, text = process.communicate(timeout=10)
    assert process.returncode == 2
    assert text.splitlines()[0] == "error: 4 settings are wrong"
    for name in ("LISTEN_PORT", "LOAD_SECONDS", "LOAD_WORKERS", "DRAIN_SECONDS"):
        assert name in text


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        process = run_program(LISTEN_PORT=str(port))
        _, text = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"port {port}" in text


def test_the_log_is_one_json_object_per_line(app: SlowApp) -> None:
    app.process.send_signal(signal.SIGTERM)
    _, text = app.process.communicate(timeout=10)
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["stopping", "stopped"]

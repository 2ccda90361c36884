"""What the SDK lacks: time-outs, retried reads, errors that say what to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from exotide.stack import Patience, StackSettings
from exotide.stack.api import Api, connect
from exotide.stack.errors import (
    AccessDenied,
    CloudUnavailable,
    Interrupted,
    NotFound,
    OperationFailed,
    Refused,
    StackError,
    TookTooLong,
)

PENDING = {"id": "op", "state": "pending", "reference": {"id": "pool"}}
DONE = {**PENDING, "state": "success"}


@dataclass
class Script:
    """Answers in order; the last one is repeated."""

    answers: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def say(self, *answers: object, status: int = 200) -> None:
        self.answers = [
            item if isinstance(item, tuple) else (status, json.dumps(item)) for item in answers
        ]

    def next(self, line: str) -> tuple[int, str]:
        self.asked.append(line)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = script.next(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(script: Script) -> Iterator[Api]:
    settings = StackSettings(key="EXOkey", secret="hidden", endpoint=script.url)
    with connect(settings, Patience(first_s=0.01, longest_s=0.05, limit_s=0.5)) as api:
        yield api


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, AccessDenied, "check EXOSCALE_KEY and EXOSCALE_SECRET"),
        (404, NotFound, "found nothing"),
        (409, Refused, "409"),
        (400, Refused, "400"),
        (500, CloudUnavailable, "500"),
        (429, CloudUnavailable, "429"),
    ],
)
def test_each_status_has_its_error_with_operation_and_message(
    script: Script, api: Api, status: int, error: type[StackError], says: str
) -> None:
    script.say({"message": "the cloud's words"}, status=status)
    with pytest.raises(error, match=says) as caught:
        api.call("create_security_group", name="x")
    assert "the cloud's words" in str(caught.value)
    assert "create security group at http://127.0.0.1" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_an_answer_that_is_not_json_is_a_fault_of_the_cloud(script: Script, api: Api) -> None:
    script.say((200, "<html>"))
    with pytest.raises(CloudUnavailable):
        api.call("list_instance_pools")


def test_a_message_that_is_not_json_is_shown_as_it_came(script: Script, api: Api) -> None:
    script.say((400, "plain words"))
    with pytest.raises(Refused, match="plain words"):
        api.call("list_instance_pools")


def test_no_server_at_all_says_which_endpoint_to_check(script: Script) -> None:
    settings = StackSettings(key="EXOkey", secret="hidden", endpoint="http://127.0.0.1:1/v2")
    with pytest.raises(CloudUnavailable, match=r"http://127\.0\.0\.1:1/v2 .*check the endpoint"):
        connect(settings).call("create_security_group", name="x")


def test_a_read_is_tried_again_after_a_fault(script: Script, api: Api) -> None:
    script.say((503, ""), {"instance-pools": []})
    assert api.call("list_instance_pools") == {"instance-pools": []}


def test_a_change_is_never_sent_twice(script: Script, api: Api) -> None:
    script.say((503, ""), DONE)
    with pytest.raises(CloudUnavailable):
        api.call("create_security_group", name="x")
    assert len(script.asked) == 1


def test_a_change_that_succeeds_at_once_is_not_polled(script: Script, api: Api) -> None:
    script.say(DONE)
    api.change("scale_instance_pool", id="pool", size=2)
    assert script.asked == ["PUT /v2/instance-pool/pool:scale"]


def test_a_change_is_polled_until_it_ends(script: Script, api: Api) -> None:
    script.say(PENDING, PENDING, PENDING, DONE)
    api.change("scale_instance_pool", id="pool", size=2)
    assert script.asked[1:] == ["GET /v2/operation/op"] * 3


def test_a_failed_operation_tells_reason_and_message(script: Script, api: Api) -> None:
    script.say({**PENDING, "state": "failure", "reason": "busy", "message": "no room"})
    with pytest.raises(OperationFailed, match=r"failure, busy\): no room"):
        api.change("scale_instance_pool", id="pool", size=2)


def test_a_failed_operation_without_a_reason_is_still_told(script: Script, api: Api) -> None:
    script.say({**PENDING, "state": "timeout"})
    with pytest.raises(OperationFailed, match="timeout, unknown"):
        api.change("scale_instance_pool", id="pool", size=2)


def test_an_endless_operation_is_given_up(script: Script, api: Api) -> None:
    script.say(PENDING)
    with pytest.raises(TookTooLong, match=r"within 0\.5 s, last seen: .*pending"):
        api.change("scale_instance_pool", id="pool", size=2)


def test_a_caller_that_wants_to_stop_is_obeyed_within_a_poll(script: Script, api: Api) -> None:
    script.say(PENDING)
    threading.Timer(0.1, api.patience.stop.set).start()
    started_at = time.monotonic()
    with pytest.raises(Interrupted):
        api.change("scale_instance_pool", id="pool", size=2)
    assert time.monotonic() - started_at < 0.4


def test_nothing_more_is_sent_after_a_stop(script: Script, api: Api) -> None:
    script.say(DONE)
    api.patience.stop.set()
    with pytest.raises(Interrupted):
        api.change("scale_instance_pool", id="pool", size=2)
    assert script.asked == []

"""What the bootstrap of the monitoring server decides by itself, without a server."""

from __future__ import annotations

import base64
import binascii
import gzip
import http.client
import http.server
import importlib.util
import json
import re
import subprocess
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .keys import end_agent, new_key

FILE = Path(__file__).parents[2] / "terraform/userdata/monitoring/bootstrap.py"
POOL_URL = "https://api-at-vie-1.exoscale.com/v2/instance-pool"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap: Any = load()


class Mirror:
    """Fails so often, then works; remembers the pauses that were made meanwhile."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0
        self.pauses_s: list[float] = []
        self.told: list[str] = []

    def attempt(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise bootstrap.Failed(f"no answer {self.calls}")


def test_the_signature_is_that_of_the_published_vector() -> None:
    header = bootstrap.authorization(
        POOL_URL, "EXOtestkey000000000000000", "testsecret", 1_767_225_600
    )
    assert header == (
        "EXO2-HMAC-SHA256 credential=EXOtestkey000000000000000,expires=1767225600,"
        "signature=CIB5qHzeLLNJQU3TcJefW21kk8HjNa0bvfYWKy9gWL8="
    )


@given(failures=st.integers(0, 40), longest_s=st.sampled_from([60, 600]))
def test_what_depends_on_others_is_tried_until_it_works_with_growing_pauses(
    failures: int, longest_s: int
) -> None:
    mirror = Mirror(failures)
    bootstrap.again(
        "apt",
        mirror.attempt,
        pauses_s=bootstrap.growing_s(longest_s),
        pause=mirror.pauses_s.append,
        tell=mirror.told.append,
    )
    assert mirror.calls == failures + 1
    pauses_s = [min(2**number, longest_s) for number in range(1, failures + 1)]
    assert mirror.pauses_s == pauses_s
    assert mirror.told == [
        f"apt: no answer {number}; again in {pause_s} s"
        for number, pause_s in enumerate(pauses_s, 1)
    ]


def test_a_service_that_never_answers_is_given_up_with_its_last_words() -> None:
    mirror = Mirror(100)
    with pytest.raises(bootstrap.Failed, match="no answer 10"):
        bootstrap.again(
            "Prometheus",
            mirror.attempt,
            pauses_s=bootstrap.SOON_S,
            pause=mirror.pauses_s.append,
            tell=mirror.told.append,
        )
    assert sum(mirror.pauses_s) == 65


@pytest.mark.parametrize(
    "error",
    [
        http.client.IncompleteRead(b"half"),
        json.JSONDecodeError("Expecting value", "<html>", 0),
        binascii.Error("Incorrect padding"),
        gzip.BadGzipFile("CRC check failed"),
        EOFError("Compressed file ended"),
        KeyError("user-data"),
        subprocess.TimeoutExpired("apt-get", 1800),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_sent_instead_of_an_answer_is_tried_again_and_told_by_its_kind(
    error: Exception,
) -> None:
    left, told = [error], list[str]()

    def attempt() -> None:
        if left:
            raise left.pop()

    bootstrap.again("unpack", attempt, pauses_s=[0], pause=lambda _: None, tell=told.append)
    assert told == [f"unpack: {type(error).__name__}: {error}; again in 0 s"]


LOCKED = """W: something
E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7
E: Unable to lock directory /var/lib/apt/lists/
"""
FULL = """Unpacking prometheus ...
dpkg: error processing archive x.deb (--unpack):
 failed to write (No space left on device)
Errors were encountered
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "no output"),
        ("Reading...\nnothing to do\n", "nothing to do"),
        (LOCKED, "E: Could not get lock .* process 7 E: Unable to lock directory /var/lib/.*"),
        (FULL, r"dpkg: .* x\.deb \(--unpack\): failed to write \(No space left on device\)"),
    ],
)
def test_of_all_that_apt_says_the_page_shows_why_it_failed(output: str, why: str) -> None:
    assert re.fullmatch(why, bootstrap.told_by(output))


PART = base64.b64encode(b"#cloud-config\n#exotide-bundle:QUJD\n").decode()
AGENTS = {
    agent: {"key": f"EXO{agent}", "secret": "s"} for agent in ("servicediscovery", "autoscaler")
}


class PoolApi:
    """The one call that the bootstrap makes, for keys that may or may not make it."""

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.asked: list[str] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = self.headers["Authorization"].partition("credential=")[2].partition(",")[0]
                api.asked.append(key)
                status, text = answers[key]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def second_part(self) -> str:
        port = self.server.server_address[1]
        settings = {"endpoint": f"http://127.0.0.1:{port}/v2", "pool_id": "b1", **AGENTS}
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            return str(bootstrap.second_part(settings))
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


FORBIDDEN = (403, '{"message": "Forbidden by role policy for compute"}')
SHOWN = (200, json.dumps({"user-data": PART}))


@pytest.mark.parametrize("refusal", [FORBIDDEN, (401, "who?")])
def test_the_second_part_is_read_with_whichever_key_is_allowed_to(refusal: tuple[int, str]) -> None:
    api = PoolApi({"EXOservicediscovery": refusal, "EXOautoscaler": SHOWN})
    assert api.second_part() == "QUJD"
    assert api.asked == ["EXOservicediscovery", "EXOautoscaler"]


def test_if_no_key_may_read_the_pool_the_missing_right_and_the_way_out_are_told() -> None:
    api = PoolApi({"EXOservicediscovery": FORBIDDEN, "EXOautoscaler": FORBIDDEN})
    with pytest.raises(
        bootstrap.Failed, match=r"right get-instance-pool: .*Forbidden by role"
    ) as told:
        api.second_part()
    assert "agents_one_pool = false" in str(told.value)


def test_an_api_that_has_a_fault_is_not_called_a_missing_right() -> None:
    api = PoolApi({"EXOservicediscovery": (503, "busy"), "EXOautoscaler": SHOWN})
    with pytest.raises(bootstrap.Failed, match="the API answered 503: busy"):
        api.second_part()


@pytest.mark.parametrize("packed", [True, False])
def test_the_second_part_is_found_in_the_pool_s_user_data(*, packed: bool) -> None:
    text = b"#cloud-config\n#exotide-bundle:QUJD\nwrite_files: []\n"
    shown = base64.b64encode(gzip.compress(text) if packed else text).decode()
    assert bootstrap.part_in(shown) == "QUJD"


def test_user_data_without_a_bundle_says_what_to_do() -> None:
    with pytest.raises(bootstrap.Failed, match="apply the stack again"):
        bootstrap.part_in(base64.b64encode(b"#cloud-config\n").decode())


def test_prices_become_a_series_and_unknown_ones_do_not() -> None:
    rules = json.loads(bootstrap.price_rules({"base": 0.05, "member": 0.01}))
    (group,) = rules["groups"]
    assert group["rules"] == [
        {
            "record": "exotide:stack:eur_per_hour",
            "expr": "0.05 + 0.01 * exotide_autoscaler_pool_size",
        }
    ]
    assert bootstrap.price_rules(None) == "groups: []\n"


def test_the_page_shows_what_is_done_and_what_failed_and_no_markup_of_others() -> None:
    state = {
        "steps": ["unpack the bundle", "install packages", "check the services"],
        "done": ["unpack the bundle"],
        "now": "install packages",
        "error": "mirror said <b>no</b>",
    }
    shown = bootstrap.page(state)
    assert "<li>[done] unpack the bundle</li>" in shown
    assert "<li>[now] install packages - FAILED: mirror said &lt;b&gt;no&lt;/b&gt;</li>" in shown
    assert "<li>[to do] check the services</li>" in shown
    assert bootstrap.page({}).startswith("<!doctype html>")


def test_a_file_is_replaced_whole_and_never_has_wider_rights(tmp_path: Path) -> None:
    file = tmp_path / "folder/secret"
    bootstrap.write(file, "one", mode=0o600)
    bootstrap.write(file, "two", mode=0o600)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("two", 0o600)
    assert [path.name for path in file.parent.iterdir()] == ["secret"]


def test_a_repository_s_key_is_trusted_by_its_fingerprint_and_no_other_beside_it(
    tmp_path: Path,
) -> None:
    good, fingerprint = new_key(tmp_path, "good@example.invalid")
    other, other_print = new_key(tmp_path, "other@example.invalid")
    end_agent(tmp_path)
    for offered in ([other, good], [other + good], ["<html>not found</html>", good]):
        taken = bootstrap.trusted_key(offered, fingerprint)
        shown = subprocess.run(
            ("gpg", "--show-keys", "--with-colons"),
            check=True,
            capture_output=True,
            text=True,
            input=taken,
        )
        assert fingerprint in shown.stdout
        assert other_print not in shown.stdout
    for nothing in ([other], ["no key at all"], ["", other]):
        with pytest.raises(bootstrap.Failed, match=f"is {fingerprint}; do not trust it"):
            bootstrap.trusted_key(nothing, fingerprint)

"""The agent against an API that works, fails, lies and hangs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable

import pytest

from .api import POOL_ID, Fault, instance
from .conftest import SECRET, Bench

DEEP = b"[" * 100_000

FAULTS = [
    pytest.param(Fault(status=500, body=b"oops"), "CloudUnavailable", "500", id="500"),
    pytest.param(Fault(status=503, body=b"{}"), "CloudUnavailable", "503", id="503"),
    pytest.param(
        Fault(status=429, body=b'{"message": "slow down"}'),
        "CloudUnavailable",
        "slow down",
        id="429",
    ),
    pytest.param(
        Fault(status=403, body=b'{"message": "Invalid request signature"}'),
        "Unauthorized",
        "403 Invalid request signature; check EXOSCALE_KEY",
        id="403",
    ),
    pytest.param(Fault(status=401), "Unauthorized", "EXOSCALE_SECRET", id="401"),
    pytest.param(Fault(status=404), "PoolNotFound", "check EXOSCALE_INSTANCEPOOL_ID", id="404"),
    pytest.param(Fault(status=400), "Refused", "400", id="400"),
    pytest.param(
        Fault(status=302, headers={"Location": "/v2/elsewhere"}),
        "NonsenseAnswer",
        "302 Found",
        id="redirect",
    ),
    pytest.param(Fault(body=b'{"id": "6e1a'), "NonsenseAnswer", "not JSON", id="broken-json"),
    pytest.param(Fault(body=b"<html>"), "NonsenseAnswer", "not JSON", id="html"),
    pytest.param(Fault(body=DEEP), "NonsenseAnswer", "not JSON", id="deep-json"),
    pytest.param(Fault(body=b"\xff\xfe\x00"), "NonsenseAnswer", "not JSON", id="no-text"),
    pytest.param(Fault(status=204, body=b""), "NonsenseAnswer", "not JSON", id="no-content"),
    pytest.param(Fault(body=b"[]"), "NonsenseAnswer", "expected an object", id="list"),
    pytest.param(Fault(body=b"{}"), "NonsenseAnswer", "a text as id", id="no-keys"),
    pytest.param(
        Fault(body=b"{", headers={"Content-Length": "9999"}, drop=False),
        "CloudUnavailable",
        "",
        id="half-answer",
    ),
    pytest.param(Fault(drop=True), "CloudUnavailable", "no connection", id="dropped"),
    pytest.param(Fault(hang=True), "CloudUnavailable", "within 2 s", id="half-open"),
    pytest.param(
        Fault(body=b"x" * 999, pause_s=0.1), "CloudUnavailable", "within 2 s", id="dripping"
    ),
]


def test_the_first_pass_writes_the_members(bench: Bench) -> None:
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert bench.groups()[0]["labels"]["pool"] == "web"
    assert bench.mode() == 0o644
    assert bench.metric("targets") == bench.metric("fresh") == 1
    assert abs(bench.metric("last_success_timestamp_seconds") - time.time()) < 5


def test_a_pass_costs_two_requests_however_big_the_pool(bench: Bench) -> None:
    bench.api.scale(10)
    bench.refresh()
    assert len(bench.targets()) == 10
    assert len(bench.api.requests) == 2
    assert f"manager-id={POOL_ID}&manager-type=instance-pool" in bench.api.requests[1]


def test_the_file_follows_the_pool_and_is_written_only_when_it_changes(bench: Bench) -> None:
    for size in (1, 3, 3, 2):
        bench.api.scale(size)
        bench.refresh()
        assert len(bench.targets()) == size
    assert bench.metric("writes_total") == 3
    assert bench.last_log()["targets"] == 2


@pytest.mark.parametrize("explicit", [True, False])
def test_a_pool_that_is_empty_for_real_gives_an_empty_list(bench: Bench, explicit: bool) -> None:
    bench.refresh()
    bench.api.scale(0)
    if explicit:
        bench.api.pool["instances"] = []
    bench.refresh()
    assert bench.groups() == []
    assert bench.metric("targets") == 0


def test_members_without_an_address_or_on_their_way_out_are_left_out(bench: Bench) -> None:
    bench.api.members = [
        instance(1),
        instance(2, **{"public-ip": None}),
        instance(3, state="destroying"),
        instance(4, state="starting"),
    ]
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100", "198.51.100.4:9100"]
    assert bench.metric("skipped_instances") == 2


def test_an_instance_of_somebody_else_is_no_target(bench: Bench) -> None:
    bench.api.answers["/v2/instance".removeprefix("/v2")] = {
        "instances": [instance(1), instance(99, name="monitoring")]
    }
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]


def test_a_list_that_lacks_a_member_is_asked_for_once_more(bench: Bench) -> None:
    bench.api.scale(2)
    bench.api.unlisted, bench.api.lists_late = {bench.api.members[1]["id"]}, 1
    bench.refresh()
    assert len(bench.targets()) == 2
    assert len(bench.api.requests) == 4


def test_a_list_that_shows_no_member_at_all_is_an_error_and_empties_no_file(bench: Bench) -> None:
    bench.refresh()
    bench.api.unlisted = {bench.api.members[0]["id"]}
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert bench.last_log()["error"] == (
        "NonsenseAnswer: list-instances: shows none of the pool's 1 members"
    )


def test_a_member_that_vanishes_between_the_calls_is_left_out(bench: Bench) -> None:
    gone = {"id": "00000000-0000-4000-8000-00000000dead"}
    refs = [{"id": bench.api.members[0]["id"]}, gone]
    bench.api.pool |= {"size": 2, "instances": refs}
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]


@pytest.mark.parametrize(("fault", "kind", "words"), FAULTS)
def test_a_fault_keeps_the_last_good_file_and_says_so(
    bench: Bench, fault: Fault, kind: str, words: str
) -> None:
    bench.api.scale(2)
    bench.refresh()
    before = bench.file.stat()
    bench.api.scale(0)
    bench.api.fault = fault
    began = time.monotonic()
    bench.refresh()
    assert time.monotonic() - began < 4
    assert bench.file.stat() == before
    assert bench.metric("errors_total", error=kind) == 1
    assert bench.metric("fresh") == 0
    assert bench.metric("targets") == 2
    line = bench.last_log()
    assert (line["event"], line["failures"]) == ("refresh_failed", 1)
    assert line["error"].startswith(f"{kind}: ")
    assert words in line["error"]
    assert "get-instance-pool" in line["error"] or "within" in line["error"]
    assert SECRET not in bench.stream.getvalue()


def test_it_recovers_by_itself_after_many_failures(bench: Bench) -> None:
    bench.refresh()
    bench.api.fault = Fault(status=500)
    for _ in range(20):
        bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    bench.api.fault = None
    bench.api.scale(2)
    bench.refresh()
    assert len(bench.targets()) == 2
    assert bench.last_log()["after_failures"] == 20
    assert bench.metric("fresh") == 1


def test_a_pool_that_vanished_is_an_error_and_not_an_empty_list(bench: Bench) -> None:
    bench.refresh()
    bench.api.pool["id"] = "gone"
    bench.api.answers = {}
    bench.api.fault = Fault(status=404, body=b'{"message": "Not Found"}')
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert bench.last_log()["level"] == "error"


def test_an_outage_before_the_first_success_leaves_the_file_of_the_last_run(bench: Bench) -> None:
    bench.file.parent.mkdir()
    bench.file.write_text("[]")
    bench.api.fault = Fault(status=500)
    bench.refresh()
    assert bench.file.read_text() == "[]"


def test_an_api_that_is_down_is_a_fault_like_any_other(bench: Bench) -> None:
    bench.refresh()
    bench.api.fault = Fault(drop=True)  # for the connection that is kept
    bench.api.close()
    bench.refresh()
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert "Refused" in bench.last_log()["error"]


def test_calls_that_hang_for_ever_leave_nothing_behind(bench: Bench) -> None:
    bench.agent.deadline_s = 0.1
    bench.api.fault = Fault(hang=True)
    threads = threading.active_count()
    for _ in range(9):
        bench.refresh()
    assert threading.active_count() - threads <= 9  # the fake API's, which holds its connections
    bench.api.fault = None
    bench.api.release.set()
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]


def test_a_folder_that_cannot_be_written_is_tried_again(bench: Bench) -> None:
    bench.file.parent.write_text("in the way")
    bench.refresh()
    assert bench.metric("errors_total", error="TargetsNotWritten") == 1
    assert "config.json cannot be written" in bench.last_log()["error"]
    bench.file.parent.unlink()
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]


def test_a_file_that_was_deleted_comes_back(bench: Bench) -> None:
    bench.refresh()
    shutil.rmtree(bench.file.parent)
    bench.refresh()
    assert bench.file.exists()


def test_it_refreshes_until_it_is_stopped(bench: Bench) -> None:
    with bench.running():
        wait_until(lambda: bench.metric("pass_seconds_count") >= 3)


def test_a_call_that_hangs_does_not_delay_the_end(bench: Bench) -> None:
    bench.agent.deadline_s = 30
    bench.api.fault = Fault(hang=True)
    with bench.running():
        wait_until(lambda: bench.api.requests)


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

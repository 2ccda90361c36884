"""The agent against an API that works, fails, lies and hangs."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from exotide_servicediscovery.agent import pause_s
from exotide_servicediscovery.answers import read_instances
from exotide_servicediscovery.logs import make_log
from exotide_servicediscovery.pools import ExoscalePools, Pools
from exotide_servicediscovery.targets import Pool, render
from hypothesis import given
from hypothesis import strategies as st

from .api import POOL_ID, Fault, instance
from .conftest import SECRET, Bench

DEEP = b"[" * 100_000
HUGE = b" " * (8 * 1024 * 1024 + 1)

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
    pytest.param(Fault(body=HUGE), "NonsenseAnswer", "more than 8388608 bytes", id="huge"),
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


@pytest.mark.parametrize(
    ("state", "is_target"),
    [
        *((state, True) for state in ("running", "starting", "stopping", "stopped", "migrating")),
        *((state, False) for state in ("destroying", "destroyed", "expunging", "error")),
    ],
)
def test_a_member_is_a_target_unless_its_state_says_that_it_will_never_answer(
    bench: Bench, state: str, is_target: bool
) -> None:
    bench.api.members = [instance(1), instance(2, state=state)]
    bench.refresh()
    assert ("198.51.100.2:9100" in bench.targets()) is is_target
    assert "198.51.100.1:9100" in bench.targets()
    assert bench.metric("skipped_instances") == (not is_target)
    assert bench.metric("fresh") == 1


def test_members_without_an_address_are_left_out_and_counted(bench: Bench) -> None:
    bench.api.members = [instance(1), instance(2, **{"public-ip": None})]
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert (bench.metric("skipped_instances"), bench.metric("unusable_addresses")) == (1, 0)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.77.3.4", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255"),
        *("240.0.0.1", "169.254.1.1", "::1", "::", "fe80::1", "fe80::1%eth0", "ff02::1"),
        *("::ffff:127.0.0.1", "198.51.100.7:9100", "198.51.100.7 ", "198.51.100.7\n", "1.2.3"),
        *("01.2.3.4", "300.1.1.1", "host.example", "[2001:db8::1]", "2001:db8::1]:80", "\ud800"),
        *(7, True, ["198.51.100.7"], {"ip": "198.51.100.7"}, 3325256711),
    ],
)
def test_an_address_that_no_member_can_have_is_left_out_and_named_and_the_rest_goes_on(
    bench: Bench, address: object
) -> None:
    strange = instance(2, **{"public-ip": address})
    bench.api.members = [instance(1), strange, instance(3)]
    for _ in range(2):
        bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100", "198.51.100.3:9100"]
    assert (bench.metric("skipped_instances"), bench.metric("unusable_addresses")) == (1, 1)
    (told,) = bench.logged("members_left_out")
    assert told["members"][strange["id"]].startswith("no member can have its address, ")
    assert bench.metric("fresh") == 1


@given(st.text() | st.ip_addresses().map(str))
def test_whatever_the_api_calls_an_address_targets_are_hosts_with_our_port(address: str) -> None:
    member = instance(1, **{"public-ip": address})
    found = read_instances({"instances": [member]}, pool_id=POOL_ID, local=False)
    pool = Pool(id=POOL_ID, name="web", instances=tuple(found.values()))
    groups = json.loads(render(pool, zone="at-vie-1", port=9100))
    for group in groups:
        host, _, port = group["targets"][0].rpartition(":")
        assert port == "9100"
        assert not ip_address(host.strip("[]")).is_loopback
    assert len(groups) + len(pool.left_out) == 1


def test_where_the_api_itself_is_at_a_loopback_address_members_may_be(bench: Bench) -> None:
    bench.api.members = [instance(1, **{"public-ip": "127.77.3.4"})]
    bench.agent.pools = replace_local(bench, local=True)
    bench.refresh()
    assert bench.targets() == ["127.77.3.4:9100"]


def replace_local(bench: Bench, *, local: bool) -> ExoscalePools:
    pools = bench.agent.pools
    assert isinstance(pools, ExoscalePools)
    return ExoscalePools(pools._client, pool_id=POOL_ID, local=local)


@pytest.mark.parametrize("size", [4, 100])
def test_members_that_were_asked_for_and_never_came_are_no_targets_and_no_error(
    bench: Bench, size: int
) -> None:
    bench.api.scale(3)
    bench.api.pool["size"] = size
    for _ in range(3):
        bench.refresh()
    assert len(bench.targets()) == 3
    assert (bench.metric("fresh"), bench.metric("skipped_instances")) == (1, 0)
    assert len(bench.api.requests) == 6


def test_more_members_than_were_asked_for_are_targets_as_long_as_they_are_there(
    bench: Bench,
) -> None:
    bench.api.scale(3)
    bench.api.pool["size"] = 1
    bench.refresh()
    assert len(bench.targets()) == 3


def test_a_pool_whose_members_are_all_gone_has_no_targets(bench: Bench) -> None:
    bench.refresh()
    bench.api.answers["/instance"] = {"instances": [instance(1, state="destroying")]}
    bench.api.pool |= {"size": 1, "instances": []}
    bench.refresh()
    assert bench.groups() == []
    assert bench.metric("fresh") == 1


def test_a_pool_that_shows_no_member_while_the_list_does_empties_no_file(bench: Bench) -> None:
    bench.refresh()
    bench.api.pool |= {"size": 1, "instances": []}
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert bench.last_log()["error"] == (
        "NonsenseAnswer: get-instance-pool: shows none of the pool's 1 members"
    )


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
    bench.agent.deadline_s = 10
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


class Broken:
    """Pools that fail in ways that nobody thought of, and then work."""

    def __init__(self, error: BaseException, then: Pools) -> None:
        self.error: BaseException | None = error
        self.then = then

    async def get(self) -> Pool:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return await self.then.get()


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("bug"), MemoryError(), RecursionError("deep"), OSError(5, "I/O"), EOFError()),
        *(KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()),
        *(
            BaseExceptionGroup("many", [KeyboardInterrupt()]),
            UnicodeEncodeError("a", "b", 0, 1, ""),
        ),
    ],
    ids=repr,
)
def test_no_exception_of_any_kind_ends_it(bench: Bench, error: BaseException) -> None:
    bench.agent.pools = Broken(error, bench.agent.pools)
    bench.refresh()
    line = bench.last_log()
    assert (line["event"], line["level"]) == ("refresh_failed", "error")
    assert type(error).__name__ in line["error"]
    assert bench.metric("errors_total", error="Unexpected") == 1
    bench.refresh()
    assert bench.targets() == ["198.51.100.1:9100"]
    assert bench.metric("fresh") == 1


def test_a_log_that_nobody_takes_costs_lines_and_no_pass(bench: Bench) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    bench.agent.log = make_log(Full())
    for size in (1, 2):
        bench.api.scale(size)
        bench.refresh()
        assert len(bench.targets()) == size


def test_a_pass_that_failed_is_tried_again_soon(bench: Bench) -> None:
    bench.agent.settings = replace(bench.agent.settings, refresh_s=60)
    bench.api.fault = Fault(status=500)
    began = time.monotonic()
    with bench.running():
        wait_until(lambda: bench.metric("errors_total", error="CloudUnavailable") >= 2)
        bench.api.fault = None
        wait_until(lambda: bench.metric("fresh"))
    assert 2 < time.monotonic() - began < 8  # real time: 1 s and 2 s are what is tested


@given(st.integers(1, 10_000), st.floats(0.1, 3600))
def test_pauses_after_failures_grow_from_a_second_to_the_refresh(
    failures: int, refresh_s: float
) -> None:
    pauses = [pause_s(count, refresh_s=refresh_s) for count in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[0] == min(1.0, refresh_s)
    assert pause_s(failures, refresh_s=refresh_s) <= pauses[-1] == refresh_s
    assert pause_s(0, refresh_s=refresh_s) == refresh_s


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

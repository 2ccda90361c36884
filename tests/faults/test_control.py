"""The control API over its socket, and the commands that use it."""

from __future__ import annotations

import dataclasses
import json
import socket
import stat
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud import control
from exotide.cloud.api.errors import Invalid
from exotide.cloud.control_client import ControlClient, ControlFailed
from exotide.cloud.control_command import Kind, Wanted, fault
from exotide.cloud.directory import Entry
from exotide.cloud.drivers import Character
from exotide.cloud.faults.engine import Armed
from exotide.cloud.faults.model import Effect, Selector, Timing
from exotide.cloud.faults.reading import KINDS, read_fault, show_fault

from .conftest import Run, Site


def test_only_the_owner_may_open_the_socket(folder: Path) -> None:
    mode = (folder / "abc123" / control.SOCKET).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_fault_is_added_listed_met_and_removed(site: Site, run: Run) -> None:
    words = "fault add latency --operation list-z* --delay-s 0 --count 5 --for-s 60 --seed 7"
    code, out, _ = run(*words.split())
    assert code == 0
    assert out.startswith("f1 latency: active, struck 0 of 0; delay_s=0 operation=list-z* seed=7")
    site.ask("GET", "/zone")
    _, out, _ = run("fault", "list", "--json")
    (shown,) = json.loads(out)["faults"]
    assert (shown["kind"], shown["seen"], shown["struck"], shown["seed"]) == ("latency", 1, 1, 7)
    assert run("fault", "remove", "f1")[1] == "fault f1 is removed; it held 0\n"
    assert run("fault", "list")[1] == "there is no fault\n"


def test_a_seed_that_was_not_given_is_shown_so_that_the_run_can_be_repeated(run: Run) -> None:
    _, out, _ = run("fault", "add", "drop", "--json")
    assert json.loads(out)["seed"] >= 0


def test_held_operations_are_shown_and_released(site: Site, run: Run) -> None:
    pool = site.pool(1)
    run("fault", "add", "stuck-operation", "--pool", "web")
    started = site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 2})
    site.wait(lambda: "holds 1" in run("fault", "list")[1])
    assert run("fault", "release", "f1")[1] == "fault f1 held 1\n"
    site.cloud.settle()
    assert site.operation(started)["state"] == "success"
    assert run("fault", "clear")[1] == "1 faults are removed\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("latency", "delay_s: a latency needs this: seconds from 0 to 86400, as 2,"),
        ("latency --delay-s 2x", "delay_s: expected seconds from 0 to 86400, as 2, uniform"),
        ("latency --delay-s uniform:5:1", "delay_s: expected LEAST not above MOST"),
        ("latency --delay-s -1", "delay_s: expected seconds from 0 to 86400"),
        ("drop --probability 2", "probability: expected a number above 0 and at most 1, got: 2"),
        ("drop --operation scal-*", "operation: expected the name of an operation, such as"),
        ("drop --zone mars-1", "zone: expected one of "),
        ("drop --status 503", "status: a drop has no such field; it has moment, failing_reads"),
        ("drop --moment never", "moment: expected one of before, after, middle, got: 'never'"),
        ("server-error --status 404", "status: expected a whole number from 500 to 599, got: 404"),
        ("boot-failure --operation list-*", "operation: a boot-failure has no such field"),
        ("quota --resource tea", "resource: expected one of instance, "),
        ("failing-operation --reason bored", "reason: expected one of busy, conflict,"),
        ("refusal --status 503", "status: expected a whole number from 400 to 499, got: 503"),
        ("protection --status 200", "status: expected a whole number from 400 to 499, got: 200"),
        ("lag", "behind_s: a lag needs this: seconds from 0 to 600"),
        ("lag --behind-s 601", "behind_s: expected a number of at least 0 and at most 600"),
        ("wrong-field", "field: a wrong-field needs this: the name of a field of answers"),
        ("foreign-change --change sell", "change: expected one of grow, shrink, evict, delete,"),
        ("shortfall --comes -1", "comes: expected a whole number from 0 to 1000, got: -1"),
        ("staggered", "delay_s: a staggered needs this: seconds from 0 to 86400"),
        ("boot-failure --release-after-s 0", "release_after_s: expected a number above 0"),
    ],
)
def test_a_wrong_fault_is_refused_by_field_and_value_with_the_next_step(
    run: Run, words: str, said: str
) -> None:
    code, out, err = run("fault", "add", *words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.endswith("; see: exotide cloud fault add --help\n")


def test_unknown_faults_and_servers_are_named_with_those_that_there_are(
    site: Site, run: Run
) -> None:
    assert "fault f7 not found; there is: none" in run("fault", "remove", "f7")[2]
    site.pool(1)
    (server,) = site.servers.running.values()
    code, _, err = run("kill", "nobody")
    assert code == 2
    assert f"server nobody not found; give the id or name of one: {server.name}" in err


def test_a_server_is_killed_hung_and_resumed_by_name_or_id(site: Site, run: Run) -> None:
    site.pool(1)
    (server,) = site.servers.running.values()
    assert run("hang", server.name)[1] == f"server {server.name} ({server.id}) stands still\n"
    assert site.servers.frozen == {server.id}
    assert run("resume", server.id)[0] == 0
    assert site.servers.frozen == set()
    assert run("kill", server.id)[0] == 0
    site.cloud.settle()
    assert len(site.servers.running) == 1
    assert server.id not in site.servers.running


def test_a_server_that_does_not_run_cannot_be_broken(site: Site, run: Run) -> None:
    started = site.ask("POST", "/instance", site.order() | {"auto-start": False})
    assert "no such server" in run("kill", started["reference"]["id"])[2]


def test_the_pace_changes_and_is_shown(site: Site, run: Run) -> None:
    assert "speed: 4\n" in run("pace", "--speed", "4", "--operation-delay-s", "0.01")[1]
    assert site.cloud.cloud.world.operations.delay_s == 0.01
    assert "speed: 4\n" in run("pace")[1]
    assert "speed: expected a number above 0" in run("pace", "--speed", "0")[2]


def test_a_reset_cloud_is_empty_and_goes_on_whatever_was_under_way(site: Site, run: Run) -> None:
    pool = site.pool(2)
    site.ask("POST", "/load-balancer", {"name": "lb"})
    site.cloud.settle()
    run("fault", "add", "stuck-operation")
    run("fault", "add", "boot-failure")
    site.ask("PUT", f"/instance-pool/{pool}:scale", {"size": 3})
    assert run("reset")[1] == "the cloud is empty; 3 servers are gone\n"
    for path, name in [("instance-pool", "instance-pools"), ("load-balancer", "load-balancers")]:
        assert site.ask("GET", f"/{path}")[name] == []
    assert site.ask("GET", "/instance")["instances"] == []
    assert site.servers.running == {}
    assert site.servers.reserved == frozenset()
    assert run("fault", "list")[1] == "there is no fault\n"
    site.pool(1)
    assert len(site.servers.running) == 1


def test_status_counts_what_there_is(site: Site, folder: Path) -> None:
    site.pool(2)
    said = client(site, folder).ask("GET", "/status")
    assert (said["pools"], said["instances"], said["faults"]) == (1, 2, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
def test_nonsense_is_refused_as_such(folder: Path, body: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(folder / "abc123" / control.SOCKET))
        head = f"POST /faults HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body)
        assert wire.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_a_cloud_whose_socket_cannot_be_opened_says_who_may(site: Site, folder: Path) -> None:
    (folder / "abc123" / control.SOCKET).unlink()
    with pytest.raises(ControlFailed, match="only the user who started it may do so"):
        client(site, folder).ask("GET", "/status")


def client(site: Site, folder: Path) -> ControlClient:
    entry = Entry(
        cloud_id="abc123",
        pid=1,
        access=site.cloud.access,
        fabric_ip="",
        character=Character(servers="none"),
    )
    return ControlClient(entry, run_dir=folder)


def test_every_kind_of_fault_can_be_asked_for_and_says_what_it_is() -> None:
    assert list(get_args(Kind)) == list(KINDS) == [each.kind for each in get_args(Effect)]
    for kind, effect in KINDS.items():
        assert f"- {kind}: {(effect.__doc__ or '').strip().rstrip('.')}" in str(fault.help_epilogue)


def test_every_field_of_every_fault_has_its_option() -> None:
    options = {each.name for each in dataclasses.fields(Wanted)}
    for part in (*KINDS.values(), Selector, Timing):
        assert {each.name for each in dataclasses.fields(part)} <= options


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(
            [
                *("delay_s", "status", "probability", "count", "pool", "seed", "for_s", "limit"),
                *("form", "behind_s", "field", "value", "of", "comes", "state", "stays", "fresh"),
            ]
        ),
        json_values | st.sampled_from(["uniform:1:2", "lognormal:1:1", "2", 503, 0.5, 1]),
        max_size=3,
    ),
)
def test_whatever_is_asked_for_is_refused_by_name_or_read_back_as_the_same_fault(
    kind: str, values: dict[str, object]
) -> None:
    try:
        fault = read_fault({"kind": kind, **values}, fresh_seed=lambda: 3)
    except Invalid as error:
        refused = str(error).partition(":")[0]
    else:
        refused = ""
        shown = show_fault(Armed(id="f1", fault=fault, added_s=0.0), age_s=0.0, holds=0)
        json.dumps(shown, allow_nan=False)
        unasked = {"id", "state", "seen", "struck", "holds"}
        if kind == "quota":
            unasked |= {"probability", "after", "seed"}
        again = {name: value for name, value in shown.items() if name not in unasked}
        assert read_fault(again, fresh_seed=lambda: 3) == fault
    assert refused in {"", "delay_s", "behind_s", "field", *values}

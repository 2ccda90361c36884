"""The command: what it refuses to begin with, what it leaves behind when it is stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exotide.check.errors import CannotRun
from exotide.check.session import Order, run
from exotide.cloud.testing import RunningCloud
from exotide.stack import StackSettings
from exotide.stack.api import Api
from exotide.stack.create import build
from exotide.stack.model import silent
from tests.keys import key_for, limited_key

from .conftest import EXOTIDE
from .world import FakeScreen


def told(environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [EXOTIDE, "check", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def pool(api: Api) -> str:
    """A pool, and nothing else of a stack."""
    types = api.call("list_instance_types")["instance-types"]
    (template, *_) = api.call("list_templates", visibility="public")["templates"]
    api.change(
        "create_instance_pool",
        name="web",
        size=1,
        instance_type={"id": next(each["id"] for each in types if each["size"] == "micro")},
        template={"id": template["id"]},
        disk_size=10,
    )
    return "web"


def test_a_wrong_key_is_refused_before_anything_happens(environment: dict[str, str]) -> None:
    code, out, err = told({**environment, "EXOSCALE_API_SECRET": "guess"}, "1", "--yes")
    assert code == 2
    assert out.startswith("a local cloud, zone at-vie-1: http://127.0.0.1:"), "the first line"
    assert "error: the API key is refused" in err
    assert "guess" not in out + err


def test_without_a_terminal_one_must_decide(environment: dict[str, str]) -> None:
    code, _, err = told(environment)
    assert code == 2
    assert "allow it with --yes, or leave it out with --look-only" in err


def test_a_file_that_cannot_be_written_is_refused_before_anything_happens(
    environment: dict[str, str],
) -> None:
    code, _, err = told(environment, "--yes", "--json", "/no/such/folder/file")
    assert code == 2
    assert "/no/such/folder/file" in err


def test_an_empty_account_fails_with_the_next_step_in_table_and_json(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code, out, err = told(environment, "1", "--look-only", "--json", "-")
    assert code == 1
    checks = {each["id"]: each for each in json.loads(out)["checks"]}
    assert checks["pool-one"]["status"] == "failed"
    assert checks["backends-healthy"]["status"] == "skipped"
    assert "zone at-vie-1 has no instance pool: terraform apply, or another --zone" in err
    file = tmp_path / "checks.json"
    code, out, err = told(environment, "1", "--look-only", "--json", str(file))
    assert (code, err) == (1, "")
    assert "FAILED" in out
    assert json.loads(file.read_text())["passed"] is False


def order(**more: Any) -> Order:
    return Order(parts=(1,), **more)


def test_who_says_no_has_nothing_done(
    environment: dict[str, str], cloud: RunningCloud, settings: StackSettings, api: Api
) -> None:
    stack = build(api, settings, progress=silent)
    before = api.call("get_instance_pool", id=stack.pool_id)["instances"]
    screen = FakeScreen()
    with pytest.raises(CannotRun, match="nothing was done"):
        run(order(), environment, screen, confirm=lambda: False)
    assert any("deletes all members" in line for line in screen.said)
    assert api.call("get_instance_pool", id=stack.pool_id)["instances"] == before


def test_on_a_terminal_it_asks_and_takes_only_yes_for_yes(
    environment: dict[str, str], pool: str, api: Api
) -> None:
    ours, theirs = pty.openpty()
    words, terminal = [EXOTIDE, "check", "1"], {**environment, "TERM": "xterm", "NO_COLOR": "1"}
    asks = subprocess.Popen(words, env=terminal, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        shown = until(ours, b"[y/N]")
        os.write(ours, b"n\n")
        shown += until(ours, b"leaves out what changes the stack")
        assert asks.wait(30) == 2
    finally:
        asks.kill()
        asks.wait()
        os.close(ours)
        os.close(theirs)
    assert b"deletes all members of the pool" in shown
    assert b"error: nothing was done" in shown


def until(terminal: int, words: bytes) -> bytes:
    shown = b""
    while words not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 4096)
    return shown


def test_yes_and_look_only_exclude_each_other(environment: dict[str, str]) -> None:
    with pytest.raises(CannotRun, match="exclude each other"):
        run(order(yes=True, look_only=True), environment, FakeScreen(), confirm=None)


def test_an_endpoint_without_an_answer_is_named(environment: dict[str, str]) -> None:
    nowhere = {**environment, "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:9/v2"}
    with pytest.raises(CannotRun, match=r"does not answer: Connection refused\. This shell is set"):
        run(order(yes=True), nowhere, FakeScreen(), confirm=None)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "checks.json"


@pytest.fixture
def checking(
    environment: dict[str, str], pool: str, results: Path
) -> Iterator[subprocess.Popen[str]]:
    """Part 3 without a stack around the pool: all that can be checked is the autoscaler."""
    process = subprocess.Popen(
        [EXOTIDE, "check", "3", "--yes", "--json", str(results)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_stopped_removes_its_pool_ends_its_program_and_shows_what_it_has(
    checking: subprocess.Popen[str], results: Path, api: Api, number: signal.Signals, code: int
) -> None:
    """In real time, until the real autoscaler has doubled the checks' own pool."""
    end_s = time.monotonic() + 60
    while not (own := [each for each in pools(api) if each["size"] == 2]):
        assert time.monotonic() < end_s
        assert checking.poll() is None, checking.communicate()
        time.sleep(0.1)
    assert own[0]["name"].startswith("exotide-check-")
    (agent,) = children(checking.pid)
    checking.send_signal(number)
    out, _ = checking.communicate(timeout=60)
    assert checking.returncode == code
    assert "stopped: ending what runs, and removing what was made" in out
    assert re.search(r"^passed +1 .*There is exactly one instance pool", out, re.MULTILINE)
    assert "not made: stopped before its end" in out
    assert "stopped before all were made, and cleaned up" in out
    known = {each["id"]: each["status"] for each in json.loads(results.read_text())["checks"]}
    assert (known["pool-one"], known["autoscaler-ends"]) == ("passed", "skipped")
    assert [each["name"] for each in pools(api)] == ["web"]
    assert not Path(f"/proc/{agent}").exists()


def judged(environment: dict[str, str], api: Api, *words: str, without: str) -> tuple[int, str]:
    """Check with a key that lacks one right."""
    code, out, err = told({**environment, **limited_key(api.client, without=without)}, *words)
    return code, out + err


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        pytest.param(("1", "--yes"), "delete-instance", id="deletes-members"),
        pytest.param(("3", "--yes"), "create-instance-pool", id="makes-a-pool"),
        pytest.param(("3", "--yes"), "evict-instance-pool-members", id="the-autoscaler-s"),
        pytest.param(("all", "--look-only"), "list-load-balancers", id="cannot-look"),
    ],
)
def test_a_key_without_a_right_that_is_needed_is_refused_before_anything_happens(
    environment: dict[str, str], pool: str, api: Api, words: tuple[str, ...], operation: str
) -> None:
    code, said = judged(environment, api, *words, without=operation)
    assert code == 2
    assert f"  compute: refused {operation}\n" in said
    assert "nothing was done" in said
    assert [each["name"] for each in pools(api)] == [pool]


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        pytest.param(("all", "--look-only"), "delete-instance", id="looks-only"),
        pytest.param(("1", "--yes"), "create-instance-pool", id="another-part"),
    ],
)
def test_a_right_that_is_not_needed_is_not_asked_for(
    environment: dict[str, str], pool: str, api: Api, words: tuple[str, ...], operation: str
) -> None:
    code, said = judged(environment, api, *words, without=operation)
    assert code == 1, "the stack is not whole"
    assert "rights: nothing refused in compute, tried by calls without effect" in said


def test_a_key_for_compute_alone_is_enough(
    environment: dict[str, str], pool: str, api: Api
) -> None:
    key = key_for(api.client, {"compute": {"type": "allow"}})
    code, out, err = told({**environment, **key}, "1", "--look-only")
    assert code == 1, "the stack is not whole"
    assert err == ""
    assert "rights: nothing refused in compute" in out


def pools(api: Api) -> list[dict[str, Any]]:
    return list(api.call("list_instance_pools")["instance-pools"])


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]

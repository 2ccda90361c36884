"""What the files beside the configuration tell: the state, its lock, and our own journal."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from exotide.up import state
from exotide.up.course import Phase
from exotide.up.errors import Busy, CannotRun
from exotide.up.journal import Journal, Place, Process, held
from exotide.up.program import _past_local_cloud
from exotide.up.state import Known, State

SECRET = "hush-hush"
RAW = {
    "version": 4,
    "resources": [
        {"mode": "data", "type": "exoscale_template", "instances": [{"attributes": {"id": "t"}}]},
        {
            "module": "module.pool",
            "mode": "managed",
            "type": "exoscale_instance_pool",
            "instances": [{"attributes": {"id": "p", "name": "web", "size": 2}}],
        },
        {
            "mode": "managed",
            "type": "exoscale_iam_api_key",
            "instances": [{"attributes": {"id": "x", "key": "EXOk", "secret": SECRET}}],
        },
        {
            "mode": "managed",
            "type": "terraform_data",
            "name": "sizes",
            "instances": [{"attributes": {"id": "s", "output": {"value": {"max": 3}}}}],
        },
        {
            "mode": "managed",
            "type": "terraform_data",
            "name": "created",
            "instances": [{"attributes": {"id": "c", "output": {"value": "2026-11-26T00:00:00Z"}}}],
        },
    ],
}
LOCKED = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)  # until it is killed
"""
JOURNAL = Journal(
    phase=Phase.RUNNING,
    since=1.5,
    destroy_after=2.5,
    name="web",
    zone="at-vie-1",
    endpoint="http://127.0.0.1/v2",
    program="/usr/bin/tofu",
    variables={"max_size": "3"},
    counted_at=1.75,
    terraform=Process(pid=1, started="1", is_told_to_stop=True),
)


def put(folder: Path, text: str) -> Path:
    (folder / state.FILE).write_text(text)
    return folder


def test_the_state_tells_what_is_in_the_cloud_and_shows_no_secret(tmp_path: Path) -> None:
    known = state.load(put(tmp_path, json.dumps(RAW)))
    assert known.ids == {"p", "EXOk"}
    assert known.created_at() == "2026-11-26T00:00:00Z"
    assert known.first("exoscale_instance_pool") == Known(
        type="exoscale_instance_pool",
        name="web",
        id="p",
        attributes={"id": "p", "name": "web", "size": 2},
    )
    assert not known.is_empty
    assert SECRET not in repr(known)


@pytest.mark.parametrize("text", ["", " \n", '{"version": 4, "resources": []}'])
def test_an_empty_state_is_empty(tmp_path: Path, text: str) -> None:
    assert state.load(tmp_path) == State()
    assert state.load(put(tmp_path, text)).is_empty


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is damaged; put terraform.tfstate.backup in its place"),
        ("[]", "is damaged"),
        ('{"version": 4, "resources": [{}]}', "is damaged"),
        ('{"version": 5, "resources": []}', "has format 5, and this version reads 4"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CannotRun, match=complaint):
        state.load(put(tmp_path, text))


def test_the_lock_is_the_kernel_s_and_ends_with_its_process(tmp_path: Path) -> None:
    info = tmp_path / ".terraform.tfstate.lock.info"
    info.write_text('{"Operation": "Apply", "Who": "me@here", "Created": "now"}')
    assert state.lock(tmp_path).holder is None
    file = str(put(tmp_path, "") / state.FILE)
    with subprocess.Popen(
        [sys.executable, "-c", LOCKED, file], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert state.lock(tmp_path).holder == process.pid
        process.kill()
    found = state.lock(tmp_path)
    assert (found.holder, found.told) == (None, "Apply by me@here since now")


def test_the_journal_comes_back_as_it_was_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    assert place.load() is None
    place.save(JOURNAL)
    place.save(replace(JOURNAL, members=7))
    assert place.load() == replace(JOURNAL, members=7)
    assert place.file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["up.json"]
    place.forget()
    place.forget()
    assert place.load() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "phase": "x"}'])
def test_a_journal_that_cannot_be_read_is_refused_with_the_next_step(
    tmp_path: Path, text: str
) -> None:
    place = Place(folder=tmp_path)
    place.file.write_text(text)
    with pytest.raises(CannotRun, match="see what runs in the portal, then remove the file"):
        place.load()


def test_the_folder_is_held_by_one_run_and_freed_by_its_end(tmp_path: Path) -> None:
    with (
        held(tmp_path),
        pytest.raises(Busy, match=rf"process {os.getpid()}\) works in"),
        held(tmp_path),
    ):
        pass
    with held(tmp_path) as place:
        assert place.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".exotide").touch()
    with pytest.raises(CannotRun, match="cannot be written"), held(tmp_path):
        pass


def test_a_process_is_known_by_its_start_too() -> None:
    me = Process.of(os.getpid())
    assert me.is_alive
    assert not replace(me, started="1").is_alive
    assert not Process(pid=me.pid, started="").is_alive
    child = multiprocessing.get_context("spawn").Process(target=signal.pause)
    child.start()
    assert child.pid is not None
    known = Process.of(child.pid)
    assert known.is_alive
    child.kill()
    child.join()
    assert not known.is_alive


@pytest.mark.parametrize(
    ("proxy", "kept"),
    [("http://127.0.0.1:8480", False), ("http://proxy.example:3128", True)],
    ids=["local-cloud", "own"],
)
def test_init_passes_by_the_proxy_of_a_local_cloud_and_by_no_other(proxy: str, kept: bool) -> None:
    environment = {
        "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:8480/z/at-vie-1/v2",
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "SSL_CERT_FILE": "/ca.pem",
        "PATH": "/bin",
    }
    seen = _past_local_cloud(environment)
    assert seen["PATH"] == "/bin"
    assert ({"HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"} <= seen.keys()) == kept

"""Folders and files that somebody else could have written are not believed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from exotide.cloud import directory
from exotide.cloud.directory import find, living, publish, started_at
from exotide.cloud.drivers import Character
from exotide.cloud.errors import NoCloud, StateUnusable
from exotide.cloud.servers.claims import claim_name
from exotide.cloud.service import Access
from exotide.cloud.state.store import FILE, Store
from exotide.cloud.trust import Untrusted, judge_files, own_folder, read_text, trusted_users

SOMEBODY = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_missing_is_made_private(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        own_folder(tmp_path / "a/b")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "a/b")) == (0o755, 0o700)


def test_what_is_there_is_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir(mode=0o755)
    own_folder(folder)
    assert mode(folder) == 0o755


@pytest.mark.parametrize("bits", [0o777, 0o757, 0o733])
def test_a_folder_that_others_can_write_to_is_refused_with_the_next_step(
    tmp_path: Path, bits: int
) -> None:
    for folder in (tmp_path / "open", tmp_path / "open/below"):
        folder.mkdir()
    (tmp_path / "open").chmod(bits)
    for folder in (tmp_path / "open", tmp_path / "open/below"):
        with pytest.raises(Untrusted, match="chmod go-w"):
            own_folder(folder)


def test_a_parent_with_the_sticky_bit_is_fine(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    own_folder(shared / "mine")
    assert mode(shared / "mine") == 0o700


@as_root
@pytest.mark.parametrize("which", ["", "s", "s/deep"])
def test_a_folder_on_the_way_that_is_somebody_else_s_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "s/deep").mkdir(parents=True)
    os.chown(tmp_path / which, SOMEBODY, SOMEBODY)
    with pytest.raises(Untrusted, match=f"belongs to user {SOMEBODY}"):
        own_folder(tmp_path / "s/deep")
    os.chown(tmp_path / which, 0, 0)


@as_root
def test_a_link_of_somebody_else_s_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    own_folder(link)
    os.lchown(link, SOMEBODY, SOMEBODY)
    with pytest.raises(Untrusted, match="belongs to"):
        own_folder(link)


def test_where_a_link_leads_is_judged_too(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    target.chmod(0o777)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(Untrusted):
        own_folder(tmp_path / "link")


def test_files_that_are_links_or_have_a_second_name_or_are_open_to_others_are_refused(
    tmp_path: Path,
) -> None:
    for name in ("file", "named-twice", "open"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "second").hardlink_to(tmp_path / "named-twice")
    (tmp_path / "open").chmod(0o666)
    os.mkfifo(tmp_path / "pipe")
    judge_files(tmp_path, ["file", "not-there"])
    assert read_text(tmp_path / "file") == "x"
    for name in ("link", "named-twice", "open", "pipe"):
        with pytest.raises(Untrusted):
            judge_files(tmp_path, [name])
        with pytest.raises((Untrusted, OSError)):
            read_text(tmp_path / name)


def test_root_believes_whoever_became_it_by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY))
    assert (SOMEBODY in trusted_users()) == (os.geteuid() == 0)
    monkeypatch.setenv("SUDO_UID", "x")
    assert trusted_users() == {0, os.geteuid()}


def test_a_state_that_others_could_have_written_is_refused_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state"
    with Store(folder):
        pass
    (folder / FILE).chmod(0o666)
    with pytest.raises(StateUnusable, match="chmod go-w"):
        Store(folder)
    assert mode(folder / FILE) == 0o666


def entry(folder: Path, *, pid: int, started: str) -> directory.Entry:
    folder.mkdir(parents=True)
    cloud = directory.Entry(
        cloud_id=folder.name,
        pid=pid,
        started=started,
        access=Access(port=8480, key="EXOkey", secret="hush", zone="at-vie-1"),
        fabric_ip="127.77.0.1",
        character=Character(servers="none", why="", limits=(), http_port=80),
    )
    publish(folder, cloud)
    return cloud


def test_a_run_folder_that_others_can_write_to_tells_of_no_cloud(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    entry(run_dir / "abcdef", pid=os.getpid(), started="")
    run_dir.chmod(0o777)
    assert living(run_dir) == []
    with pytest.raises(NoCloud):
        find(None, run_dir=run_dir)


def test_no_process_is_ended_but_the_one_that_the_file_means(tmp_path: Path) -> None:
    own = started_at(os.getpid())
    assert own
    for number, started in enumerate(("", "another-boot:1")):
        cloud = entry(tmp_path / f"{number:06d}", pid=os.getpid(), started=started)
        with pytest.raises(NoCloud, match="is not cloud"):
            cloud.end()
    assert json.loads((tmp_path / "000000/cloud.json").read_text())["pid"] == os.getpid()


def test_a_name_is_held_by_one_and_free_when_it_is_gone() -> None:
    first = claim_name("test-of-names")
    assert first is not None
    assert claim_name("test-of-names") is None
    first.close()
    again = claim_name("test-of-names")
    assert again is not None
    again.close()

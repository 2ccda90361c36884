"""The file is whole or old, whatever happens."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from exotide_servicediscovery.errors import TargetsNotWritten
from exotide_servicediscovery.writer import write_if_changed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_missing_folder_is_made_and_the_file_is_readable_for_all(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "config.json"
    previous = os.umask(0o077)
    try:
        assert write_if_changed(file, b"[]\n")
    finally:
        os.umask(previous)
    assert file.read_bytes() == b"[]\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert names(file.parent) == ["config.json"]


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    write_if_changed(file, b"[]\n")
    before = file.stat()
    assert not write_if_changed(file, b"[]\n")
    assert file.stat() == before


@pytest.mark.parametrize("damage", ["content", "mode", "removed"])
def test_a_file_that_someone_damaged_is_repaired(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "config.json"
    write_if_changed(file, b"[]\n")
    if damage == "content":
        file.write_bytes(b"[")
    elif damage == "mode":
        file.chmod(0o600)
    else:
        file.unlink()
    assert write_if_changed(file, b"[]\n")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"[]\n", 0o644)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_if_changed(file, contents[0])
    done = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not done.is_set():
            if (seen := file.read_bytes()) not in contents:
                torn.append(len(seen))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        write_if_changed(file, contents[(turn + 1) % 2])
    done.set()
    reader.join()
    assert torn == []


def test_what_a_killed_predecessor_left_is_in_nobodys_way_and_goes(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    for name in (".config.json.tmp", ".config.json.0a1b2c3d.tmp"):
        (tmp_path / name).symlink_to(precious)
        os.utime(tmp_path / name, (1, 1), follow_symlinks=False)
    (tmp_path / ".config.json.ffffffff.tmp").write_text("somebody is at it")
    write_if_changed(tmp_path / "config.json", b"[]\n")
    assert precious.read_text() == "keep"
    assert names(tmp_path) == [".config.json.ffffffff.tmp", "config.json", "precious"]


def test_two_writers_leave_a_whole_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
    write_if_changed(file, contents[0])
    torn: list[int] = []

    def write(first: int) -> None:
        for turn in range(60):
            write_if_changed(file, contents[first + turn % 2])
            if (seen := file.read_bytes()) not in contents:
                torn.append(len(seen))

    with ThreadPoolExecutor(2) as writers:
        for done in [writers.submit(write, first) for first in (0, 2)]:
            done.result()
    assert torn == []
    assert names(tmp_path) == ["config.json"]


def test_a_link_stays_and_what_it_names_is_replaced_in_one_step(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "targets.json"
    real.parent.mkdir()
    real.write_text("old")
    link = tmp_path / "config.json"
    link.symlink_to(real)
    before = real.stat().st_ino
    assert write_if_changed(link, b"[]\n")
    assert link.is_symlink()
    assert real.read_bytes() == b"[]\n"
    assert real.stat().st_ino != before
    assert names(real.parent) == ["targets.json"]
    real.unlink()
    assert write_if_changed(link, b"[]\n")
    assert real.read_bytes() == b"[]\n"


def test_a_link_in_a_circle_is_told(tmp_path: Path) -> None:
    link = tmp_path / "config.json"
    link.symlink_to(link)
    with pytest.raises(TargetsNotWritten, match="Too many levels"):
        write_if_changed(link, b"[]\n")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_told_and_neither_replaced_nor_waited_for(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "config.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(TargetsNotWritten, match="is there and is no file"):
        write_if_changed(path, b"[]\n")
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["config.json"]


def test_a_file_that_is_far_too_large_is_replaced_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as made:
        made.truncate(1 << 40)
    assert write_if_changed(file, b"[]\n")
    assert file.read_bytes() == b"[]\n"


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetsNotWritten, match=r"file/config\.json cannot be written"):
        write_if_changed(tmp_path / "file" / "config.json", b"[]\n")


@needs_root
@pytest.mark.root
def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    file = small_disk / "config.json"
    write_if_changed(file, b"[]\n")
    with pytest.raises(TargetsNotWritten, match="No space left"):
        write_if_changed(file, b"x" * 200_000)
    assert file.read_bytes() == b"[]\n"
    assert names(small_disk) == ["config.json"]


@needs_root
@pytest.mark.root
def test_a_read_only_folder_leaves_the_old_file(small_disk: Path) -> None:
    file = small_disk / "config.json"
    write_if_changed(file, b"[]\n")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(TargetsNotWritten, match="Read-only"):
        write_if_changed(file, b"[1]\n")
    assert file.read_bytes() == b"[]\n"
    assert not write_if_changed(file, b"[]\n")


@needs_root
@pytest.mark.root
def test_a_file_that_is_mounted_by_itself_is_told_with_the_way_out(tmp_path: Path) -> None:
    inner, file = tmp_path / "inner.json", tmp_path / "config.json"
    inner.write_text("old")
    file.touch()
    mount = ["mount", "--bind", str(inner), str(file)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        with pytest.raises(TargetsNotWritten, match="mount its folder instead"):
            write_if_changed(file, b"[]\n")
        assert inner.read_text() == "old"
    finally:
        subprocess.run(["umount", str(file)], check=True)
    assert names(tmp_path) == ["config.json", "inner.json"]


@needs_root
@pytest.mark.root
def test_a_disk_without_room_for_one_more_file_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        file = folder / "config.json"
        write_if_changed(file, b"[]\n")
        (folder / "another").touch()
        with pytest.raises(TargetsNotWritten, match="No space left"):
            write_if_changed(file, b"[1]\n")
        assert file.read_bytes() == b"[]\n"
    finally:
        subprocess.run(["umount", str(folder)], check=True)

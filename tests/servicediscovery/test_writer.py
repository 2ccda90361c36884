"""The file is whole or old, whatever happens."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
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


def test_what_a_killed_predecessor_left_is_in_nobodys_way(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / ".config.json.tmp").symlink_to(precious)
    write_if_changed(tmp_path / "config.json", b"[]\n")
    assert precious.read_text() == "keep"
    assert names(tmp_path) == ["config.json", "precious"]


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

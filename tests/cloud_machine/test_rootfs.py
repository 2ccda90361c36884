"""The root file system of machines: made from the host's own mirrors, whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from exotide.cloud.servers.errors import CommandFailed, HostUnsuitable
from exotide.cloud.servers.machines import apt, rootfs
from exotide.cloud.servers.machines.rootfs import Recipe

pytestmark = pytest.mark.anyio

TARGETS = """\
Debian|bookworm|main|http://mirror.example/debian/
Debian|bookworm|main|http://mirror.example/debian/
Debian|bookworm|non-free|http://mirror.example/debian/
Debian|bookworm-security|main|http://mirror.example/security/
Debian|bookworm-backports|main|http://mirror.example/debian/
Debian|trixie|main|http://mirror.example/debian/
Docker|bookworm|main|http://docker.example/linux/debian/
"""


def test_debian_s_own_suites_of_the_release_are_taken_from_where_the_host_has_them() -> None:
    assert apt.sources_of(TARGETS, "bookworm") == (
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/security/ bookworm-security main",
    )
    assert apt.sources_of(TARGETS, "jammy") == ()


async def test_the_host_s_proxy_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "apt.conf"
    config.write_text('Acquire::http::Proxy "http://proxy.example:3142";\nAcquire::Retries "4";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    options = await apt.options()
    assert 'Acquire::http::Proxy "http://proxy.example:3142"' in options
    assert 'Acquire::Retries "4"' in options


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


async def test_of_a_build_that_fails_nothing_is_left_and_its_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = r"""for word; do case "$word" in */debian-*.part) mkdir -p "$word/etc";; esac; done"""
    fake(tmp_path / "bin", "mmdebstrap", f"{last}; echo 'E: no such mirror' >&2; exit 25")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(CommandFailed, match="no such mirror"):
        await rootfs.prepare(Recipe(), cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


async def test_a_file_that_is_no_package_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    file = tmp_path / "grafana.deb"
    with pytest.raises(HostUnsuitable, match=r"grafana\.deb cannot be read"):
        await rootfs.prepare(Recipe(extra_packages=(file,)), cache=tmp_path / "cache")
    file.write_text("not a package")
    with pytest.raises(CommandFailed, match=r"grafana\.deb"):
        await rootfs.prepare(Recipe(extra_packages=(file,)), cache=tmp_path / "cache")


async def test_a_root_file_system_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    there = tmp_path / f"debian-{Recipe().digest}"
    there.mkdir()
    assert await rootfs.prepare(Recipe(), cache=tmp_path) == there


def test_another_package_with_the_same_name_makes_another_root_file_system(tmp_path: Path) -> None:
    digests = set()
    for content in ("one", "two"):
        file = tmp_path / "extra.deb"
        file.write_text(content)
        digests.add(Recipe(extra_packages=(file,)).digest)
    assert len(digests) == 2


async def test_two_first_starts_at_once_make_it_once_and_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = r"""for word; do case "$word" in */debian-*.part) mkdir -p "$word/etc";; esac; done"""
    fake(tmp_path / "bin", "mmdebstrap", f"echo x >> {tmp_path}/made; sleep 0.3; {makes}")
    for program in ("systemctl", "systemd-nspawn"):  # which shifts the ids of a real system
        fake(tmp_path / "bin", program, "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    cache = tmp_path / "cache"
    first, second = await asyncio.gather(
        rootfs.prepare(Recipe(), cache=cache), rootfs.prepare(Recipe(), cache=cache)
    )
    assert first == second
    assert (first / "etc/pip.conf").exists()
    assert (tmp_path / "made").read_text() == "x\n"


async def test_waiting_for_another_start_can_be_given_up(tmp_path: Path) -> None:
    tmp_path.joinpath(".lock").touch()
    with tmp_path.joinpath(".lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rootfs.prepare(Recipe(), cache=tmp_path), timeout=0.3)
    assert not list(tmp_path.glob("debian-*"))  # noqa: ASYNC240 - a folder of this test

"""
What images are built from where no registry is at hand: a Debian with Python in place of the
official Python image, and the wheels that the requirements name.

Both are kept in the cache of the machines' root file systems; another recipe makes others.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from exotide.cloud.servers.machines import apt
from exotide.cloud.servers.machines.rootfs import CACHE
from exotide.cloud.servers.programs import find

ROOT: Final = Path(__file__).parents[2]
SUITE: Final = "trixie"
"""The release of the official image that the Dockerfiles name, with the same minor of Python."""
PACKAGES: Final = (
    *("python3", "python-is-python3", "python3-venv", "python3-pip", "ca-certificates"),
)
WHEELS: Final = "/mnt"
"""Where a build sees the wheels: a folder that every Debian has, so that no image gets one more."""
PIP_CONF: Final = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
REQUIREMENTS: Final = tuple(
    ROOT / folder / name
    for folder in ("autoscaler", "servicediscovery")
    for name in ("requirements.txt", "requirements-build.txt")
)


def base() -> Path:
    """Give the base image's files as a tar; made at the first call, which takes a minute."""
    return _kept(f"python-{_digest(SUITE, *PACKAGES, PIP_CONF)}.tar", _install_debian)


def wheels() -> Path:
    """Give a folder of wheels: for each requirement the one whose hash is pinned."""
    return _kept(f"wheels-{_digest(*(path.read_text() for path in REQUIREMENTS))}", _download)


def _install_debian(target: Path) -> None:
    """Take the release from where this host has its own; nothing of the host stays in it."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", SUITE)
    mirrors, options = asyncio.run(_sources(release))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "pip.conf"
        config.write_text(PIP_CONF)
        config.chmod(0o644)
        _run(
            *(find("mmdebstrap"), "--quiet", "--variant=essential", "--mode=root", "--format=tar"),
            f"--include={','.join(PACKAGES)}",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")),
            *(f"--aptopt={option}" for option in options),
            f"--customize-hook=copy-in {config} /etc",
            f'--customize-hook=rm -f "$1/{apt.OPTIONS_FILE}" "$1/etc/apt/sources.list"',
            *(SUITE, str(target)),
            *(line.replace(f" {release}", f" {SUITE}") for line in mirrors),
        )


async def _sources(release: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return await apt.mirrors(release), await apt.options()


def _download(target: Path) -> None:
    """Let this host's pip choose, with its settings, among all files that the index has."""
    words = [word for path in REQUIREMENTS for word in ("--requirement", str(path))]
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
        *(*words, "--dest", str(target)),
    )


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """Look into the cache; what is missing is made, whole or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    done, part = CACHE / name, CACHE / f"part-{name}"
    with (CACHE / ".images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _remove(part)
            try:
                make(part)
                part.rename(done)
            finally:
                _remove(part)
    return done


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]

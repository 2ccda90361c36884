"""
The root file system that every machine starts from: a small Debian with cloud-init, made once.

What user-data would install is in it already, and a folder of wheels, so that no machine needs
the internet: the same user-data installs on a real server what it finds here.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog

from exotide.cloud.servers.cage import FIRST_ID, IDS
from exotide.cloud.servers.commands import run
from exotide.cloud.servers.errors import CommandFailed, HostUnsuitable
from exotide.cloud.servers.machines import apt
from exotide.cloud.servers.programs import find

log = structlog.get_logger(__name__)

CACHE: Final = Path("/var/cache/exotide")
Release = Literal["bookworm", "trixie"]
"""Debian 12 and 13."""
PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "cloud-init", "ca-certificates", "gpg", "iproute2"),
    *("python3", "python3-venv", "procps", "nftables", "zpaq"),
    *("prometheus", "prometheus-alertmanager", "prometheus-node-exporter"),
)
MASKED: Final = (
    *("systemd-networkd.service", "systemd-networkd-wait-online.service"),
    *("systemd-resolved.service", "systemd-timesyncd.service", "systemd-logind.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("dpkg-db-backup.timer", "getty.target", "console-getty.service"),
)
"""What a container does not need, or what the cloud has done for it."""
DISABLED: Final = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
"""User-data decides what runs."""
USERS: Final = f"{FIRST_ID}:{IDS}"
"""The users that machines see as 0 and up: nobody else of the host; machines share them."""
TELL_EVERY_S: Final = 10.0
ASK_EVERY_S: Final = 0.2
WHEELS: Final = "var/cache/exotide/wheels"
FILES: Final = {
    # cloud-init tells Exoscale by the firmware's product name, which a container has not.
    "usr/lib/python3/dist-packages/cloudinit/sources/DataSourceExotide.py": """\
from cloudinit import sources
from cloudinit.sources.DataSourceExoscale import DataSourceExoscale


class DataSourceExotide(DataSourceExoscale):
    dsname = "Exotide"

    def _is_platform_viable(self):
        return True


datasources = [(DataSourceExotide, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK))]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
""",
    "etc/cloud/cloud.cfg.d/90-exotide.cfg": """\
datasource_list: [Exotide]
datasource:
  Exotide: {retries: 0, timeout: 2}
network: {config: disabled}
# Neither a login nor a disk nor a boot loader is there to be set up.
ssh_deletekeys: false
ssh_genkeytypes: [ed25519]
locale: C.UTF-8
growpart: {mode: "off"}
grub_dpkg: {enabled: false}
""",
    "etc/ssh/ssh_host_ed25519_key": "here so that cloud-init makes none: there is no ssh server\n",
    "etc/default/prometheus-node-exporter": 'ARGS="--path.procfs=/run/vproc"\n',
    "etc/pip.conf": f"[global]\nno-index = true\nfind-links = /{WHEELS}\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/machine-id": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into a root file system; another recipe makes another one."""

    requirements: tuple[Path, ...] = ()
    """Files with pinned Python packages that machines may install."""
    extra_packages: tuple[Path, ...] = ()
    """Debian package files to install beside Debian's own."""
    release: Release = "bookworm"

    @property
    def digest(self) -> str:
        """Ten characters that change with the recipe. Raises HostUnsuitable for a missing file."""
        parts: list[str] = [USERS, self.release, *PACKAGES, *MASKED, *DISABLED]
        parts += [*FILES, *FILES.values()]
        parts += [path.read_text() for path in self.requirements]
        parts += [_content_of(path) for path in self.extra_packages]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


async def prepare(recipe: Recipe, *, cache: Path = CACHE) -> Path:
    """
    Give the folder of a root file system; makes it at the first call, which takes a minute or two.

    Raises:
        MissingProgram: mmdebstrap is not installed.
        CommandFailed: with the last words of what failed; nothing half-made is used.
        HostUnsuitable: the cache cannot be written.
    """
    done = cache / f"debian-{await asyncio.to_thread(lambda: recipe.digest)}"
    try:
        lock = await asyncio.to_thread(_open_lock, cache)
    except OSError as error:
        raise HostUnsuitable(f"cannot write {cache}: {error.strerror}; run as root") from error
    try:
        await _told("wait for another cloud that makes one", _locked(lock), after_s=1.0)
        if not await asyncio.to_thread(done.is_dir):
            await _make(recipe, done)
    finally:
        os.close(lock)
    return done


async def _make(recipe: Recipe, done: Path) -> None:
    part = done.with_name(f"{done.name}.part")
    for package in recipe.extra_packages:
        await run("dpkg-deb", "--field", str(package), "Package")  # fails early for what is none
    await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
    log.info("root_file_system_is_made", folder=str(done), hint="once; it takes a minute or two")
    try:
        await _told("1 of 3: Debian and its packages", _install_debian(part, recipe.release))
        await _told("2 of 3: packages given by file", _add_packages(part, recipe.extra_packages))
        await _told("3 of 3: the agents' wheels", _add_wheels(part, recipe.requirements))
        await asyncio.to_thread(_write_files, part)
        await run("systemctl", f"--root={part}", "--quiet", "mask", *MASKED)
        await run("systemctl", f"--root={part}", "--quiet", "disable", *DISABLED)
        await _shift(part)
        await asyncio.to_thread(part.rename, done)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, part, ignore_errors=True))
        raise
    log.info("root_file_system_is_ready", folder=str(done))


async def _locked(lock: int) -> None:
    """Wait for the lock in small steps: a thread that waits for it would hold up Ctrl-C."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(ASK_EVERY_S)
        else:
            return


async def _told(step: str, work: Coroutine[None, None, None], *, after_s: float = 0.0) -> None:
    """Do the work, and tell every few seconds that it is still being done."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        await asyncio.wait({task}, timeout=after_s)
        while not task.done():
            log.info("root_file_system", step=step, since_s=round(loop.time() - began_s))
            await asyncio.wait({task}, timeout=TELL_EVERY_S)
    finally:
        task.cancel()
    await task


async def _shift(part: Path) -> None:
    """Give all files to the users of the machines' user namespaces, once for all of them."""
    await run(
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={part}"),
        *(f"--private-users={USERS}", "--private-users-ownership=chown", "/bin/true"),
    )


async def _install_debian(part: Path, release: Release) -> None:
    # If the cloud is killed, nobody must go on writing what the next one makes anew.
    await run(
        *("setpriv", "--pdeathsig=TERM", find("mmdebstrap")),
        *("--quiet", "--variant=minbase", "--mode=root"),
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")),
        *(f"--aptopt={option}" for option in await apt.options()),
        *(release, str(part), *await apt.mirrors(release)),
    )
    # How this host reaches its mirrors is its own business; it may hold a password.
    await asyncio.to_thread((part / apt.OPTIONS_FILE).unlink, missing_ok=True)


def _content_of(package: Path) -> str:
    try:
        with package.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HostUnsuitable(
            f"machine package {package} cannot be read: {error.strerror}; name a .deb file"
        ) from error


def _open_lock(cache: Path) -> int:
    cache.mkdir(parents=True, exist_ok=True)
    return os.open(cache / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write_files(root: Path) -> None:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


async def _add_packages(root: Path, packages: Sequence[Path]) -> None:
    for package in packages:
        target = root / "tmp" / package.name
        await asyncio.to_thread(shutil.copy, package, target)
        await run("chroot", str(root), "dpkg", "--install", f"/{target.relative_to(root)}")
        target.unlink()


async def _add_wheels(root: Path, requirements: Sequence[Path]) -> None:
    for path in requirements:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--only-binary=:all:", "--platform=any", "--abi=none", "--implementation=py"),
            *("--require-hashes", "--requirement", str(path), "--dest", str(root / WHEELS)),
            stderr=PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise CommandFailed(f"pip download for {path}: {errors.decode(errors='replace')}")

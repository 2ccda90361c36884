"""One machine: a systemd-nspawn container that boots Debian and runs its user-data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.ports import ServerFailed, ServerSpec
from exotide.cloud.servers.cage import FIRST_ID
from exotide.cloud.servers.machine import Folder
from exotide.cloud.servers.machines.rootfs import USERS
from exotide.cloud.servers.namespaces import entered, listening_ports
from exotide.cloud.servers.network import in_namespace
from exotide.cloud.servers.programs import SYSTEM_PATH, find
from exotide.cloud.servers.roles import Program

log = structlog.get_logger(__name__)

BOOT_WITHIN_S: Final = 20.0
SET_UP_WITHIN_S: Final = 900.0
"""How long cloud-init may take before the machine's CPU is limited nevertheless."""
LOOK_EVERY_S: Final = 0.05
REBOOT: Final = 133
"""systemd-nspawn ends with it when the machine wants to start again."""
FINISHED: Final = "run/cloud-init/result.json"
"""cloud-init writes it at its end."""

BOOT: Final = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/root"
shift 2
exec "$@"
"""
"""In a mount namespace of its own, so that the mount goes with the machine, however that ends."""


class NspawnMachine:
    """
    A machine from power-on to its end. Its disk is an overlay that stays over a reboot.

    Args:
        rootfs: Lies below the overlay; never written.
        entrances: Where to write a process id that shall be in the machine's control groups.
        rebooted: Called when the machine starts again by itself.
    """

    def __init__(
        self,
        spec: ServerSpec,
        folder: Folder,
        *,
        rootfs: Path,
        namespace: Path,
        entrances: Sequence[Path],
        rebooted: Callable[[], None],
    ) -> None:
        self.spec, self.folder, self._rebooted = spec, folder, rebooted
        self._rootfs, self._namespace, self._entrances = rootfs, namespace, entrances
        self._process: Process | None = None
        self._follower: asyncio.Task[None] | None = None
        self._stopping = False
        self.ended = asyncio.Event()
        """Set when the container is gone and with it every process of the machine."""

    async def boot(self, _: Sequence[Program], died: Callable[[str], None]) -> None:
        """
        Power on; returns when the machine's own PID 1 runs.

        Args:
            died: Called with the reason when the machine ends without `halt`.

        Raises:
            ServerFailed: with the reason; no process is left.
        """
        await asyncio.to_thread(self._lay_out)
        await asyncio.to_thread(in_namespace, self._namespace, _open_low_ports)
        self._process = await self._spawn()
        self._follower = asyncio.create_task(self._follow(self._process, died))
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + BOOT_WITHIN_S
        while self.pid_1() is None:
            if self.ended.is_set() or loop.time() > deadline_s:
                await self.halt(grace_s=0.0)
                raise ServerFailed(f"machine {self.spec.name} did not boot: {self._last_words()}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def set_up(self) -> None:
        """Wait until cloud-init has done what the user-data says, or failed at it."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SET_UP_WITHIN_S
        # No file system event crosses into the container's mounts, so look.
        while loop.time() < deadline_s:
            if self.ended.is_set() or self._is_set_up():
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def halt(self, *, grace_s: float) -> None:
        """Shut down cleanly, wait up to `grace_s`, then pull the plug."""
        self._stopping = True
        if self._process is None or self._follower is None:
            return
        nspawn = _first_child(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            if grace_s > 0 and nspawn is not None:
                os.kill(nspawn, signal.SIGTERM)  # which it passes on as the machine likes it
            else:
                self._process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace_s or BOOT_WITHIN_S)
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # its namespace dies with it, and all processes with that
        await self._follower

    async def _spawn(self) -> Process:
        with (self.folder.logs / "console.log").open("ab") as console:
            return await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "SYSTEMD_LOG_LEVEL": "warning"},
                start_new_session=True,  # Ctrl-C is for the cloud, which then halts its servers
            )

    def fit(self, text: str) -> str:
        """Change nothing: a machine is what the text was written for."""
        return text

    def listening(self) -> set[int]:
        """Give the TCP ports that listen inside the machine."""
        first = self.pid_1()
        return set() if first is None else listening_ports(first)

    def pid_1(self) -> int | None:
        """Give the machine's PID 1 as the host sees it, once it is systemd."""
        if self._process is None or self.ended.is_set():
            return None
        nspawn = _first_child(self._process.pid)
        first = None if nspawn is None else _first_child(nspawn)
        with contextlib.suppress(OSError):
            if Path(f"/proc/{first}/comm").read_text().strip() == "systemd":
                return first
        return None

    def _is_set_up(self) -> bool:
        first = self.pid_1()
        if first is None:
            return False
        with contextlib.suppress(OSError):
            return Path(f"/proc/{first}/root/{FINISHED}").exists()
        return False

    def _lay_out(self) -> None:
        """Make the overlay's folders, with the machine's own name in it."""
        for part in ("up/etc", "work", "root"):
            (self.folder.path / part).mkdir(parents=True, exist_ok=True)
        # The folder above is closed to all but root, and this one is the machine's /.
        (self.folder.path / "up").chmod(0o755)
        for name in ("hosts", "resolv.conf"):
            text = (self.folder.path / "etc" / name).read_text()
            (self.folder.path / "up/etc" / name).write_text(text)
        for part in ("up", "up/etc", "up/etc/hosts", "up/etc/resolv.conf"):
            os.chown(self.folder.path / part, FIRST_ID, FIRST_ID)

    def _command(self) -> list[str]:
        nspawn = [
            *(
                find("systemd-nspawn"),
                "--quiet",
                "--boot",
                "--directory",
                f"{self.folder.path}/root",
            ),
            *(f"--uuid={self.spec.id}", f"--hostname={self.spec.name}", "--console=pipe"),
            *("--register=no", "--keep-unit", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off"),
            f"--bind-ro={self.folder.procfs}:/run/vproc",
            *(f"--private-users={USERS}", "--private-users-ownership=off"),
        ]
        boot = ["/bin/sh", "-c", BOOT, "sh", str(self._rootfs), str(self.folder.path), *nspawn]
        # systemd-nspawn's end alone leaves a machine that boots; that of its namespace leaves none.
        own = [
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        enter = [find("nsenter"), f"--net={self._namespace}", find("unshare"), *own, *boot]
        # A machine whose cloud was killed must not live on with counters that stand still.
        return entered(self._entrances, [find("setpriv"), "--pdeathsig=KILL", *enter])

    async def _follow(self, process: Process, died: Callable[[str], None]) -> None:
        while (code := await process.wait()) == REBOOT and not self._stopping:
            self._process = process = await self._spawn()
            if not self._stopping:  # else `halt` has spoken to the one before
                self._rebooted()
                continue
            process.kill()
        self.ended.set()
        if not self._stopping:
            died(f"it ended with code {code}; its console is {self.folder.logs / 'console.log'}")

    def _last_words(self) -> str:
        file = self.folder.logs / "console.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return lines[-1] if lines else f"it said nothing; its console was {file}"


def _open_low_ports() -> None:
    """Let a machine's own root have them: its network belongs to the host."""
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")


def _first_child(pid: int) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None

"""One emulated server: its folder, its namespaces, and its PID 1 as seen from the host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from exotide.cloud.ports import ServerFailed, ServerSpec
from exotide.cloud.servers.roles import ADDRESS, ENVIRONMENT, NAME, Program
from exotide.cloud.servers.underlay import Housing

log = structlog.get_logger(__name__)

BOOT_WITHIN_S: Final = 20.0
DEAD_WITHIN_S: Final = 2.0
MOST_LINE_BYTES: Final = 4096
MOST_EVENTS_PER_S: Final = 20
EVENTS: Final = {
    *("booted", "stopped", "exporter_stopped"),
    *("program_started", "program_ended", "program_failed"),
}
FIELDS: Final = ("program", "code", "reason", "clean")
"""All that a server may have said; its programs can write to its first process's pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Where a server's files lie on the host."""

    path: Path

    @property
    def srv(self) -> Path:
        """What the server sees as /srv."""
        return self.path / "srv"

    @property
    def procfs(self) -> Path:
        """What the exporter reads instead of /proc."""
        return self.path / "procfs"

    @property
    def logs(self) -> Path:
        """One file per program."""
        return self.path / "log"

    def make(self, spec: ServerSpec) -> None:
        """Make the folder with the server's own /etc files."""
        for part in (self.srv, self.logs, self.path / "etc"):
            part.mkdir(parents=True, exist_ok=True)
        own = {
            # A name that only DNS knows would hang whoever asks for it, such as getfqdn().
            "hosts": f"127.0.0.1 localhost\n{spec.ip} {spec.name}\n",
            "resolv.conf": "options timeout:1 attempts:1\n",
            "hostname": f"{spec.name}\n",
        }
        for name, text in own.items():
            (self.path / "etc" / name).write_text(text)

    def remove(self) -> None:
        """Remove it with all files; fine if it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)


class Bootable(Protocol):
    """What can be switched on and off. Adapters: Machine, machines.machine.NspawnMachine."""

    spec: ServerSpec
    folder: Folder
    ended: asyncio.Event
    """Set when every process of the server is gone."""

    async def boot(self, programs: Sequence[Program], died: Callable[[str], None]) -> None:
        """Switch on. Raises ServerFailed; `died` hears of an end without `halt`."""

    async def halt(self, *, grace_s: float) -> None:
        """Ask every program to end, wait up to `grace_s`, then kill what is left."""

    def fit(self, text: str) -> str:
        """Change what is written for a machine of its own to fit where the server runs."""

    def listening(self) -> set[int]:
        """Give the TCP ports that listen inside the server."""


class Rate:
    """How often something happened within the present second."""

    def __init__(self, most_per_s: int) -> None:
        self._most, self._second, self._count = most_per_s, -1, 0

    def one_more(self, now_s: float) -> bool:
        """Count it; False when it is too often."""
        if int(now_s) != self._second:
            self._second, self._count = int(now_s), 0
        self._count += 1
        return self._count <= self._most


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Read lines until the end; of one that is too long only parts, which mean nothing."""
    rest = b""
    while chunk := await reader.read(MOST_LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MOST_LINE_BYTES:
            rest = b""


def parse_event(line: bytes) -> tuple[str | None, dict[str, object]]:
    """Read what a first process says; None for what it would not say."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None, {}
    event = values.get("event") if isinstance(values, dict) else None
    if not isinstance(event, str) or event not in EVENTS:
        return None, {}
    told = {name: values[name] for name in FIELDS if name in values}
    return event, {name: value for name, value in told.items() if isinstance(value, str | int)}


class Machine:
    """PID 1 of a server, from power-on to its end."""

    def __init__(self, spec: ServerSpec, folder: Folder, housing: Housing) -> None:
        self.spec, self.folder, self._housing = spec, folder, housing
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._booted = asyncio.Event()
        self._stopping = False
        self._told = Rate(MOST_EVENTS_PER_S)
        self.ended = asyncio.Event()
        """Set when PID 1 is gone and with it every process of the server."""

    async def boot(self, programs: Sequence[Program], died: Callable[[str], None]) -> None:
        """
        Start PID 1; returns when it has started its programs.

        Args:
            died: Called with the reason when PID 1 ends without `halt`.

        Raises:
            ServerFailed: with the reason; no process is left.
        """
        self._housing.require([program.port for program in programs if program.port])
        config = self._configure(programs)
        await asyncio.to_thread(self._housing.prepare, [config, *self._program_logs(programs)])
        with (self.folder.logs / "init.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(config),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=ENVIRONMENT | self._housing.environment,
                start_new_session=True,  # Ctrl-C is for the cloud, which then halts its servers
            )
        self._reader = asyncio.create_task(self._follow(self._process, died))
        waits = [asyncio.create_task(event.wait()) for event in (self._booted, self.ended)]
        try:
            await asyncio.wait(waits, timeout=BOOT_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self._booted.is_set():
            await self.halt(grace_s=0.0)
            raise ServerFailed(f"server {self.spec.name} did not boot: {self._last_words()}")

    async def halt(self, *, grace_s: float) -> None:
        """Ask every program to end, wait up to `grace_s`, then kill what is left."""
        self._stopping = True
        process = self._process
        if process is None or process.stdin is None or self._reader is None:
            return
        with contextlib.suppress(ConnectionError, RuntimeError):
            process.stdin.write(f"stop {grace_s}\n".encode())
            await process.stdin.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace_s + 1.0)
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # unshare --kill-child takes PID 1 along, and PID 1 all others
        # A first process that was taken over may live on: its control group ends it after this.
        await asyncio.wait({self._reader}, timeout=DEAD_WITHIN_S)

    def fit(self, text: str) -> str:
        """Change what is written for a machine of its own to fit where the server runs."""
        return self._housing.fit(text)

    def listening(self) -> set[int]:
        """Give the TCP ports that listen inside the server."""
        if self._process is None or self.ended.is_set():
            return set()
        return self._housing.listening(self._process.pid)

    def _configure(self, programs: Sequence[Program]) -> Path:
        config = self.folder.path / "init.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._config(programs)))
        return config

    def _program_logs(self, programs: Sequence[Program]) -> list[Path]:
        return [self.folder.logs / f"{program.name}.log" for program in programs]

    def _config(self, programs: Sequence[Program]) -> dict[str, object]:
        return {
            "stat": self._housing.fit(str(self.folder.procfs / "stat")),
            "is_pid_1": self._housing.is_pid_1,
            "programs": [self._entry(program) for program in programs],
        }

    def _entry(self, program: Program) -> dict[str, object]:
        fit = self._housing.fit
        own = {ADDRESS: self.spec.ip, NAME: self.spec.name}
        environment = ENVIRONMENT | own | program.env
        return {
            "name": program.name,
            "argv": [fit(word) for word in program.argv],
            "env": {name: fit(value) for name, value in environment.items()}
            | self._housing.environment,
            "env_file": fit(program.env_file) if program.env_file else None,
            "log": fit(str(self.folder.logs / f"{program.name}.log")),
            "exporter": program.exporter,
        }

    def _command(self, config: Path) -> list[str]:
        python = [sys.executable, "-I", "-S", str(Path(__file__).with_name("init.py"))]
        return self._housing.command([*python, self._housing.fit(str(config))])

    async def _follow(self, process: Process, died: Callable[[str], None]) -> None:
        """Read PID 1's events until it ends."""
        assert process.stdout is not None
        assert process.stdin is not None
        async for line in lines(process.stdout):
            self._hear(line)
        code = await process.wait()
        process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await process.stdin.wait_closed()
        await self._housing.vacate()
        self.ended.set()
        if self._booted.is_set() and not self._stopping:
            died(f"PID 1 ended with code {code}; its log is {self.folder.logs / 'init.log'}")

    def _hear(self, line: bytes) -> None:
        event, values = parse_event(line)
        if event == "booted":
            self._booted.set()
        if event is None or not self._told.one_more(time.monotonic()):
            return
        troubled = event in {"program_ended", "program_failed", "exporter_stopped"}
        (log.warning if troubled else log.debug)(event, server=self.spec.name, **values)

    def _last_words(self) -> str:
        file = self.folder.logs / "init.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return lines[-1] if lines else f"PID 1 said nothing; its log was {file}"

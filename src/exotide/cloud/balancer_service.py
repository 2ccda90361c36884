"""
One service of a load balancer: a HAProxy process and the life of its members.

               first good check          taken off the list
    joining ───────────────────► serving ───────────────────► leaving ──► (gone)
       └──────────────────── taken off the list ────────────────▲  no connection left, or time up
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud import balancer_adoption as adoption
from exotide.cloud import balancer_config
from exotide.cloud.balancer_config import Line
from exotide.cloud.balancer_runtime import Row, Runtime
from exotide.cloud.ports import ServiceSpec
from exotide.cloud.servers.errors import BalancerFailed
from exotide.cloud.servers.lasting import Lasting
from exotide.cloud.servers.namespaces import entered
from exotide.cloud.servers.programs import SYSTEM_PATH, find

log = structlog.get_logger(__name__)

BUSY_LOOK_S: Final = 0.05
"""While a member joins or leaves."""
CALM_LOOK_S: Final = 0.25
DRAIN_WITHIN_S: Final = 60.0
"""Connections that are still open then are cut."""
READY_WITHIN_S: Final = 10.0
RESTART_AFTER_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
LONGEST_PATH: Final = 90
"""HAProxy binds a longer, temporary name first; the kernel allows 107 characters."""


class Stage(StrEnum):
    """Where a member is in its life."""

    JOINING = "joining"
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One address behind the service."""

    name: str
    ip: str
    stage: Stage = Stage.JOINING
    healthy: bool = False
    cut_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service runs."""

    ip: str
    namespace: Path | None
    """None: the host's own network."""
    entrances: tuple[Path, ...]
    """Files of the control groups that its process enters."""
    folder: Path
    speed: float = 1.0
    drain_within_s: float = DRAIN_WITHIN_S
    served_port: Callable[[int], int] = int
    """On which port it serves what the API calls this port."""
    lasts: bool = False
    """Whether its process outlives this one, for a successor to adopt."""


class Service:
    """One HAProxy with its members; all methods are for one event loop."""

    def __init__(self, spec: ServiceSpec, place: Place) -> None:
        balancer_config.check_service(spec)
        self.spec, self.place = spec, place
        self._members: list[Member] = []
        self._joins = self._generation = 0
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._process: Process | Lasting | None = None
        self._runtime = Runtime(place.folder)
        self._watch: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._left = False

    @property
    def pid(self) -> int | None:
        """HAProxy's process id; None while it does not run."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start HAProxy; raises BalancerFailed with its words when it does not come up."""
        async with self._lock:
            await self._launch()
        self._watch = asyncio.create_task(self._keep())

    async def adopt(self, pids: Sequence[int]) -> None:
        """
        Take over the HAProxy that a predecessor started; one that is not as it should be hands its
        port over to a fresh one, and one that is gone is started anew.

        Args:
            pids: Processes of the balancer's control group.
        """
        async with self._lock:
            found = await adoption.find(self.place.folder, self.spec.id[:8], pids)
            if found is None:
                await self._launch()
            else:
                self._process, self._runtime = found.process, found.runtime
                self._generation, self._members = found.generation, self._known(found.rows)
                self._joins = max((int(member.name[1:]) for member in self._members), default=0)
                if found.text != self._text(found.runtime.socket, ()):
                    await self._launch()
        self._watch = asyncio.create_task(self._keep())

    async def leave(self) -> None:
        """Watch no more; HAProxy serves on."""
        self._left = True
        tasks = [task for task in (self._watch, *self._retiring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(self._process, Lasting):
            self._process.leave()

    async def stop(self) -> None:
        """End HAProxy and its connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        async with self._lock:
            await self._kill(self._process)
            self._process = None
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        self._forget_files()

    async def change(self, spec: ServiceSpec) -> None:
        """Serve by a new specification; connections live on with the process that has them."""
        balancer_config.check_service(spec)
        async with self._lock:
            if spec == self.spec:
                return
            before, self.spec = self.spec, spec
            try:
                await self._launch()
            except BalancerFailed:
                self.spec = before
                raise

    async def want(self, ips: Sequence[str]) -> None:
        """Bring the members to these addresses; newcomers wait for their first good check."""
        async with self._lock:
            present = {m.ip: m for m in self._members if m.stage is not Stage.LEAVING}
            for ip, member in present.items():
                if ip not in ips:
                    await self._leave(member)
            for ip in dict.fromkeys(ips):
                if ip not in present:
                    await self._join(ip)
        self._wake.set()

    async def wait_drained(self, ip: str, *, within_s: float) -> bool:
        """Wait until an address that left has no connection any more; True when that is so."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while any(m.ip == ip and m.stage is Stage.LEAVING for m in self._members):
            if loop.time() > deadline_s:
                return False
            await asyncio.sleep(BUSY_LOOK_S / 2)
        return True

    def health(self) -> dict[str, bool]:
        """Give the last known health of every member that is wanted."""
        return {m.ip: m.healthy for m in self._members if m.stage is not Stage.LEAVING}

    async def _join(self, ip: str) -> None:
        self._joins += 1
        member = Member(name=f"m{self._joins}", ip=ip)
        self._members.append(member)
        await self._try(self._add(member))

    async def _leave(self, member: Member) -> None:
        member.stage, member.healthy = Stage.LEAVING, False
        member.cut_at_s = asyncio.get_running_loop().time() + self.place.drain_within_s
        await self._try(self._runtime.drain(member.name))

    async def _add(self, member: Member) -> None:
        address = f"{member.ip}:{self.spec.target_port}"
        words = balancer_config.check_words(self.spec, self.place.speed)
        await self._runtime.add(member.name, address, words)

    async def _try(self, step: Awaitable[None]) -> None:
        """Do a step that the next look makes good if HAProxy is gone."""
        try:
            await step
        except BalancerFailed as error:
            log.warning("balancer_step_failed", service=self.spec.name, reason=str(error))

    async def _keep(self) -> None:
        """Watch over process and members, until cancelled."""
        pause_s = RESTART_AFTER_S
        while True:
            try:
                async with self._lock:
                    await self._look()
                pause_s = RESTART_AFTER_S
                await self._rest()
            except BalancerFailed as error:
                log.warning("balancer_failed", service=self.spec.name, reason=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _rest(self) -> None:
        busy = any(member.stage is not Stage.SERVING for member in self._members)
        self._wake.clear()
        # In Python 3.11, wait_for forgets a cancellation that comes with the event: stop would wait
        # for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUSY_LOOK_S if busy else CALM_LOOK_S):
                await self._wake.wait()

    async def _look(self) -> None:
        if self._process is None or self._process.returncode is not None:
            log.warning("balancer_restarted", service=self.spec.name)
            await self._launch()
        rows = await self._runtime.rows()
        for member in list(self._members):
            await self._step(member, rows.get(member.name))

    async def _step(self, member: Member, row: Row | None) -> None:
        if row is None:
            if member.stage is Stage.LEAVING:
                self._members.remove(member)
            else:  # a step before failed half-way
                member.stage = Stage.JOINING
                await self._add(member)
        elif member.stage is Stage.LEAVING:
            await self._part(member, row)
        elif member.stage is Stage.SERVING:
            member.healthy = row.up
        elif row.status.startswith("MAINT"):  # `add` failed half-way
            await self._runtime.admit(member.name)
        elif row.good:
            await self._runtime.ready(member.name)
            member.stage, member.healthy = Stage.SERVING, True
            log.info("member_joined", service=self.spec.name, ip=member.ip)

    async def _part(self, member: Member, row: Row) -> None:
        late = asyncio.get_running_loop().time() >= member.cut_at_s
        if row.sessions and not late:
            return
        if await self._runtime.remove(member.name, cut=late):
            self._members.remove(member)
            log.info("member_left", service=self.spec.name, ip=member.ip, cut=row.sessions)

    async def _launch(self) -> None:
        """Start a process with the serving members; a living predecessor hands its port over."""
        old, old_runtime = self._process, self._runtime
        self._generation += 1
        stem = self.place.folder / f"{self.spec.id[:8]}-{self._generation}"
        runtime = Runtime(stem.with_suffix(".sock"))
        config = stem.with_suffix(".cfg")
        self._write(config, runtime.socket)
        takeover = []
        if old is not None and old.returncode is None:
            takeover = ["-x", str(old_runtime.socket), "-sf", str(old.pid)]
        process = await self._spawn(config, takeover)
        await self._await_ready(process, runtime)
        self._process, self._runtime = process, runtime
        self._forget_files(besides=stem.name)
        if takeover and old is not None:
            self._retire(old)
        self._members = [m for m in self._members if m.stage is not Stage.LEAVING]
        for member in self._members:
            if member.stage is Stage.JOINING:
                await self._add(member)

    def _forget_files(self, *, besides: str = "") -> None:
        """Remove configurations and sockets, except of one generation: an old one has read its."""
        for path in self.place.folder.glob(f"{self.spec.id[:8]}-*"):
            if path.stem != besides:
                path.unlink(missing_ok=True)

    def _write(self, config: Path, socket: Path) -> None:
        if len(str(socket)) > LONGEST_PATH:
            raise BalancerFailed(f"{socket} is too long for a socket; use a shorter run folder")
        serving = [
            Line(name=member.name, ip=member.ip)
            for member in self._members
            if member.stage is Stage.SERVING
        ]
        config.write_text(self._text(socket, serving))

    def _text(self, socket: Path, members: Sequence[Line]) -> str:
        return balancer_config.render(
            replace(self.spec, port=self.place.served_port(self.spec.port)),
            ip=self.place.ip,
            socket=socket,
            members=members,
            speed=self.place.speed,
        )

    def _known(self, rows: Mapping[str, Row]) -> list[Member]:
        """Read a predecessor's members: who has traffic keeps it, all others leave."""
        cut_at_s = asyncio.get_running_loop().time() + self.place.drain_within_s
        return [
            Member(
                name=name,
                ip=row.ip,
                stage=Stage.SERVING if row.serves else Stage.LEAVING,
                healthy=row.up,
                cut_at_s=cut_at_s,
            )
            for name, row in rows.items()
        ]

    async def _spawn(self, config: Path, takeover: list[str]) -> Process | Lasting:
        haproxy = [find("haproxy"), "-db", "-q", "-f", str(config), *takeover]
        where = self.place.namespace
        # In a namespace the next start finds what a killed cloud left; elsewhere it must not stay.
        enter = (
            [find("nsenter"), f"--net={where}"]
            if where is not None
            else [find("setpriv"), "--pdeathsig", "KILL", "--"]
        )
        command = entered(self.place.entrances, [*enter, *haproxy])
        if self.place.lasts:
            return Lasting.spawn(command, env={"PATH": SYSTEM_PATH}, log=self._log)
        with self._log.open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=errors,
                stderr=errors,
                env={"PATH": SYSTEM_PATH},
                start_new_session=True,  # Ctrl-C is for the cloud
            )

    async def _await_ready(self, process: Process | Lasting, runtime: Runtime) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + READY_WITHIN_S
        while True:
            try:
                await runtime.rows()
            except (BalancerFailed, KeyError) as error:
                if process.returncode is not None or loop.time() > deadline_s:
                    await self._kill(process)
                    raise BalancerFailed(
                        f"HAProxy did not start for service {self.spec.name}: {self._last_words()}"
                    ) from error
                await asyncio.sleep(0.01)
            else:
                return

    def _retire(self, process: Process | Lasting) -> None:
        task = asyncio.create_task(self._let_finish(process))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _let_finish(self, process: Process | Lasting) -> None:
        try:
            await asyncio.wait_for(process.wait(), self.place.drain_within_s)
        except (TimeoutError, asyncio.CancelledError):
            if self._left:  # it has its orders: it ends with its last connection
                return
            await self._kill(process)

    async def _kill(self, process: Process | Lasting | None) -> None:
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _log(self) -> Path:
        return self.place.folder / f"{self.spec.id[:8]}.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it said nothing; its log was {self._log}"

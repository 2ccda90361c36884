"""
The HAProxy of one service: started, replaced without a gap, started anew after its death.

The listening socket is ours, and each process inherits it. So while one takes over from another, or
a dead one is being replaced, new connections wait in the kernel's queue; only those that a dead
process had in hand are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud import balancer_adoption as adoption
from exotide.cloud.balancer_config import LISTENER, Manner
from exotide.cloud.balancer_runtime import Row, Runtime
from exotide.cloud.servers.errors import BalancerFailed
from exotide.cloud.servers.lasting import Lasting
from exotide.cloud.servers.namespaces import entered
from exotide.cloud.servers.network import in_namespace
from exotide.cloud.servers.programs import SYSTEM_PATH, find

DRAIN_WITHIN_S: Final = 60.0
"""Connections that are still open then are cut."""
READY_WITHIN_S: Final = 10.0
BACKLOG: Final = 4096
"""Connections that may wait while no process takes them."""
LONGEST_PATH: Final = 90
"""HAProxy binds a longer, temporary name first; the kernel allows 107 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service runs, and how."""

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
    manner: Manner = "attentive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a process shall do."""

    name: str
    """Of the service, for messages."""
    port: int
    text: Callable[[Path], str]
    """Gives the configuration, by the path of the process's own socket."""


class Haproxy:
    """One process after the other behind one listening socket."""

    def __init__(self, stem: str, place: Place) -> None:
        """
        Nothing happens yet.

        Args:
            stem: What the names of the service's files begin with.
        """
        self._stem, self._place = stem, place
        self._generation = 0
        self._process: Process | Lasting | None = None
        self._listener: socket.socket | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._left = False
        self.runtime = Runtime(place.folder)

    @property
    def pid(self) -> int | None:
        """Process id; None before the first start and after the end."""
        return self._process.pid if self._process else None

    @property
    def dead(self) -> bool:
        """Whether there is no process that could serve."""
        return self._process is None or self._process.returncode is not None

    async def launch(self, wish: Wish) -> None:
        """
        Start a process; a living predecessor finishes what it has.

        Raises:
            BalancerFailed: with HAProxy's words; the predecessor serves on.
        """
        self._generation += 1
        stem = self._place.folder / f"{self._stem}-{self._generation}"
        runtime, config = Runtime(stem.with_suffix(".sock")), stem.with_suffix(".cfg")
        if len(str(runtime.socket)) > LONGEST_PATH:
            raise BalancerFailed(
                f"{runtime.socket} is too long for a socket; use a shorter run folder"
            )
        config.write_text(wish.text(runtime.socket))
        listener = self._listening(wish)
        try:
            process = await self._start(config, listener)
            await self._await_ready(process, runtime, wish.name)
        except BalancerFailed:
            if listener is not self._listener:
                listener.close()
            raise
        old, self._process, self.runtime = self._process, process, runtime
        if self._listener is not None and listener is not self._listener:
            self._listener.close()
        self._listener = listener
        self._forget_files(besides=stem.name)
        if old is not None and old.returncode is None:
            self._retire(old)

    async def adopt(self, pids: Sequence[int]) -> tuple[str, Mapping[str, Row]] | None:
        """
        Take over what a predecessor started: its configuration without members, and its members.

        Args:
            pids: Processes of the balancer's control group.
        """
        found = await adoption.find(self._place.folder, self._stem, pids)
        if found is None:
            return None
        self._process, self.runtime = found.process, found.runtime
        self._generation, self._listener = found.generation, found.listener
        return found.text, found.rows

    async def leave(self) -> None:
        """Watch no more; it serves on."""
        self._left = True
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if isinstance(self._process, Lasting):
            self._process.leave()
        self._close()

    async def stop(self) -> None:
        """End it and its connections."""
        await self._kill(self._process)
        self._process = None
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        self._close()
        self._forget_files()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listening(self, wish: Wish) -> socket.socket:
        if self._listener is not None and self._listener.getsockname()[1] == wish.port:
            return self._listener
        address, namespace = (self._place.ip, wish.port), self._place.namespace

        def listen() -> socket.socket:
            return socket.create_server(address, backlog=BACKLOG)

        try:
            return listen() if namespace is None else in_namespace(namespace, listen)
        except OSError as error:
            raise BalancerFailed(
                f"service {wish.name} cannot listen on {address[0]} port {wish.port}: "
                f"{error.strerror}; end what uses that port, or choose another"
            ) from error

    async def _start(self, config: Path, listener: socket.socket) -> Process | Lasting:
        old = [] if self.dead else ["-sf", str(self.pid)]
        haproxy = [find("haproxy"), "-db", "-q", "-f", str(config), *old]
        where = self._place.namespace
        # In a namespace the next start finds what a killed cloud left; elsewhere it must not stay.
        enter = (
            [find("nsenter"), f"--net={where}"]
            if where is not None
            else [find("setpriv"), "--pdeathsig", "KILL", "--"]
        )
        command = entered(self._place.entrances, [*enter, *haproxy])
        environment = {"PATH": SYSTEM_PATH, LISTENER: str(listener.fileno())}
        inherited = [listener.fileno()]
        if self._place.lasts:
            return Lasting.spawn(command, env=environment, log=self._log, inherited=inherited)
        with self._log.open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for the cloud
            )

    async def _await_ready(self, process: Process | Lasting, runtime: Runtime, name: str) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + READY_WITHIN_S
        while True:
            try:
                await runtime.rows()
            except (BalancerFailed, KeyError) as error:
                if process.returncode is not None or loop.time() > deadline_s:
                    await self._kill(process)
                    raise BalancerFailed(
                        f"HAProxy did not start for service {name}: {self._last_words()}"
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
            await asyncio.wait_for(process.wait(), self._place.drain_within_s)
        except (TimeoutError, asyncio.CancelledError):
            if self._left:  # it has its orders: it ends with its last connection
                return
            await self._kill(process)

    async def _kill(self, process: Process | Lasting | None) -> None:
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _forget_files(self, *, besides: str = "") -> None:
        """Remove configurations and sockets, except of one generation: an old one has read its."""
        for path in self._place.folder.glob(f"{self._stem}-*"):
            if path.stem != besides:
                path.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self._place.folder / f"{self._stem}.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it said nothing; its log was {self._log}"

"""A server whose PID 1 outlives the cloud: orders reach it through a FIFO in its folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from exotide.cloud.ports import ServerFailed
from exotide.cloud.servers.lasting import Lasting, recall, remember
from exotide.cloud.servers.machine import BOOT_WITHIN_S, DEAD_WITHIN_S, Machine, lines
from exotide.cloud.servers.roles import ENVIRONMENT, Program

RECORD: Final = "pid-1.json"
"""There once the server has booted: without it, what is found is half-made."""


class KeptMachine(Machine):
    """PID 1 of a server, from its power-on, or from its adoption, to its end."""

    _lasting: Lasting | None = None

    async def boot(self, programs: Sequence[Program], died: Callable[[str], None]) -> None:
        """Start PID 1; returns when it has started its programs. As in Machine."""
        config = self._configure(programs)
        self._record.unlink(missing_ok=True)
        self._orders.unlink(missing_ok=True)
        os.mkfifo(self._orders, 0o600)
        owned = [config, self._orders, *self._program_logs(programs)]
        await asyncio.to_thread(self._housing.prepare, owned)
        hears, says = os.pipe()
        try:
            self._lasting = Lasting.spawn(
                self._command(config),
                env=ENVIRONMENT | self._housing.environment,
                log=self.folder.logs / "init.log",
                stdout=says,
            )
        finally:
            os.close(says)
        listening = asyncio.create_task(self._listen(hears))
        self._reader = asyncio.create_task(self._follow_lasting(self._lasting, died, listening))
        await self._until_booted()
        if not self._booted.is_set():
            await self.halt(grace_s=0.0)
            raise ServerFailed(f"server {self.spec.name} did not boot: {self._last_words()}")
        remember(self._record, self._lasting)

    def adopt(self, pids: Sequence[int], died: Callable[[str], None]) -> bool:
        """
        Take over the PID 1 that a predecessor booted; False if it does not run any more.

        Args:
            pids: Processes of the server's control group.
        """
        self._lasting = recall(self._record, among=pids)
        if self._lasting is None:
            return False
        self._booted.set()
        self._reader = asyncio.create_task(self._follow_lasting(self._lasting, died, None))
        return True

    async def halt(self, *, grace_s: float) -> None:
        """Ask every program to end, wait up to `grace_s`, then kill what is left."""
        self._stopping = True
        if self._lasting is None or self._reader is None:
            return
        self._order(f"stop {grace_s}\n")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace_s + 1.0)
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._lasting.kill()
        await asyncio.wait({self._reader}, timeout=DEAD_WITHIN_S)

    async def leave(self) -> None:
        """Watch no more; the server runs on."""
        self._stopping = True
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._lasting is not None:
            self._lasting.leave()

    def listening(self) -> set[int]:
        """Give the TCP ports that listen inside the server."""
        if self._lasting is None or self.ended.is_set():
            return set()
        return self._housing.listening(self._lasting.pid)

    def _config(self, programs: Sequence[Program]) -> dict[str, object]:
        return super()._config(programs) | {"orders": self._housing.fit(str(self._orders))}

    async def _until_booted(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._booted, self.ended)]
        try:
            await asyncio.wait(waits, timeout=BOOT_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _listen(self, descriptor: int) -> None:
        """Hear PID 1's events for as long as we live."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        try:
            async for line in lines(reader):
                self._hear(line)
        finally:
            transport.close()

    async def _follow_lasting(
        self, process: Lasting, died: Callable[[str], None], listening: asyncio.Task[None] | None
    ) -> None:
        try:
            await process.wait()
        finally:
            if listening is not None:
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await listening
        await self._housing.vacate()
        self.ended.set()
        if self._booted.is_set() and not self._stopping:
            died(f"PID 1 ended; its log is {self.folder.logs / 'init.log'}")

    def _order(self, words: str) -> None:
        with contextlib.suppress(OSError):  # it has ended
            descriptor = os.open(self._orders, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, words.encode())
            finally:
                os.close(descriptor)

    @property
    def _record(self) -> Path:
        return self.folder.path / RECORD

    @property
    def _orders(self) -> Path:
        return self.folder.path / "orders"

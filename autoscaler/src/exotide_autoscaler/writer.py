"""
The one thread that touches the journal.

Work that waits together is committed together (one transaction, one fsync), so a thousand webhooks
in a second cost a few commits and each of them is answered only after its commit. Each piece has a
savepoint of its own, so that one that fails takes no other with it. A slow disk delays nobody but
those who need it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from exotide_autoscaler.errors import JournalError
from exotide_autoscaler.journal import Journal

T = TypeVar("T")
_LARGEST_BATCH: Final = 1000
_DEADLINE_S: Final = 10.0


@dataclass(slots=True, kw_only=True)
class _Job:
    work: Callable[[Journal], Any]
    done: asyncio.Future[Any]
    result: Any = field(default=None)
    error: Exception | None = None


class Writer:
    """Adapter of ports.Scribe. Make it inside the running event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._journal = Journal(connection)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._thread.start()
        self.healthy = True
        """Whether the latest commit succeeded."""

    async def run(self, work: Callable[[Journal], T]) -> T:
        """
        Return what `work` returns, once it is on the disk.

        Raises:
            JournalError: the disk is full, broken or too slow; nothing may be relied on.
        """
        job = _Job(work=work, done=self._loop.create_future())
        self._jobs.put(job)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                result: T = await job.done
        except sqlite3.Error as error:
            raise JournalError(f"the journal could not be written: {error}") from error
        except TimeoutError as error:
            self.healthy = False
            raise JournalError(f"the disk did not answer within {_DEADLINE_S:g} s") from error
        return result

    def close(self, timeout_s: float) -> None:
        """Commit what waits and close the file, unless the disk hangs."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while (batch := self._next_batch()) is not None:
            error = self._commit(batch)
            try:
                self._loop.call_soon_threadsafe(self._resolve, batch, error)
            except RuntimeError:  # the loop is closed: nobody waits for an answer
                break
        self._connection.close()

    def _next_batch(self) -> list[_Job] | None:
        job = self._jobs.get()
        batch = []
        while job is not None:
            batch.append(job)
            if len(batch) == _LARGEST_BATCH or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if batch:
            self._jobs.put(None)
            return batch
        return None

    def _commit(self, batch: Sequence[_Job]) -> Exception | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._do(job)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for this batch
            self._roll_back()
            return error
        return None

    def _do(self, job: _Job) -> None:
        """Do one piece of work; what it did before it failed is undone."""
        self._connection.execute("SAVEPOINT piece")
        try:
            job.result = job.work(self._journal)
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite gave up the whole batch
                raise
            self._connection.execute("ROLLBACK TO piece")
            job.error = error
        self._connection.execute("RELEASE piece")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:  # SQLite rolled back by itself
                return

    def _resolve(self, batch: Sequence[_Job], error: Exception | None) -> None:
        failures = [error or job.error for job in batch]
        self.healthy = not any(isinstance(each, sqlite3.Error) for each in failures)
        for job, failure in zip(batch, failures, strict=True):
            if job.done.done():
                continue
            if failure is None:
                job.done.set_result(job.result)
            else:
                job.done.set_exception(failure)

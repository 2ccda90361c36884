"""Keeps a world in its state folder: what was answered is on the disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from exotide.cloud.api.operations import OperationState
from exotide.cloud.api.world import World
from exotide.cloud.errors import StateDamaged, StateUnusable
from exotide.cloud.state.codec import decode, encode
from exotide.cloud.state.shape import OPERATIONS, PARTS, Part
from exotide.cloud.state.store import Changes, Key, Store

_log: Final = structlog.get_logger(__name__)

GATHER_S: Final = 0.02
"""Changes that no request waits for are written together."""


class Keeper:
    """
    Compares the world with what is stored and writes the difference.

    Comparing costs about 3 us for each thing that exists; finished operations cost nothing. The
    disk is written by a thread, so that reads are answered meanwhile.
    """

    def __init__(self, store: Store, world: World) -> None:
        self._store, self._world = store, world
        self._stored: dict[str, dict[str, int]] = {part.name: {} for part in PARTS}
        """Hash of the stored form."""
        self._ended: set[str] = set()
        """Operations that never change again."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state-writer")
        self._turn = asyncio.Lock()
        self._asked = self._written = 0
        self._soon: asyncio.Task[None] | None = None
        self._closed = False

    def load(self) -> None:
        """
        Fill the world with what is stored; a new folder leaves it as it is.

        Raises:
            StateDamaged: Something of it cannot be read; names it.
        """
        names = {part.name for part in PARTS}
        rows = [row for row in self._store.read() if row[0] in names]
        for part in PARTS:
            mine = {key: text for kind, key, text in rows if kind == part.name}
            if rows:
                part.replace(self._world, {key: self._read(part, key, mine[key]) for key in mine})
            self._stored[part.name] = {key: hash(text) for key, text in mine.items()}
            if part.name == OPERATIONS:
                for key, text in mine.items():
                    self._note_end(key, text)

    def _read(self, part: Part, key: str, text: bytes) -> object:
        try:
            return decode(part.kind, text)
        except ValueError as error:
            raise StateDamaged(self._store.file, f"{part.name} {key}: {error}") from error

    async def commit(self) -> None:
        """
        Return when everything that the world is now is on the disk.

        Raises:
            StateUnusable: The disk refuses; the next commit tries again.
        """
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._written >= mine or self._closed:
                return  # another request's transaction had it
            upto, changes = self._asked, self._difference()
            if changes:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._store.write, changes)
                self._remember(changes)
            self._written = upto

    def touch(self) -> None:
        """Commit soon: something changed that nobody waits for."""
        if self._soon is None and not self._closed:
            self._soon = asyncio.get_running_loop().create_task(self._commit_soon())

    async def close(self) -> None:
        """Write what there is, and nothing of what happens to the world after."""
        try:
            await self.commit()
        except StateUnusable as error:
            _log.error("state_not_kept", reason=str(error))
        self._closed = True
        if self._soon is not None:
            self._soon.cancel()
        self._thread.shutdown()

    async def _commit_soon(self) -> None:
        await asyncio.sleep(GATHER_S)
        self._soon = None
        try:
            await self.commit()
        except StateUnusable as error:
            _log.error("state_not_kept", reason=str(error))

    def _difference(self) -> Changes:
        put: dict[Key, bytes] = {}
        gone: list[Key] = []
        for part in PARTS:
            stored, present = self._stored[part.name], part.items(self._world)
            for key, value in present.items():
                if key in self._ended:
                    continue
                text = encode(value)
                if stored.get(key) != hash(text):
                    put[part.name, key] = text
            gone += [(part.name, key) for key in stored.keys() - present.keys()]
        return Changes(put=put, gone=gone)

    def _remember(self, changes: Changes) -> None:
        for (kind, key), text in changes.put.items():
            self._stored[kind][key] = hash(text)
            if kind == OPERATIONS:
                self._note_end(key, text)
        for kind, key in changes.gone:
            del self._stored[kind][key]
            self._ended.discard(key)

    def _note_end(self, key: str, text: bytes) -> None:
        """Only what is stored in its last form counts; an operation never leaves that state."""
        operation = self._world.operations.known.get(key)
        if operation is None or operation.state is OperationState.PENDING:
            return
        if encode(operation) == text:
            self._ended.add(key)

"""What the driver of process servers remembers of each of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers import shares
from exotide.cloud.servers.machine import Bootable
from exotide.cloud.servers.meters import Meter
from exotide.cloud.servers.roles import Program

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Server:
    """One server that was started and not yet stopped."""

    spec: ServerSpec
    demand: shares.Demand
    machine: Bootable
    meter: Meter
    programs: tuple[Program, ...] = ()
    booting: bool = True
    """Its CPU limit is lifted: a boot under a fraction of a core takes seconds."""
    settling: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class Slot:
    """Serialises what happens to one server; `stopping` ends a boot that is under way."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    starts: int = 0
    """Calls of `start` that have not returned."""


class Mortal(ABC):
    """What servers do that end with their cloud: a successor finds nothing to adopt."""

    @abstractmethod
    async def close(self) -> None:
        """Stop every server and remove every trace."""

    async def leave(self) -> None:
        """Stop every server, as `close` does."""
        await self.close()

    async def adopt(self, spec: ServerSpec) -> bool:
        """Find no server of a predecessor; False."""
        return not spec.id

    async def prune(self, known: Collection[str]) -> None:
        """Find nothing: `open` removed what a predecessor left."""
        log.debug("nothing_to_prune", known=len(known))

"""What the core asks of the world: pools, a clock, somebody who writes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from exotide_autoscaler.domain import Instant, Member, Pool

if TYPE_CHECKING:
    from exotide_autoscaler.journal import Journal

T = TypeVar("T")


class Pools(Protocol):
    """
    The one pool that this program scales.

    Adapters: pools.ExoscalePools, pools.MeasuredPools around another one.
    """

    async def get(self) -> Pool:
        """
        Read the pool.

        Raises:
            CloudError: it could not be read; nothing is known.
        """

    async def scale(self, size: int) -> None:
        """
        Ask for an absolute size, so that a repeated call is harmless. Does not wait for it.

        Raises:
            CloudError: its `outcome_unknown` tells whether the size may have changed.
        """

    async def evict(self, victims: tuple[str, ...]) -> None:
        """
        Ask that exactly these members go. Does not wait for it.

        Raises:
            CloudError: its `outcome_unknown` tells whether they may have gone.
        """

    async def members(self) -> tuple[Member, ...]:
        """
        Tell what the list of instances says of the pool's members; it may lag behind the pool.

        Raises:
            CloudError: it could not be read.
        """

    async def failing(self) -> frozenset[str]:
        """
        Public addresses of members that fail the load balancer's health check.

        Raises:
            CloudError: it could not be read, or the key may not read it.
        """


class Clock(Protocol):
    """Adapters: clock.SystemClock, and in tests one that is moved by hand."""

    def now(self) -> Instant:
        """The present moment on the wall clock and on the monotonic clock."""


class Scribe(Protocol):
    """Runs work on the journal, one piece after the other, durably. Adapter: journal.Writer."""

    async def run(self, work: Callable[[Journal], T]) -> T:
        """
        Return what `work` returns, once it is on the disk.

        Raises:
            JournalError: nothing of it may be relied on.
        """

"""What the API says of the stack, through the official SDK."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Protocol

from exotide.stack.api import connect
from exotide.stack.destroy import remove_whole
from exotide.stack.resources import Resource
from exotide.stack.settings import StackSettings
from exotide.stack.waiting import Patience
from exotide.stack.watch import Watch

from .leftovers import Belonging, Found, find

LOOK_EVERY_S = 10.0
_REMOVE_WITHIN_S = 120.0


class Cloud(Protocol):
    """Adapters: ApiCloud, and a scripted one in the tests. Its calls may take a while."""

    def find(self, ids: Collection[str], *, iam: bool) -> Found:
        """
        List everything of the stack that exists, in the order in which it can be removed.

        Args:
            ids: What the state knows; it belongs to the stack whatever its name.
            iam: Whether it can have roles and keys.

        Raises:
            StackError: It could not look.
        """

    def remove(self, resource: Resource) -> None:
        """Remove one; what is gone already is fine. Raises StackError."""

    def watch(self, pool_id: str) -> None:
        """Begin to look at the pool, from time to time."""

    def pool_size(self) -> int | None:
        """The pool's size; None if it is not known."""

    def hurry(self) -> None:
        """Let a call that waits for the cloud end at once, with Interrupted."""


class ApiCloud:
    """
    The real one; close it to end what it began.

    Args:
        settings: Their endpoint is that of the stack's zone.
    """

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings
        self._patience = Patience(limit_s=_REMOVE_WITHIN_S, stop=threading.Event())
        self._watch: Watch[int] | None = None

    def find(self, ids: Collection[str], *, iam: bool) -> Found:
        """List everything of the stack that exists."""
        with connect(self._settings) as api:
            return find(api, Belonging(name=self._settings.name, ids=ids), iam=iam)

    def remove(self, resource: Resource) -> None:
        """Remove one."""
        with connect(self._settings, self._patience) as api:
            remove_whole(api, resource)

    def watch(self, pool_id: str) -> None:
        """Begin to look at the pool."""
        settings = self._settings

        def look() -> int:
            with connect(settings) as api:
                return int(api.call("get_instance_pool", id=pool_id)["size"])

        self.close()
        self._watch = Watch("pool", look, period_s=LOOK_EVERY_S)

    def pool_size(self) -> int | None:
        """The pool's size."""
        return None if self._watch is None else self._watch.latest(max_age_s=3 * LOOK_EVERY_S)

    def hurry(self) -> None:
        """Let a call that waits end at once."""
        self._patience.stop.set()

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

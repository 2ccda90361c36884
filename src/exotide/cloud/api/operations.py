"""
Operations: the answer to every mutation, and the work that goes on behind it.

The first answer always says pending, as the real API's does; the work runs as a task, and the
stored operation follows it. Finished operations stay readable for long after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from exotide.cloud.api.errors import FailureReason, NotFound, OperationFailed
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]
Around = Callable[[Work | None, str, str], Work | None]
"""Changes the work of an operation; zone and the resource's id tell what it is about."""

KEPT: Final = 10_000
"""Operations that stay readable; the oldest that have ended are forgotten first."""


def _as_it_is(work: Work | None, _zone: str, _key: str) -> Work | None:
    return work


class OperationState(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The resource that an operation is about; for parts (rules, services) it is the parent."""

    kind: str
    """As in paths: instance-pool, load-balancer, ..."""
    id: str


@dataclass(slots=True, kw_only=True)
class Operation:
    id: str
    zone: str
    reference: Reference
    state: OperationState = OperationState.PENDING
    reason: FailureReason | None = None
    message: str = ""
    has_work: bool = False
    """Whether more belongs to it than what was done when it was accepted."""

    def view(self) -> dict[str, object]:
        """Return the operation as the API shows it."""
        kind, key = self.reference.kind, self.reference.id
        shown: dict[str, object] = {
            "id": self.id,
            "state": str(self.state),
            "reference": {"id": key, "link": f"/v2/{kind}/{key}", "command": f"get-{kind}"},
        }
        if self.reason is not None:
            shown |= {"reason": str(self.reason), "message": self.message}
        return shown


@dataclass(slots=True, kw_only=True)
class Background:
    """The tasks of one cloud; all end with it."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    on_change: Callable[[], None] = lambda: None
    """Called when work begins and ends: the world may have changed since the last request."""

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run something that outlives the request which caused it."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        self.on_change()
        task.add_done_callback(self._ended)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def close(self) -> None:
        """Cancel everything and wait for it to end."""
        while self.tasks:
            for task in list(self.tasks):
                task.cancel()
            await asyncio.wait(self.tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.on_change()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_work_failed", exc_info=error)


@dataclass(slots=True, kw_only=True)
class Operations:
    """All operations of one cloud."""

    background: Background
    new_id: Callable[[], str]
    delay_s: float = 0.0
    """Seconds that every operation stays pending before its work begins."""
    around: Around = _as_it_is
    known: dict[str, Operation] = field(default_factory=dict)

    def start(
        self,
        *,
        zone: str,
        kind: str,
        key: str,
        work: Work | None = None,
    ) -> dict[str, object]:
        """Accept a mutation and answer its first view; `work` runs from the next turn on."""
        reference = Reference(kind=kind, id=key)
        operation = Operation(
            id=self.new_id(), zone=zone, reference=reference, has_work=work is not None
        )
        self.known[operation.id] = operation
        self._forget_old()
        answer = operation.view()
        work = self.around(work, zone, key)
        if work is None and self.delay_s <= 0:
            operation.state = OperationState.SUCCESS
        else:
            self.background.spawn(self._run(operation, work))
        return answer

    def resume(self, operations: Sequence[Operation], work: Work) -> None:
        """Go on with work that a restart cut short; all these operations end as it ends."""
        shared = asyncio.ensure_future(work())
        for operation in operations:
            self.background.spawn(self._run(operation, lambda: shared))

    def settle_after_restart(self, operation: Operation) -> None:
        """End an operation that has nothing left to do: done, if accepting it was all of it."""
        if operation.has_work:
            self._fail(
                operation,
                FailureReason.INTERRUPTED,
                "the cloud was restarted meanwhile; look at the resource and ask again if needed",
            )
        else:
            operation.state = OperationState.SUCCESS

    def get(self, zone: str, operation_id: str) -> Operation:
        """
        Find an operation.

        Raises:
            NotFound: There is none with this id in this zone.
        """
        operation = self.known.get(operation_id)
        if operation is None or operation.zone != zone:
            raise NotFound.of("operation", operation_id)
        return operation

    async def _run(self, operation: Operation, work: Work | None) -> None:
        if self.delay_s > 0:
            await asyncio.sleep(self.delay_s)
        try:
            if work is not None:
                await work()
        except OperationFailed as error:
            self._fail(operation, error.reason, str(error))
        except CloudFault as error:
            self._fail(operation, FailureReason.FAULT, str(error))
        except Exception:  # noqa: BLE001 - the operation must end; the log has the traceback
            _log.exception("operation_crashed", operation=operation.id)
            self._fail(operation, FailureReason.UNKNOWN, "the emulator failed; see its log")
        else:
            operation.state = OperationState.SUCCESS

    def _fail(self, operation: Operation, reason: FailureReason, message: str) -> None:
        operation.state = OperationState.FAILURE
        operation.reason, operation.message = reason, message
        _log.warning(
            "operation_failed",
            operation=operation.id,
            kind=operation.reference.kind,
            about=operation.reference.id,
            reason=str(reason),
            message=message,
        )

    def _forget_old(self) -> None:
        if len(self.known) <= KEPT:
            return
        for key, operation in self.known.items():
            if operation.state is not OperationState.PENDING:
                del self.known[key]
                return

"""The loop: ask who the members are, write it down, wait; through errors of any length."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from .errors import CloudUnavailable, RefreshError
from .metrics import Metrics
from .pools import Pools
from .settings import Settings
from .targets import Pool, count_skipped, render
from .writer import write_if_changed

DEADLINE_S: Final = 10.0
MAX_HANGING: Final = 4


@dataclass(slots=True, kw_only=True)
class Agent:
    """Keeps the targets file equal to the pool; `stop` ends it at any moment, also in a call."""

    settings: Settings
    connect: Callable[[], Pools]
    """Makes a client; called again after a call that did not come back."""
    metrics: Metrics
    log: FilteringBoundLogger
    stop: Future[None] = field(default_factory=Future)
    """Done when the program shall end."""
    deadline_s: float = DEADLINE_S
    """How long all calls of one pass may take together."""
    failures: int = 0
    """Passes that failed since the last success."""
    calls: list[Future[Pool]] = field(default_factory=list)
    """Calls that have not come back, at the latest look."""
    _pools: Pools | None = None

    def run(self) -> None:
        """Refresh at once, then every `refresh_s`, until `stop` is done."""
        while not self.stop.done():
            began = time.monotonic()  # never jumps, whatever happens to the wall clock
            self.refresh()
            pause_s = began + self.settings.refresh_s - time.monotonic()
            wait([self.stop], timeout=max(pause_s, 0.0))

    def refresh(self) -> None:
        """Do one pass. A pass that fails leaves the targets file as it is."""
        try:
            with self.metrics.pass_seconds.time():
                pool = self._members()
                if pool is None:
                    return
                content = render(pool, zone=self.settings.zone, port=self.settings.target_port)
                changed = write_if_changed(self.settings.targets_file, content)
        except RefreshError as error:
            self._failed(error)
        else:
            self._succeeded(pool, changed=changed)

    def _members(self) -> Pool | None:
        """Return the pool, or None if the program shall end before it is known."""
        call = self._begin_call()
        either: tuple[Future[Any], ...] = (call, self.stop)
        wait(either, timeout=self.deadline_s, return_when=FIRST_COMPLETED)
        if call.done():
            return call.result()
        self._pools = None  # it is still busy; the next pass gets a new one
        if self.stop.done():
            return None
        raise CloudUnavailable(f"no whole answer within {self.deadline_s:g} s")

    def _begin_call(self) -> Future[Pool]:
        """Ask on a daemon thread, so that a call that hangs delays nothing, least of all TERM."""
        self.calls = [call for call in self.calls if not call.done()]
        if len(self.calls) >= MAX_HANGING:
            raise CloudUnavailable(f"{MAX_HANGING} earlier calls still wait for their answers")
        pools = self._pools = self._pools or self.connect()
        call: Future[Pool] = Future()
        self.calls.append(call)
        threading.Thread(target=_fulfil, args=(call, pools.get), name="api", daemon=True).start()
        return call

    def _succeeded(self, pool: Pool, *, changed: bool) -> None:
        skipped = count_skipped(pool.instances)
        self.metrics.last_success.set(time.time())
        self.metrics.fresh.set(1)
        self.metrics.targets.set(len(pool.members))
        self.metrics.skipped.set(skipped)
        self.metrics.writes.inc(int(changed))
        self.log.info(
            "refreshed",
            targets=len(pool.members),
            skipped=skipped,
            changed=changed,
            after_failures=self.failures,
        )
        self.failures = 0

    def _failed(self, error: RefreshError) -> None:
        self.failures += 1
        self.metrics.fresh.set(0)
        self.metrics.errors.labels(error.kind).inc()
        report = self.log.error if error.needs_action else self.log.warning
        report(
            "refresh_failed",
            kind=error.kind,
            error=str(error),
            failures=self.failures,
            kept=str(self.settings.targets_file),
            next_try_s=self.settings.refresh_s,
        )


def _fulfil(call: Future[Pool], get: Callable[[], Pool]) -> None:
    try:
        call.set_result(get())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is read
        call.set_exception(error)

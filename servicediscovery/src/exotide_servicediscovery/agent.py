"""The loop: ask who the members are, write it down, wait; through errors of any kind and length."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from .errors import CloudUnavailable, RefreshError, Unexpected
from .metrics import Metrics
from .pools import Pools
from .settings import Settings
from .targets import Pool, render
from .writer import write_if_changed

DEADLINE_S: Final = 10.0
FIRST_RETRY_S: Final = 1.0


def pause_s(failures: int, *, refresh_s: float) -> float:
    """How long to wait after so many failures in a row: soon, and then less and less often."""
    if not failures:
        return refresh_s
    return min(refresh_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 20))


@dataclass(slots=True, kw_only=True)
class Agent:
    """Keeps the targets file equal to the pool."""

    settings: Settings
    pools: Pools
    metrics: Metrics
    log: FilteringBoundLogger
    deadline_s: float = DEADLINE_S
    """How long all calls of one pass may take together."""
    failures: int = 0
    """Passes that failed since the last success."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why members are no targets, by their ids, at the last success."""

    async def run(self) -> None:
        """Refresh at once, then every `refresh_s`, until cancelled; no failure ends it."""
        while True:
            began = time.monotonic()  # never jumps, whatever happens to the wall clock
            await self.refresh()
            spent_s = 0.0 if self.failures else time.monotonic() - began
            pause = pause_s(self.failures, refresh_s=self.settings.refresh_s)
            await asyncio.sleep(max(pause - spent_s, 0.0))

    async def refresh(self) -> None:
        """Do one pass. A pass that fails leaves the targets file as it is."""
        try:
            with self.metrics.pass_seconds.time():
                pool, changed = await self._keep()
        except RefreshError as error:
            self._failed(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(Unexpected(f"{type(error).__name__}: nobody asked for it"), trace=True)
        except BaseException as error:  # noqa: BLE001 - a bug may cost a pass and never the loop
            self._failed(Unexpected(f"{type(error).__name__}: {error}"), trace=True)
        else:
            self._succeeded(pool, changed=changed)

    async def _keep(self) -> tuple[Pool, bool]:
        """Return the pool, and whether the file had to be replaced."""
        try:
            async with asyncio.timeout(self.deadline_s):
                pool = await self.pools.get()
        except TimeoutError:
            text = f"no whole answers within {self.deadline_s:g} s"
            raise CloudUnavailable(text) from None
        content = render(pool, zone=self.settings.zone, port=self.settings.target_port)
        return pool, write_if_changed(self.settings.targets_file, content)

    def _succeeded(self, pool: Pool, *, changed: bool) -> None:
        self.metrics.last_success.set(time.time())
        self.metrics.fresh.set(1)
        self.metrics.targets.set(len(pool.members))
        self.metrics.skipped.set(len(pool.left_out))
        self.metrics.unusable.set(sum(bool(each.unusable) for each in pool.instances))
        self.metrics.writes.inc(int(changed))
        if pool.left_out != self.left_out:
            self.left_out = pool.left_out
            self.log.warning("members_left_out", members=self.left_out)
        self.log.info(
            "refreshed",
            targets=len(pool.members),
            skipped=len(pool.left_out),
            changed=changed,
            after_failures=self.failures,
        )
        self.failures = 0

    def _failed(self, error: RefreshError, *, trace: bool = False) -> None:
        self.failures += 1
        self.metrics.fresh.set(0)
        self.metrics.errors.labels(type(error).__name__).inc()
        report = self.log.error if error.needs_action else self.log.warning
        report(
            "refresh_failed",
            error=f"{type(error).__name__}: {error}",
            failures=self.failures,
            kept=str(self.settings.targets_file),
            next_try_s=pause_s(self.failures, refresh_s=self.settings.refresh_s),
            exc_info=trace,
        )

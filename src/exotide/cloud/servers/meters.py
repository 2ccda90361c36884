"""Keep every server's synthesised procfs fresh, five times a second, from a thread of its own."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.servers import procfs
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.procfs import ProcfsFolder

log = structlog.get_logger(__name__)

WRITE_EVERY_S: Final = 0.2
"""A 10 s window is then exact within half a point (measured); faster only costs CPU."""
SLOW_EVERY: Final = 5
"""Memory and load average change slowly: one write in five is enough."""
COUNTERS: Final = "counters.json"
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """One server's counters: reads its control group, writes its procfs; safe for threads."""

    def __init__(
        self,
        *,
        groups: Cgroups,
        group: str,
        folder: ProcfsFolder,
        vcpus: int,
        memory_bytes: int,
        host_cores: int,
    ) -> None:
        self._groups, self._group, self._folder = groups, group, folder
        self._vcpus, self._memory_bytes = vcpus, memory_bytes
        self._host_cores = float(host_cores)
        self._lock = threading.Lock()
        self._cores = self._host_cores
        self._turn = 0
        self._failed = False
        self._boot_time_s = 0.0
        self._counters = procfs.begin(usage_s=0.0, now_s=0.0)
        self.keeps_counters = False
        """Whether a successor may go on with them."""

    def resume(self) -> None:
        """Go on with a predecessor's counters, as if somebody had written them all the time."""
        with self._lock:
            try:
                kept = json.loads((self._folder.path / COUNTERS).read_text())
                self._cores, self._boot_time_s = float(kept["cores"]), float(kept["boot_time_s"])
                self._counters = procfs.Counters(**kept["counters"])
                self._counters = replace(self._counters, load=tuple(kept["counters"]["load"]))
            except (OSError, ValueError, KeyError, TypeError):
                fresh = True  # torn by a full disk: then it looks like a reboot
            else:
                fresh = False
        if fresh:
            self.begin()
        self.write()

    def withdraw(self) -> None:
        """Let the exporter fail: numbers that nobody keeps fresh would read as 100 % busy."""
        with self._lock:
            (self._folder.path / "stat").unlink(missing_ok=True)

    def begin(self) -> None:
        """Publish zeros, as a machine does at power-on."""
        with self._lock:
            self._folder.prepare()
            self._boot_time_s = time.time()
            self._counters = procfs.begin(
                usage_s=self._groups.usage_s(self._group), now_s=time.monotonic()
            )
            self._turn = 0
            self._publish()

    def limit(self, cores: float | None) -> None:
        """Change the server's limit; None lifts it. What was used before counts by the old one."""
        new = self._host_cores if cores is None else cores
        with self._lock:
            if new == self._cores:
                return
            self._advance()
            self._groups.limit(self._group, cores)
            self._cores = new

    def write(self) -> None:
        """Publish the counters as of now; a failure is logged once and tried again next time."""
        with self._lock:
            try:
                self._advance()
                self._publish()
            except OSError as error:
                if not self._failed:  # the exporter stops meanwhile, since the files are stale
                    log.warning("procfs_write_failed", group=self._group, reason=str(error))
                self._failed = True
            else:
                self._failed = False

    def _advance(self) -> None:
        self._counters = procfs.advance(
            self._counters,
            usage_s=self._groups.usage_s(self._group),
            now_s=time.monotonic(),
            cores=self._cores,
        )

    def _publish(self) -> None:
        pids = self._groups.pids(self._group)
        files = {
            "stat": procfs.render_stat(
                self._counters,
                vcpus=self._vcpus,
                boot_time_s=self._boot_time_s,
                processes=len(pids),
            ),
            "uptime": procfs.render_uptime(self._counters, vcpus=self._vcpus),
        }
        if self._turn % SLOW_EVERY == 0:
            files["loadavg"] = procfs.render_loadavg(
                self._counters, vcpus=self._vcpus, processes=len(pids)
            )
            files["meminfo"] = procfs.render_meminfo(
                total_bytes=self._memory_bytes, used_bytes=sum(map(_private_bytes, pids))
            )
        if self.keeps_counters:
            files[COUNTERS] = json.dumps(
                {
                    "cores": self._cores,
                    "boot_time_s": self._boot_time_s,
                    "counters": asdict(self._counters),
                }
            )
        self._turn += 1
        self._folder.publish(files)


class MeterThread:
    """Writes all meters in turn, undisturbed by a busy event loop."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._end.clear()
        self._thread = threading.Thread(target=self._run, name="procfs-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; fine if it does not run."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def add(self, server_id: str, meter: Meter) -> None:
        """Keep this meter fresh from now on."""
        with self._lock:
            self._meters[server_id] = meter

    def discard(self, server_id: str) -> None:
        """Forget this meter; its last write is over when this returns."""
        with self._lock:
            self._meters.pop(server_id, None)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._end.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + WRITE_EVERY_S, time.monotonic())
            with self._lock:
                for meter in self._meters.values():
                    meter.write()


def _private_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(words[1]) - int(words[2])) * PAGE_BYTES
    return 0

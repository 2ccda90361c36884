"""
A server's own /proc/stat and friends, so that a real node exporter reports this server's CPU.

The computation is pure and works on one average vCPU: what the control group used, divided by
what it was allowed, is the busy time; the rest of the time was idle. It adds up increments, so
a new limit changes the slope and never makes a counter jump or go back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = 100
"""USER_HZ: the unit of /proc/stat."""
MOST_OWED_S: Final = 0.5
"""How much busy time may wait to be shown: some limiter periods, and never a visible tail."""
LINKS: Final = (
    *("self", "thread-self", "1", "net", "sys", "mounts", "vmstat", "diskstats", "pressure"),
    *("cpuinfo", "filesystems", "version", "cmdline", "swaps", "interrupts", "softirqs"),
)
"""What the exporter reads from the real /proc of its own PID and network namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """CPU time of one average vCPU since boot; busy and idle add up to the time that passed."""

    busy_s: float
    idle_s: float
    owed_s: float
    """Busy time seen too early: the limiter hands out time in bursts, a vCPU is never > 100 %."""
    usage_s: float
    """What the control group's counter said last."""
    at_s: float
    """When it said so, on a clock that never goes back."""
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Busy vCPUs, averaged as the kernel averages the load: over 1, 5 and 15 minutes."""


def begin(*, usage_s: float, now_s: float) -> Counters:
    """Start at zero, as at boot."""
    return Counters(busy_s=0.0, idle_s=0.0, owed_s=0.0, usage_s=usage_s, at_s=now_s)


def advance(before: Counters, *, usage_s: float, now_s: float, cores: float) -> Counters:
    """
    Add what happened since the last call.

    Args:
        usage_s: The control group's CPU seconds; less than before means that it began anew.
        now_s: On the clock of `before.at_s`; an earlier time counts as no time.
        cores: Cores that the server was allowed since the last call.
    """
    passed = max(0.0, now_s - before.at_s)
    used = usage_s - before.usage_s if usage_s >= before.usage_s else usage_s
    owed = before.owed_s + used / cores
    busy = min(owed, passed)
    return Counters(
        busy_s=before.busy_s + busy,
        idle_s=before.idle_s + (passed - busy),
        owed_s=min(owed - busy, MOST_OWED_S),
        usage_s=usage_s,
        at_s=max(now_s, before.at_s),
        load=_averaged(before.load, busy=busy, passed=passed),
    )


def render_stat(counters: Counters, *, vcpus: int, boot_time_s: float, processes: int) -> str:
    """Write /proc/stat; `boot_time_s` is wall-clock time, `processes` those that exist now."""
    busy, idle = int(counters.busy_s * TICKS_PER_S), int(counters.idle_s * TICKS_PER_S)
    lines = [_cpu_line("cpu ", busy * vcpus, idle * vcpus)]
    lines += [_cpu_line(f"cpu{index}", busy, idle) for index in range(vcpus)]
    lines += [
        "intr 0",
        "ctxt 0",
        f"btime {int(boot_time_s)}",
        f"processes {processes}",
        f"procs_running {max(1, round(counters.load[0]))}",
        "procs_blocked 0",
        "softirq 0 0 0 0 0 0 0 0 0 0 0",
    ]
    return "\n".join(lines) + "\n"


def render_uptime(counters: Counters, *, vcpus: int) -> str:
    """Write /proc/uptime: seconds since boot, and idle seconds of all vCPUs."""
    up_s = counters.busy_s + counters.idle_s
    return f"{up_s:.2f} {counters.idle_s * vcpus:.2f}\n"


def render_loadavg(counters: Counters, *, vcpus: int, processes: int) -> str:
    """Write /proc/loadavg."""
    averages = " ".join(f"{value * vcpus:.2f}" for value in counters.load)
    return f"{averages} {max(1, round(counters.load[0] * vcpus))}/{processes} {processes}\n"


def render_meminfo(*, total_bytes: int, used_bytes: int) -> str:
    """Write /proc/meminfo: the instance type's memory, and what the server's processes hold."""
    total, free = total_bytes // 1024, max(0, total_bytes - used_bytes) // 1024
    values = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": free,
        "Buffers": 0,
        "Cached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    return "".join(f"{key + ':':<16}{value:>8} kB\n" for key, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcfsFolder:
    """The folder given to the exporter as --path.procfs."""

    path: Path

    def prepare(self) -> None:
        """Make the folder with its links; what this host's /proc lacks is left out."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in LINKS:
            link = self.path / name
            if not link.is_symlink() and os.path.lexists(f"/proc/{name}"):
                link.symlink_to(f"/proc/{name}")

    def publish(self, files: Mapping[str, str]) -> None:
        """
        Replace files as a whole: a reader sees the old or the new one, never a half.

        Raises:
            OSError: disk full or read-only; the last published files stay.
        """
        for name, text in files.items():
            temporary = self.path / f".{name}.new"
            temporary.write_text(text)
            temporary.replace(self.path / name)


def _cpu_line(name: str, busy: int, idle: int) -> str:
    return f"{name} {busy} 0 0 {idle} 0 0 0 0 0 0"


def _averaged(
    load: tuple[float, float, float], *, busy: float, passed: float
) -> tuple[float, float, float]:
    if passed <= 0.0:
        return load
    ratio = busy / passed
    one, five, fifteen = (
        value + (ratio - value) * -math.expm1(-passed / span_s)
        for value, span_s in zip(load, (60.0, 300.0, 900.0), strict=True)
    )
    return one, five, fifteen

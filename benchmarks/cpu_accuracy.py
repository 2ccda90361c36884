"""
How well servers keep to their CPU, and how well their exporter tells it, under each driver.

    python benchmarks/cpu_accuracy.py [processes] [loopback]

The truth is what the burners say of themselves: each process writes os.times() to a file of its
server, so neither control groups nor the governor are asked. The metric is read as Prometheus
reads it: a sample per second, and the increase of busy time over windows of 5 s; the exporter's
own CPU time, which it tells, belongs to the server and is added to the truth.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from exotide.cloud.firewall import OPEN
from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers.loopback.underlay import Loopback
from exotide.cloud.servers.namespaces import Namespaces
from exotide.cloud.servers.network import short
from exotide.cloud.servers.processes import ProcessServers
from exotide.cloud.servers.underlay import Underlay

SAMPLES: Final = 16
WINDOW: Final = 5
"""Samples, one per second; also the windows that overlap."""
SETTLED_AFTER_S: Final = 4.0
"""Servers have booted, and what they burnt before their limit came is no debt any more."""
METRICS: Final = re.compile(
    r'^(node_cpu_seconds_total\{cpu="0",mode="idle"\}|process_cpu_seconds_total) (\S+)$',
    re.MULTILINE,
)
BURN: Final = """
import os, subprocess, sys, time
kind, duty = sys.argv[1], float(sys.argv[2])
if kind == "children":
    for _ in range(2): os.fork()
name = f"used-{os.getpid()}"
def tell():
    with open(name + ".new", "w") as file: file.write(str(sum(os.times()[:4])))
    os.replace(name + ".new", name)
while True:
    end, used = time.monotonic() + 0.01, time.process_time()
    if kind == "churn":
        subprocess.run(["/bin/true"])
    else:
        while time.process_time() - used < duty * 0.01: pass
    tell()
    if duty < 1: time.sleep(max(0.0, end - time.monotonic()))
"""
Case: TypeAlias = tuple[str, float, int, float]
"""Kind of burner, its duty of a core, servers, cores of each."""
CASES: Final[tuple[Case, ...]] = (
    ("one", 1.0, 1, 0.25),
    ("one", 1.0, 5, 0.25),
    ("children", 1.0, 1, 0.25),
    ("churn", 1.0, 1, 0.25),
    ("one", 1.0, 10, 0.1),
    ("one", 0.125, 1, 0.25),
    ("one", 0.125, 5, 0.25),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One server at one moment; all in seconds."""

    at_s: float
    burnt_s: float
    idle_s: float
    exporter_s: float


def look(spec: ServerSpec, srv: Path) -> Sample:
    """Read truth and metric as close together as possible."""
    burnt_s = sum(float(file.read_text()) for file in srv.glob("used-*[0-9]"))
    url = f"http://{spec.ip}:9100/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        exporter_s, idle_s = (
            value for _, value in sorted(METRICS.findall(answer.read().decode()), reverse=True)
        )
    return Sample(
        at_s=time.monotonic(), burnt_s=burnt_s, idle_s=float(idle_s), exporter_s=float(exporter_s)
    )


def thread_s(name: str) -> float:
    """CPU seconds of a thread of this process."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            text = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
            return sum(map(int, text.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def summary(values: list[float]) -> str:
    """Write mean (least..most)."""
    return f"{statistics.mean(values):5.1f} ({min(values):.1f}..{max(values):.1f})"


async def measure(make: Callable[[Path, str], Underlay], case: Case, run_dir: Path) -> None:
    """Run one case and print its line."""
    kind, duty, count, cores = case
    cloud_id = uuid.uuid4().hex[:6]
    underlay = make(run_dir, cloud_id)
    servers = ProcessServers(
        cloud_id=cloud_id,
        run_dir=run_dir,
        cores_per_vcpu=cores,
        command=f"exec {sys.executable} -I -S -c {shlex.quote(BURN)} {kind} {duty}",
        underlay=underlay,
    )
    await servers.open()
    try:
        specs = [spec_of(servers, number) for number in range(count)]
        folders = [run_dir / cloud_id / short(spec.id) / "srv" for spec in specs]
        await asyncio.gather(*(servers.start(spec) for spec in specs))
        await asyncio.sleep(SETTLED_AFTER_S)
        print(line_of(underlay.name, case, await watch(specs, folders)), flush=True)
    finally:
        await servers.close(grace_s=0.2)


def spec_of(servers: ProcessServers, number: int) -> ServerSpec:
    """One server without a role."""
    return ServerSpec(
        id=str(uuid.uuid4()),
        name=f"burner-{number}",
        ip=servers.reserve_ip(),
        vcpus=1,
        memory_bytes=512 << 20,
        firewall=OPEN,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What was seen while the burners ran."""

    samples: list[list[Sample]]
    """By server, one per second."""
    governor_ratio: float
    writer_ratio: float
    """Parts of a core that limiting, and writing the synthesised procfs, took."""


async def watch(specs: list[ServerSpec], folders: list[Path]) -> Series:
    """Sample all servers once a second."""
    samples: list[list[Sample]] = [[] for _ in specs]
    began_s = time.monotonic()
    before = [thread_s(name) for name in ("governor", "procfs-writer")]
    for turn in range(SAMPLES):
        await asyncio.sleep(max(0.0, began_s + turn - time.monotonic()))
        seen = await asyncio.to_thread(lambda: list(map(look, specs, folders)))
        for row, sample in zip(samples, seen, strict=True):
            row.append(sample)
    passed_s = time.monotonic() - began_s
    after = [thread_s(name) for name in ("governor", "procfs-writer")]
    governor, writer = ((b - a) / passed_s for a, b in zip(before, after, strict=True))
    return Series(samples=samples, governor_ratio=governor, writer_ratio=writer)


def line_of(name: str, case: Case, series: Series) -> str:
    """Compare truth with limit and metric over all windows of all servers, in percent."""
    kind, duty, count, cores = case
    windows = [
        (row[at], row[at + WINDOW]) for row in series.samples for at in range(len(row) - WINDOW)
    ]
    truths, errors = [], []
    for old, new in windows:
        passed_s = new.at_s - old.at_s
        used_s = new.burnt_s - old.burnt_s + new.exporter_s - old.exporter_s
        truths.append(100 * used_s / passed_s)
        metric = 1 - (new.idle_s - old.idle_s) / passed_s
        errors.append(100 * (metric - min(1.0, used_s / cores / passed_s)))
    wish = "all" if duty >= 1 else f"{100 * duty:g} %"
    return (
        f"{name:<10} {kind:<9} wants {wish:<7} {count:>2} x {100 * cores:g} %"
        f"  used {summary(truths):<19}  metric - truth {summary(errors):<18}"
        f"  governor {100 * series.governor_ratio:.1f} %  writer {100 * series.writer_ratio:.1f} %"
    )


DRIVERS: Final[dict[str, Callable[[Path, str], Underlay]]] = {
    "processes": lambda _, cloud_id: Namespaces(cloud_id),
    "loopback": lambda run_dir, _: Loopback(run_dir),
}


def main() -> None:
    """Measure the drivers named, or those that can run here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    possible = list(DRIVERS) if os.geteuid() == 0 else ["loopback"]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; % of a core, of a vCPU; 5 s")
    for name in sys.argv[1:] or possible:
        for case in CASES:
            with tempfile.TemporaryDirectory(prefix="exo-") as folder:
                asyncio.run(measure(DRIVERS[name], case, Path(folder)))


if __name__ == "__main__":
    main()

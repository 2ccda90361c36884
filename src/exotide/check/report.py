"""The results as a table for people and as JSON for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .model import Result, Status

STYLES: Final = {
    Status.PASSED: "green",
    Status.LATE: "bold yellow",
    Status.FAILED: "bold red",
    Status.SKIPPED: "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run that has ended."""

    cloud: str
    """`exoscale` or `local`."""
    endpoint: str
    zone: str
    took_s: float
    results: tuple[Result, ...]
    left: tuple[str, ...] = ()
    """What could not be removed, and what to do about it."""
    stopped: int | None = None
    """Exit status of who was stopped half-way. None: all checks were made."""

    @property
    def passed(self) -> bool:
        """Whether all checks were made, nothing failed and nothing was left."""
        has_failed = any(each.status is Status.FAILED for each in self.results)
        return not (self.left or has_failed or self.stopped)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 something failed or is left, else that of a stop."""
        return self.stopped or (0 if self.passed else 1)

    @property
    def counts(self) -> dict[Status, int]:
        """How many checks ended how."""
        counted = Counter(each.status for each in self.results)
        return {status: counted[status] for status in Status}


def to_json(report: Report) -> str:
    """Write a report; the fields are those of the guide."""
    raw = {
        "passed": report.passed,
        "stopped": report.stopped is not None,
        "cloud": report.cloud,
        "endpoint": report.endpoint,
        "zone": report.zone,
        "took_s": report.took_s,
        "counts": report.counts,
        "checks": [asdict(each) for each in report.results],
        "left": report.left,
    }
    return msgspec.json.format(msgspec.json.encode(raw), indent=2).decode() + "\n"


def to_table(report: Report) -> RenderableType:
    """Draw a report; words say everything that colours do."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("result")
    table.add_column("part", justify="right")
    table.add_column("time", justify="right")
    table.add_column("what")
    table.add_column("seen")
    for each in sorted(report.results, key=lambda result: result.part):
        mark = each.status.upper() if each.status is Status.FAILED else each.status.value
        took = "" if each.status is Status.SKIPPED else f"{each.took_s:.1f} s"
        cells = (Text(mark, style=STYLES[each.status]), str(each.part), took)
        table.add_row(*cells, Text(each.says), Text(each.seen))
    lines = (*_advice(report.results), *_left(report), *_lateness(report), Text(summary(report)))
    return Group(table, Text(), *lines)


def summary(report: Report) -> str:
    """Say it in one line."""
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items())
    stopped = "; stopped before all were made, and cleaned up" if report.stopped else ""
    return f"{counts}, in {report.took_s:.0f} s{stopped}"


def _advice(results: Sequence[Result]) -> list[Text]:
    lines = []
    for each in results:
        if each.status is Status.FAILED:
            lines.append(Text.assemble(("FAILED ", STYLES[each.status]), each.says))
            lines.append(Text(f"  seen: {each.seen}"))
            lines.append(Text(f"  to do: {each.hint or 'see above'}\n"))
    return lines


def _lateness(report: Report) -> list[Text]:
    if not report.counts[Status.LATE]:
        return []
    return [Text("passed late: after the contract's time, before this run's patience was over\n")]


def _left(report: Report) -> list[Text]:
    return [Text(f"LEFT OVER {each}\n", style=STYLES[Status.FAILED]) for each in report.left]

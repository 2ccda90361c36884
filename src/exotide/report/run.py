"""A recorded run as a value, and as the JSON file of `exotide demo --json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from exotide.loadtest.sample import DecisionMark, Phase, Sample
from exotide.loadtest.verdict import Goals, Verdict, judge
from exotide.report.errors import RecordInvalid

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that a report needs, measured or given; everything else follows from it."""

    started_at: float
    """Unix time of the first sample."""
    wall_s: float
    """From the command's start until all was taken down, or as long as it took so far."""
    speed: float
    """How many times faster than the assignment's intervals."""
    member_rps: float
    """Requests per second that one member can answer at most."""
    member_type: str
    monitoring_type: str
    disk_gib: float
    goals: Goals
    samples: tuple[Sample, ...]
    decisions: tuple[DecisionMark, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    """What a reader needs to repeat the run; name to value with unit."""
    failure: str | None = None
    """Why the run ended early. None: it went to its end."""

    @property
    def verdict(self) -> Verdict:
        """The conditions, judged anew from the samples."""
        return judge(self.samples, self.goals)

    @property
    def passed(self) -> bool:
        """Whether the run went to its end and met every condition."""
        return self.failure is None and self.verdict.passed


def totals(run: Run) -> dict[str, int]:
    """Requests of the whole run."""
    return {
        "arrivals": sum(sample.arrivals or 0 for sample in run.samples),
        "completed": sum(sample.completed or 0 for sample in run.samples),
        "failed": sum(sample.failed or 0 for sample in run.samples),
    }


def to_json(run: Run) -> str:
    """The summary; docs/reference/demo-json.md describes each field."""
    checks = [asdict(check) | {"met": check.met} for check in run.verdict.checks]
    head = {
        "format": FORMAT,
        "passed": run.passed,
        "checks": checks,
        "max_serving": max((sample.serving or 0 for sample in run.samples), default=0),
        "requests": totals(run),
    }
    return json.dumps(head | asdict(run), indent=2) + "\n"


def from_json(text: str) -> Run:
    """
    Read a summary back, so that a report can be drawn again.

    Raises:
        RecordInvalid: not a summary, or of another format.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["format"] != FORMAT:
            raise RecordInvalid(f"format: expected {FORMAT}, got: {raw['format']}")
        names = Run.__dataclass_fields__
        values = {name: raw[name] for name in names}
        values["goals"] = Goals(**raw["goals"])
        values["samples"] = tuple(
            Sample(**(sample | {"phase": Phase(sample["phase"])})) for sample in raw["samples"]
        )
        values["decisions"] = tuple(DecisionMark(**mark) for mark in raw["decisions"])
        return Run(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordInvalid(f"not a summary of `exotide demo --json`: {error!r}") from error

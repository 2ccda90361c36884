"""A run made up by a small fluid model, for reports that need no cloud."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from exotide.demo.plan import Plan, Stage, advance, rate_rps
from exotide.loadtest.sample import DecisionMark, Phase, Sample
from exotide.loadtest.verdict import Goals
from exotide.report.run import Run


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Makes a run up; the same arguments give the same run."""
    return made_up_run


@pytest.fixture(scope="session")
def run() -> Run:
    """A run that went well."""
    return made_up_run()


def made_up_run(*, seed: int = 7, growth_at: tuple[int, ...] = (42, 92)) -> Run:
    plan, rng = Plan(), Random(seed)
    stage = Stage()
    samples: list[Sample] = []
    marks: list[DecisionMark] = []
    size, serving, backlog = 1, 1, 0.0
    shrunk_at: int | None = None
    busy = [0.05] * 10
    for now in range(400):
        stage = advance(stage, samples, plan, now_s=float(now))
        if stage.ended:
            break
        if now in growth_at and stage.phase is not Phase.QUIET:
            marks.append(mark(now, size, size + 1, "up"))
            size += 1
        if now - 3 in growth_at:
            serving = size
        due = 25 if shrunk_at is None else 50
        since = stage.since_s if shrunk_at is None else shrunk_at
        if stage.phase is Phase.QUIET and size > 1 and now - since >= due:
            marks.append(mark(now, size, size - 1, "down"))
            size, serving, shrunk_at = size - 1, serving - 1, now
        if now % 10 == 0 and not (marks and marks[-1].t_s == now):
            marks.append(mark(now, size, size, "none"))
        rate = rate_rps(stage, plan, now_s=float(now))
        arrivals = max(0, round(rng.gauss(rate, rate**0.5)))
        done = min(backlog + arrivals, serving * plan.member_rps * 0.94)
        backlog += arrivals - done
        busy = [*busy[1:], min(1.0, 0.06 + done / (serving * plan.member_rps))]
        wait = 0.12 + backlog / (serving * plan.member_rps)
        samples.append(
            Sample(
                t_s=float(now),
                phase=stage.phase,
                wanted=size,
                serving=serving,
                cpu_ratio=None if now in range(60, 63) else sum(busy) / len(busy),
                offered_rps=rate,
                arrivals=arrivals,
                completed=round(done),
                failed=0,
                in_flight=round(backlog),
                p50_s=None if round(done) == 0 else wait,
                p95_s=None if round(done) == 0 else wait * 1.6 + rng.random() * 0.1,
            )
        )
    return Run(
        started_at=1_790_000_000.0,
        wall_s=now + 17.0,
        speed=6.0,
        member_rps=plan.member_rps,
        member_type="standard.micro",
        monitoring_type="standard.small",
        disk_gib=10,
        goals=Goals(),
        samples=tuple(samples),
        decisions=tuple(marks),
        settings={"speed": "6", "work per request": "0.05 s of CPU", "member": "0.25 core"},
    )


def mark(at: float, size: int, wanted: int, intent: str) -> DecisionMark:
    reason = "alert" if size != wanted else "no-alert"
    text = f"size {size} becomes {wanted}" if size != wanted else "nothing was asked for"
    return DecisionMark(
        t_s=float(at), size=size, wanted=wanted, reason=reason, intent=intent, text=text
    )

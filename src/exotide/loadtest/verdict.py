"""Whether a run proved what it was to prove. Pure: samples in, judgement out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from exotide.loadtest.sample import Phase, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What a run must reach."""

    size: int = 3
    """The pool must serve with at least so many members under load."""
    cpu_ratio: float = 0.8
    """The average CPU must come below this while the load still runs."""
    p95_s: float = 2.0
    """95 of 100 answers must again come within this while the load still runs."""
    hold_s: float = 12.0
    """Both must hold this long on end, so that a lucky second proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of the verdict."""

    name: str
    met_at_s: float | None
    """When it was first met, on the run's clock. None: never."""
    text: str
    """What was seen, as one sentence part."""

    @property
    def met(self) -> bool:
        """Whether the condition was met at all."""
        return self.met_at_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All conditions of a run, in the order in which they are met."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition was met."""
        return all(check.met for check in self.checks)


def judge(samples: Sequence[Sample], goals: Goals) -> Verdict:
    """Judge a run, finished or not: a condition that can still be met counts as not met yet."""
    load = [sample for sample in samples if sample.phase in {Phase.RAMP, Phase.PEAK}]
    peak = [sample for sample in load if sample.phase is Phase.PEAK]
    quiet = [sample for sample in samples if sample.phase is Phase.QUIET]
    grown = _grew(load, goals)
    since_s = float("inf") if grown.met_at_s is None else grown.met_at_s
    helped = [sample for sample in peak if sample.t_s >= since_s]
    return Verdict(
        checks=(grown, _cpu_fell(helped, goals), _recovered(helped, goals), _back(quiet))
    )


def load_goals_met(samples: Sequence[Sample], goals: Goals) -> bool:
    """Whether all that needs the load has been seen, and the load may end."""
    return all(check.met for check in judge(samples, goals).checks[:3])


def _grew(load: Sequence[Sample], goals: Goals) -> Check:
    at_s = next((s.t_s for s in load if (s.serving or 0) >= goals.size), None)
    most = max((s.serving or 0 for s in load), default=0)
    return Check(
        name=f"grew to {goals.size} or more",
        met_at_s=at_s,
        text=f"{most} members served at the peak",
    )


def _cpu_fell(helped: Sequence[Sample], goals: Goals) -> Check:
    """Each sample is the alerts' own average already, so every one of them must be below."""
    at_s, least = _held(helped, goals, lambda s: s.cpu_ratio, max, goals.cpu_ratio)
    seen = "not seen" if least is None else f"at most {least * 100:.1f} %"
    return Check(
        name=f"average CPU fell below {goals.cpu_ratio * 100:.0f} %",
        met_at_s=at_s,
        text=f"{seen} for {goals.hold_s:g} s under full load",
    )


def _recovered(helped: Sequence[Sample], goals: Goals) -> Check:
    """With a dozen answers per second a sample's p95 is its slowest answer: take their median."""
    at_s, least = _held(helped, goals, lambda s: s.p95_s, median, goals.p95_s)
    seen = "not seen" if least is None else f"p95 {least:.2f} s"
    return Check(
        name=f"latency recovered to {goals.p95_s:g} s",
        met_at_s=at_s,
        text=f"{seen} for {goals.hold_s:g} s under full load",
    )


def _back(quiet: Sequence[Sample]) -> Check:
    at_s = next((s.t_s for s in quiet if s.wanted == 1 and s.serving == 1), None)
    least = min((s.wanted for s in quiet if s.wanted is not None), default=None)
    seen = "size not seen in the calm" if least is None else f"size {least} in the calm"
    return Check(name="came back to 1", met_at_s=at_s, text=seen)


def _held(
    samples: Sequence[Sample],
    goals: Goals,
    value: Callable[[Sample], float | None],
    typical: Callable[[list[float]], float],
    limit: float,
) -> tuple[float | None, float | None]:
    """
    The end of the first window of hold_s whose typical value is below the limit.

    Also the least typical value of any whole window. A window with gaps in more than half of its
    samples proves nothing.
    """
    first_s: float | None = None
    least: float | None = None
    start = 0
    for end, sample in enumerate(samples):
        if sample.t_s - samples[0].t_s < goals.hold_s:
            continue
        while start < end and samples[start + 1].t_s <= sample.t_s - goals.hold_s:
            start += 1
        window = samples[start : end + 1]
        known = [v for v in map(value, window) if v is not None]
        if len(known) * 2 <= len(window):
            continue
        level = typical(known)
        least = level if least is None else min(least, level)
        if first_s is None and level < limit:
            first_s = sample.t_s
    return first_s, least

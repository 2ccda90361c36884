"""How a run goes on: which phase it is in, how much load that means, and what comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from exotide.loadtest.sample import Phase, Sample
from exotide.loadtest.verdict import Goals, judge, load_goals_met

LIFE_S: Final = 60.0
"""The assignment's interval, window and waiting time, before any speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Load and time limits of a run. Times are seconds on the wall; loads are in members' worth."""

    speed: float = 6.0
    """How many times faster than the assignment's own intervals."""
    cpu_s: float = 0.05
    """CPU time of one request."""
    member_cores: float = 0.25
    """CPU that one member has."""
    calm_load: float = 0.1
    peak_load: float = 1.9
    """Too much for two members, comfortable for three."""
    calm_s: float = 12.0
    ramp_s: float = 50.0
    peak_limit_s: float = 130.0
    """The peak ends at this time even if the goals were not reached."""
    quiet_limit_s: float = 130.0
    settle_s: float = 5.0
    """The run goes on for so long after its last goal, so that a reader sees the end state."""
    goals: Goals = field(default_factory=Goals)

    @property
    def member_rps(self) -> float:
        """Requests per second that one member can answer at most."""
        return self.member_cores / self.cpu_s

    @property
    def interval_s(self) -> float:
        """The autoscaler's interval, which is also the alerts' window and waiting time."""
        return LIFE_S / self.speed


def plan_for(speed: float) -> Plan:
    """The default run at a speed: all times but the requests' own stretch with it."""
    plan, stretch = Plan(speed=speed), 6.0 / speed
    return replace(
        plan,
        calm_s=plan.calm_s * stretch,
        ramp_s=plan.ramp_s * stretch,
        peak_limit_s=plan.peak_limit_s * stretch,
        quiet_limit_s=plan.quiet_limit_s * stretch,
        settle_s=plan.settle_s * stretch,
        goals=replace(plan.goals, hold_s=plan.goals.hold_s * stretch),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a run is. Ended: since when it is over, on the run's clock."""

    phase: Phase = Phase.CALM
    since_s: float = 0.0
    ended: bool = False


def advance(stage: Stage, samples: Sequence[Sample], plan: Plan, *, now_s: float) -> Stage:
    """The stage at now_s: the peak lasts until its goals are met, the quiet until the size is 1."""
    spent_s = now_s - stage.since_s
    match stage.phase:
        case Phase.CALM if spent_s >= plan.calm_s:
            return Stage(phase=Phase.RAMP, since_s=now_s)
        case Phase.RAMP if spent_s >= plan.ramp_s:
            return Stage(phase=Phase.PEAK, since_s=now_s)
        case Phase.PEAK if spent_s >= plan.peak_limit_s or load_goals_met(samples, plan.goals):
            return Stage(phase=Phase.QUIET, since_s=now_s)
        case Phase.QUIET if spent_s >= plan.quiet_limit_s or _settled(samples, plan, now_s):
            return replace(stage, ended=True)
        case _:
            return stage


def _settled(samples: Sequence[Sample], plan: Plan, now_s: float) -> bool:
    back_s = judge(samples, plan.goals).checks[-1].met_at_s
    return back_s is not None and now_s - back_s >= plan.settle_s


def rate_rps(stage: Stage, plan: Plan, *, now_s: float) -> float:
    """Requests per second to offer at now_s."""
    match stage.phase:
        case Phase.RAMP:
            done = min(1.0, max(0.0, (now_s - stage.since_s) / plan.ramp_s))
            load = plan.calm_load + done * (plan.peak_load - plan.calm_load)
        case Phase.PEAK:
            load = plan.peak_load
        case _:
            load = plan.calm_load
    return load * plan.member_rps


def outlook(stage: Stage, samples: Sequence[Sample], plan: Plan, *, now_s: float) -> str:
    """What comes next, as one sentence part for whoever watches."""
    spent_s = now_s - stage.since_s
    match stage.phase:
        case Phase.CALM:
            return f"the load starts to rise in {max(0.0, plan.calm_s - spent_s):.0f} s"
        case Phase.RAMP:
            left_s = max(0.0, plan.ramp_s - spent_s)
            return f"the load rises for {left_s:.0f} s more, to {plan.peak_load:g} members' worth"
        case Phase.PEAK:
            missing = [
                check.name for check in judge(samples, plan.goals).checks[:3] if not check.met
            ]
            left_s = max(0.0, plan.peak_limit_s - spent_s)
            return (
                f"the load stays until the pool has: {'; '.join(missing)} (at most {left_s:.0f} s)"
            )
        case Phase.QUIET:
            left_s = max(0.0, plan.quiet_limit_s - spent_s)
            return f"the load is gone; waiting for size 1 (at most {left_s:.0f} s)"

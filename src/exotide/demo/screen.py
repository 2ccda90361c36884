"""What one sees while the demo runs: a live picture on a terminal, elsewhere a line at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from exotide.demo.plan import Plan, Stage, outlook
from exotide.loadtest.sample import DecisionMark, Phase, Sample
from exotide.loadtest.verdict import judge
from exotide.report.page import clock

BARS: Final = " ▁▂▃▄▅▆▇█"
HISTORY: Final = 60
PLAIN_PERIOD_S: Final = 5.0
DECISIONS: Final = 5
PHASES: Final = {
    Phase.CALM: "calm",
    Phase.RAMP: "the load rises",
    Phase.PEAK: "the load stays high",
    Phase.QUIET: "calm again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown, at one moment."""

    now_s: float
    stage: Stage
    plan: Plan
    samples: Sequence[Sample]
    decisions: Sequence[DecisionMark]
    troubles: Sequence[str]
    logs: str


class Screen(Protocol):
    """Adapters: LiveScreen for a terminal, PlainScreen for everything else."""

    def say(self, text: str) -> None:
        """One line of progress outside the picture."""

    def show(self, view: View) -> None:
        """The run as it is now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class LiveScreen:
    """Redraws one picture in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Print above the picture."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, view: View) -> None:
        """Redraw."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(picture(view), refresh=True)

    def close(self) -> None:
        """Let the last picture stand."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class PlainScreen:
    """Prints a line every few seconds, and each change of size at once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_s = float("-inf")
        self._told = 0

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, view: View) -> None:
        """Print what is new, and a summary if the last is old enough."""
        changes = [mark for mark in view.decisions if mark.step]
        for mark in changes[self._told :]:
            self.say(f"{clock(max(0.0, mark.t_s))}  {change(mark)}")
        self._told = len(changes)
        if view.now_s - self._said_s > PLAIN_PERIOD_S - 0.5:
            self._said_s = view.now_s
            self.say(line(view))
            for trouble in view.troubles:
                self.say(f"      gap: {trouble}")

    def close(self) -> None:
        """Nothing to restore."""


def line(view: View) -> str:
    """The run now, as one line of text."""
    now = view.samples[-1] if view.samples else Sample(t_s=0, phase=view.stage.phase)
    parts = [
        f"{clock(view.now_s)}  {PHASES[view.stage.phase]:<19}",
        f"size {_n(now.serving)}/{_n(now.wanted)}",
        f"CPU {_percent(now.cpu_ratio)}",
        f"{_f(now.offered_rps, 1)}/s offered",
        f"{_n(now.completed)}/s answered",
        f"p95 {_f(_recent(view.samples), 2)} s",
    ]
    return "  ".join(parts)


def picture(view: View) -> RenderableType:
    """The run now, as a picture of a dozen lines."""
    now = view.samples[-1] if view.samples else Sample(t_s=0, phase=view.stage.phase)
    table = Table.grid(padding=(0, 2))
    for style, width in (("bold", 8), ("cyan", HISTORY), ("", None)):
        table.add_column(style=style, width=width, no_wrap=True)
    past = view.samples[-HISTORY:]
    peak = view.plan.peak_load * view.plan.member_rps * 1.3
    table.add_row("pool", _bars([s.serving for s in past], 4), _pool(now))
    table.add_row("CPU", _bars([s.cpu_ratio for s in past], 1.0), _cpu(now.cpu_ratio))
    table.add_row("load", _bars([s.completed for s in past], peak), _load(now))
    slowest = max([view.plan.goals.p95_s * 1.5, *(s.p95_s or 0.0 for s in past)])
    table.add_row("latency", _bars([s.p95_s for s in past], slowest), _latency(view.samples))
    head = Text.assemble(
        ("exotide demo ", "bold"),
        f" {clock(view.now_s)}  {PHASES[view.stage.phase]}, {view.plan.speed:g}x the pace of life",
    )
    return Group(head, Text(), table, Text(), _goals(view), *_decisions(view), Text(), *_foot(view))


def change(mark: DecisionMark) -> str:
    """A decision that changed the size, as one line."""
    return f"size {mark.size} → {mark.wanted}  {mark.reason}: {mark.text}"


def _stay(mark: DecisionMark) -> str:
    return f"size {_n(mark.size)} stays  {mark.reason}: {mark.text}"


def _goals(view: View) -> Text:
    text = Text("goals     ", style="bold")
    for check in judge(view.samples, view.plan.goals).checks:
        text.append("✓ " if check.met else "· ", style="green" if check.met else "dim")
        text.append(check.name + "   ", style="green" if check.met else "not bold")
    return text


def _decisions(view: View) -> list[Text]:
    shown = list(view.decisions[-DECISIONS:])
    lines = [Text("decisions", style="bold")]
    for mark in shown:
        body = (
            change(mark) if mark.step else f"size {_n(mark.size)} stays  {mark.reason}: {mark.text}"
        )
        style = "red" if mark.step > 0 else "blue" if mark.step < 0 else "dim"
        lines.append(Text(f"  {clock(max(0.0, mark.t_s))}  {body}", style=style, no_wrap=True))
    return lines + [Text()] * (DECISIONS - len(shown))


def _foot(view: View) -> list[Text]:
    ahead = outlook(view.stage, view.samples, view.plan, now_s=view.now_s)
    lines = [Text.assemble(("next      ", "bold"), ahead)]
    lines += [Text(f"gap       {trouble}", style="yellow") for trouble in view.troubles]
    return [*lines, Text(f"logs      {view.logs}", style="dim")]


def _pool(now: Sample) -> str:
    return f"{_n(now.serving)} serving of {_n(now.wanted)} wanted"


def _cpu(ratio: float | None) -> Text:
    hot, cold = (ratio or 0) > 0.8, ratio is not None and ratio < 0.2
    note = "  above 80 %: grow" if hot else "  below 20 %: shrink" if cold else ""
    return Text(f"{_percent(ratio)}{note}", style="red" if hot else "blue" if cold else "")


def _load(now: Sample) -> str:
    lost = f", {now.failed} failed" if now.failed else ""
    return f"{_f(now.offered_rps, 1)}/s offered, {_n(now.completed)}/s answered{lost}"


def _latency(samples: Sequence[Sample]) -> str:
    waiting = samples[-1].in_flight if samples else None
    return f"p95 {_f(_recent(samples), 2)} s, {_n(waiting)} in flight"


def _recent(samples: Sequence[Sample]) -> float | None:
    """The last latency seen: in the calm, not every second has an answer."""
    return next((s.p95_s for s in reversed(samples[-5:]) if s.p95_s is not None), None)


def _bars(values: Sequence[float | None], top: float) -> str:
    marks = (" " if v is None else BARS[min(8, max(1, round(v / top * 8)))] for v in values)
    return "".join(marks).rjust(HISTORY)


def _n(value: int | None) -> str:
    return "?" if value is None else str(value)


def _f(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _percent(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio * 100:.0f} %"

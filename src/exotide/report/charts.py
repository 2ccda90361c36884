"""The story of a run as one picture: five charts above each other that share their time axis."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from itertools import groupby
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from exotide.cost.prices import accumulated, stack_prices
from exotide.loadtest.sample import Phase, Sample
from exotide.report.palette import Ink, themed
from exotide.report.run import Run

WIDTH_IN: Final = 11.0
HEIGHT_IN: Final = 12.4
RATIOS: Final = (1.15, 1.15, 1.15, 1.0, 0.8)
LEFT: Final = 0.055
RIGHT: Final = 0.845
PHASE_NAMES: Final = {
    Phase.CALM: "calm",
    Phase.RAMP: "load rises",
    Phase.PEAK: "load stays high",
    Phase.QUIET: "calm again",
}
PHASE_SHADE: Final = {Phase.CALM: 0.0, Phase.RAMP: 0.05, Phase.PEAK: 0.10, Phase.QUIET: 0.0}
MINUS: Final = "\N{MINUS SIGN}"
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "exotide",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": Ink.GRID.value,
    "axes.facecolor": "none",
    "axes.labelcolor": Ink.MUTED.value,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": Ink.GRID.value,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": Ink.TEXT.value,
    "xtick.color": Ink.MUTED.value,
    "ytick.color": Ink.MUTED.value,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
}

# matplotlib comes without types; an axes is Any here and nowhere else.
Axes = Any


def story(run: Run) -> str:
    """The picture as an SVG element for a page that defines the palette's variables."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
        axes = figure.subplots(5, 1, sharex=True, height_ratios=RATIOS)
        figure.subplots_adjust(left=LEFT, right=RIGHT, top=0.972, bottom=0.03, hspace=0.34)
        for draw, axis in zip((_load, _cpu, _size, _latency, _cost), axes, strict=True):
            draw(axis, run)
        _share_time(axes, run)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    stream = StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: (?:(\d+|bold) )?([\d.]+px) [^;\"]*", _font, text)
    label = 'role="img" aria-label="Load, CPU, pool size, latency and cost over time"'
    return themed(text.replace("<svg", f"<svg {label}", 1))


def _font(match: re.Match[str]) -> str:
    """The page's own font, in the drawing's size and weight."""
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=11, fontweight="bold", pad=7)


def _series(run: Run, value: Callable[[Sample], float | None]) -> tuple[list[float], list[float]]:
    """Times and values; a gap becomes NaN, which draws as a gap."""
    values = (value(sample) for sample in run.samples)
    return [s.t_s for s in run.samples], [float("nan") if v is None else float(v) for v in values]


def _smooth(run: Run, value: Callable[[Sample], float | None]) -> list[float]:
    """Averages over five seconds, or a fortieth of a long run: what the eye can tell apart."""
    width = max(5, len(run.samples) // 40)
    _, raw = _series(run, value)
    windows = ([v for v in raw[max(0, i - width + 1) : i + 1] if v == v] for i in range(len(raw)))  # noqa: PLR0124 - NaN
    return [sum(window) / len(window) if window else float("nan") for window in windows]


def _name(axis: Axes, x: float, y: float, text: str, ink: Ink, **extra: Any) -> None:
    """Name a line at its end, in its colour: no legend to look up."""
    axis.annotate(
        text,
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        color=ink.value,
        fontsize=9.5,
        va="center",
        annotation_clip=False,
        **extra,
    )


def _load(axis: Axes, run: Run) -> None:
    _title(axis, "Load · requests per second")
    times, offered = _series(run, lambda s: s.offered_rps)
    _, serving = _series(run, lambda s: s.serving)
    capacity = [value * run.member_rps for value in serving]
    answered = _smooth(run, lambda s: s.completed)
    top = max([*(v for v in (*offered, *capacity, *answered) if v == v), 1.0])  # noqa: PLR0124 - NaN
    axis.fill_between(times, capacity, step="post", color=Ink.SERVING.value, alpha=0.10, lw=0)
    axis.step(times, capacity, where="post", color=Ink.SERVING.value, lw=1.0, ls=(0, (4, 3)))
    axis.plot(times, answered, color=Ink.ANSWERED.value, lw=1.6)
    axis.plot(times, offered, color=Ink.OFFERED.value, lw=2.4)
    axis.set_ylim(0, top * 1.22)
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _key(
        axis,
        [("offered", Ink.OFFERED), ("answered", Ink.ANSWERED), ("pool can answer", Ink.SERVING)],
    )


def _cpu(axis: Axes, run: Run) -> None:
    _title(axis, "Average CPU of the pool's members")
    times, cpu = _series(run, lambda s: s.cpu_ratio)
    hot = [value > 0.8 for value in cpu]
    cold = [value < 0.2 for value in cpu]
    axis.fill_between(
        times, cpu, 0.8, where=hot, color=Ink.HOT.value, alpha=0.30, lw=0, interpolate=True
    )
    axis.fill_between(
        times, cpu, 0.2, where=cold, color=Ink.COLD.value, alpha=0.25, lw=0, interpolate=True
    )
    axis.axhline(0.8, color=Ink.HOT.value, lw=1.1, ls=(0, (5, 3)))
    axis.axhline(0.2, color=Ink.COLD.value, lw=1.1, ls=(0, (5, 3)))
    axis.plot(times, cpu, color=Ink.CPU.value, lw=2.2)
    axis.set_ylim(0, 1.05)
    axis.yaxis.set_major_locator(MultipleLocator(0.2))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
    end = times[-1] if times else 1.0
    _name(axis, end, 0.8, "above 80 %: grow", Ink.HOT)
    _name(axis, end, 0.2, "below 20 %: shrink", Ink.COLD)


def _size(axis: Axes, run: Run) -> None:
    _title(axis, "Pool size · members")
    times, wanted = _series(run, lambda s: s.wanted)
    _, serving = _series(run, lambda s: s.serving)
    axis.fill_between(times, serving, step="post", color=Ink.SERVING.value, alpha=0.28, lw=0)
    axis.step(times, serving, where="post", color=Ink.SERVING.value, lw=2.0)
    axis.step(times, wanted, where="post", color=Ink.WANTED.value, lw=1.4, ls=(0, (2, 1.6)))
    top = max([*(v for v in (*wanted, *serving) if v == v), 3.0])  # noqa: PLR0124 - NaN
    axis.set_ylim(0, top + 0.9)
    axis.yaxis.set_major_locator(MultipleLocator(1))
    for mark in run.decisions:
        if mark.step:
            _mark(axis, mark.t_s, float(mark.wanted or 0), mark.step)
    _key(axis, [("serving", Ink.SERVING), ("wanted", Ink.WANTED)])


def _mark(axis: Axes, t_s: float, wanted: float, step: int) -> None:
    ink, shape = (Ink.HOT, "^") if step > 0 else (Ink.COLD, "v")
    height = wanted + 0.42 if step > 0 else wanted - step + 0.42
    axis.plot([t_s], [height], marker=shape, ms=9, color=ink.value, mec=Ink.PAPER.value, mew=0.8)
    axis.annotate(
        f"{step:+d}".replace("-", MINUS),
        (t_s, height),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=ink.value,
        fontsize=10,
        fontweight="bold",
    )


def _latency(axis: Axes, run: Run) -> None:
    _title(axis, "Latency · seconds from due to answered")
    times = [sample.t_s for sample in run.samples]
    p50 = _smooth(run, lambda s: s.p50_s)
    p95 = _smooth(run, lambda s: s.p95_s)
    axis.fill_between(times, p50, p95, color=Ink.P95.value, alpha=0.16, lw=0)
    axis.plot(times, p95, color=Ink.P95.value, lw=1.8)
    axis.plot(times, p50, color=Ink.P50.value, lw=1.8)
    axis.axhline(run.goals.p95_s, color=Ink.MUTED.value, lw=1.0, ls=(0, (5, 3)))
    top = max([*(v for v in p95 if v == v), run.goals.p95_s])  # noqa: PLR0124 - NaN
    axis.set_ylim(0, top * 1.12)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    _name(
        axis,
        times[-1] if times else 1.0,
        run.goals.p95_s,
        f"goal: p95 in {run.goals.p95_s:g} s",
        Ink.MUTED,
    )
    _key(axis, [("95 % within", Ink.P95), ("50 % within", Ink.P50)])


def _cost(axis: Axes, run: Run) -> None:
    _title(axis, "Cost of the members · euro cents, at the assignment's pace")
    steps, fixed = members_cost(run)
    times = [sample.t_s for sample in run.samples]
    axis.fill_between(times, steps, fixed, color=Ink.COST.value, alpha=0.18, lw=0)
    axis.plot(times, fixed, color=Ink.MUTED.value, lw=1.3, ls=(0, (4, 3)))
    axis.plot(times, steps, color=Ink.COST.value, lw=2.2)
    axis.set_ylim(0, max([*fixed, 0.01]) * 1.12)
    axis.yaxis.set_major_locator(MaxNLocator(3))
    if times:
        _name(axis, times[-1], fixed[-1], f"always {peak_size(run)}: {fixed[-1]:.2f}", Ink.MUTED)
        _name(axis, times[-1], steps[-1], f"this run: {steps[-1]:.2f}", Ink.COST)


def peak_size(run: Run) -> int:
    """The most members that the pool was asked to have."""
    return max((sample.wanted or 1 for sample in run.samples), default=1)


def members_cost(run: Run) -> tuple[list[float], list[float]]:
    """Cents spent on members at each sample: by this run, and by a pool always at its peak size."""
    prices = stack_prices(
        member_type=run.member_type, monitoring_type=run.monitoring_type, disk_gib=run.disk_gib
    )
    billed: list[tuple[float, float]] = []
    for sample in run.samples:
        last = billed[-1][1] if billed else 1.0
        billed.append((sample.t_s, last if sample.wanted is None else float(sample.wanted)))
    fixed = [(t_s, float(peak_size(run))) for t_s, _ in billed]
    spent, spent_fixed = (
        accumulated(steps, member_per_hour=prices.member * 100, scale=run.speed)
        for steps in (billed, fixed)
    )
    return (spent, spent_fixed) if billed else ([], [])


def _key(axis: Axes, entries: list[tuple[str, Ink]]) -> None:
    """Name the lines in the margin, in their colours."""
    for row, (text, ink) in enumerate(entries):
        axis.annotate(
            text,
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(9, -8 - 15 * row),
            textcoords="offset points",
            color=ink.value,
            fontsize=9.5,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _share_time(axes: list[Axes], run: Run) -> None:
    end_s = max((sample.t_s for sample in run.samples), default=1.0)
    for axis in axes:
        axis.set_xlim(0, max(end_s, 1.0))
        axis.tick_params(axis="x", labelbottom=True, labelsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 1.5, 2, 3, 6, 10], integer=True))
        axis.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}")
        )
        for mark in run.decisions:
            if mark.step:
                ink = Ink.HOT if mark.step > 0 else Ink.COLD
                axis.axvline(mark.t_s, color=ink.value, lw=1.0, alpha=0.55, zorder=0.5)
    _phases(axes, run)


def _phases(axes: list[Axes], run: Run) -> None:
    groups = [
        (phase, [s.t_s for s in group]) for phase, group in groupby(run.samples, lambda s: s.phase)
    ]
    for index, (phase, times) in enumerate(groups):
        end_s = groups[index + 1][1][0] if index + 1 < len(groups) else times[-1]
        for axis in axes:
            axis.axvspan(
                times[0], end_s, color=Ink.SHADE.value, alpha=PHASE_SHADE[phase], lw=0, zorder=0
            )
        axes[0].annotate(
            PHASE_NAMES[phase],
            ((times[0] + end_s) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -8),
            textcoords="offset points",
            ha="center",
            va="center",
            color=Ink.MUTED.value,
            fontsize=9,
        )

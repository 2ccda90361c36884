"""`exotide demo`: the whole loop on one machine, with real load, watched live, told in a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from exotide.demo.errors import DemoError, SettingsWrong
from exotide.demo.plan import plan_for
from exotide.demo.screen import LiveScreen, PlainScreen, Screen
from exotide.demo.session import perform
from exotide.loadtest.verdict import Verdict
from exotide.report.page import clock, headline, render
from exotide.report.run import Run, to_json
from exotide.stack.errors import StackError
from exotide.stopping import Stopped, stoppable

DEFAULT_SPEED: Final = 6.0
FASTEST: Final = 12.0
"""A window of 5 s is the least that Prometheus can fill."""


def demo(
    *,
    real_time: bool = False,
    speed: float = DEFAULT_SPEED,
    json: Path | None = None,
    report: Path = Path("exotide-report.html"),
) -> int:
    """
    Let real load grow and shrink a real pool on this machine, and tell the story.

    Exit status: 0 if the pool grew to 3, helped while the load still ran, and came back to 1;
    1 if not; 2 if an option cannot work.

    Parameters
    ----------
    real_time
        Run at the assignment's own intervals (about 20 minutes), as --speed 1.
    speed
        How many times faster than the assignment, from 1 to 12.
    json
        Write the run, with its verdict, to this file.
    report
        Write the report, one HTML page, to this file.
    """
    console = Console()
    screen: Screen = LiveScreen(console) if console.is_terminal else PlainScreen(console)
    try:
        pace = _pace(1.0 if real_time else speed)
        _writable(report, json)
        with stoppable():
            run = perform(plan_for(pace), screen)
    except SettingsWrong as error:
        return _complain(str(error), code=2)
    except Stopped as stopped:
        return _complain(f"{stopped}; everything was cleaned up", code=stopped.exit_code)
    except (DemoError, StackError) as error:
        return _complain(str(error), code=1)
    report.write_text(render(run), encoding="utf-8")
    if json is not None:
        json.write_text(to_json(run), encoding="utf-8")
    _conclude(run, screen, report)
    return 0 if run.passed else 1


def _pace(speed: float) -> float:
    if not 1.0 <= speed <= FASTEST:
        raise SettingsWrong(f"--speed must be from 1 to {FASTEST:g}, got: {speed:g}")
    return speed


def _writable(*files: Path | None) -> None:
    """Better to fail now than after four minutes."""
    for file in files:
        if file is not None and (not file.parent.is_dir() or file.is_dir()):
            raise SettingsWrong(f"cannot write here, choose a file in a folder that exists: {file}")


def _conclude(run: Run, screen: Screen, report: Path) -> None:
    screen.say("")
    screen.say(headline(run))
    for text in _lines(run.verdict):
        screen.say(text)
    if run.failure:
        screen.say(run.failure)
    screen.say(f"{clock(run.wall_s)} in all; report: {report}")


def _lines(verdict: Verdict) -> list[str]:
    marks = {True: "✓", False: "✗"}
    return [f"  {marks[check.met]} {check.name}: {check.text}" for check in verdict.checks]


def _complain(text: str, *, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201 - the command's own message
    return code

"""The terminal: signals and answers become events, and its loss ends nothing."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from exotide.up.course import Answered, ClockSet, Event, HungUp, Interrupted, Terminated
from exotide.up.operator import Console
from exotide.up.screen import PLAIN_PERIOD_S, Paper, opened_log


@pytest.mark.parametrize(
    ("number", "event"),
    [
        (signal.SIGINT, Interrupted()),
        (signal.SIGTERM, Terminated()),
        (signal.SIGHUP, HungUp()),
    ],
)
def test_a_signal_is_an_event_and_only_as_long_as_the_command_runs(
    number: signal.Signals, event: Event
) -> None:
    before = signal.getsignal(number)
    with Console() as operator:
        os.kill(os.getpid(), number)
        assert operator.events(0) == [event]
        assert operator.events(0) == []
    assert signal.getsignal(number) is before


def test_a_clock_that_is_set_is_an_event_and_a_small_correction_is_none() -> None:
    clock, steady = [1_000_000.0], [50.0]
    operator = Console(clock=lambda: clock[0], steady=lambda: steady[0])
    for seconds in (10.0, 86_400.0):  # asleep for a day: both go on
        clock[0] += seconds
        steady[0] += seconds
        assert operator.events(0) == []
    clock[0] += 20.0
    assert operator.events(0) == []
    clock[0] += 3_600.0
    assert operator.events(0) == [ClockSet(by_s=3_620.0)]
    assert operator.events(0) == []
    clock[0] -= 3_600.0
    assert operator.events(0) == [ClockSet(by_s=-3_600.0)]
    assert operator.now() == clock[0]


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Console() as operator:
            os.kill(os.getpid(), signal.SIGHUP)
            assert operator.events(0) == []
    finally:
        signal.signal(signal.SIGHUP, before)


class Terminal:
    """A pair of ends; the far one is what an operator has."""

    def __init__(self) -> None:
        self.near, self.far = pty.openpty()
        self.operator = Console(typed=self.far, shown=self.far)

    def until(self, text: str) -> None:
        """Wait until the terminal has shown it last."""
        seen = ""
        while not seen.endswith(text):
            assert select.select([self.near], [], [], 5)[0], seen
            seen += os.read(self.near, 4096).decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    for end in (terminal.near, terminal.far):
        with suppress(OSError):
            os.close(end)


@pytest.mark.parametrize(
    ("typed", "yes"),
    [(b"y\n", True), (b" YES \n", True), (b"\n", False), (b"no\n", False), (b"\x04", False)],
)
def test_an_answer_is_an_event_and_only_a_yes_is_one(
    terminal: Terminal, typed: bytes, yes: bool
) -> None:
    operator = terminal.operator
    os.write(terminal.near, b"y\n")  # typed before the question: no answer to it
    operator.ask("destroy?")
    terminal.until("destroy? [y/N] ")
    assert operator.events(0) == []
    os.write(terminal.near, typed)
    assert operator.events(5) == [Answered(yes=yes)]


def test_a_terminal_that_is_lost_while_a_question_is_open_is_noticed(terminal: Terminal) -> None:
    operator = terminal.operator
    operator.ask("destroy?")
    os.close(terminal.near)
    assert operator.events(5) in ([HungUp()], [Answered(yes=False)])


def test_nobody_is_asked_where_nobody_can_answer(terminal: Terminal) -> None:
    with open(os.devnull) as nowhere:  # noqa: PTH123 - a descriptor is wanted
        assert not Console(typed=nowhere.fileno(), shown=terminal.far).can_ask
        assert not Console(typed=terminal.far, shown=nowhere.fileno()).can_ask
    assert not terminal.operator.can_ask, "this terminal is not that of this process"


NOW = [0.0]


class Lost(io.StringIO):
    """A terminal that is gone."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        return True


Make = Callable[..., Paper]


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Make]:
    with opened_log(tmp_path) as log:

        def make(file: io.StringIO, *, terminal: bool = False, width: int = 200) -> Paper:
            console = RichConsole(
                file=file, force_terminal=terminal, width=width, color_system=None
            )
            return Paper(console, log, now=lambda: NOW[0], hidden=("hush", ""))

        NOW[0] = 0.0
        yield make


def test_without_a_terminal_the_state_is_told_once_a_minute(paper: Make) -> None:
    file = io.StringIO()
    plain = paper(file)
    for second in range(int(2 * PLAIN_PERIOD_S) + 1):
        NOW[0] = float(second)
        plain.show(f"up {second} s")
    assert file.getvalue().splitlines() == ["up 60 s", "up 120 s"]


def test_a_secret_is_told_by_nobody(paper: Make, tmp_path: Path) -> None:
    file = io.StringIO()
    paper(file).say("error: hush is wrong", loud=True)
    assert file.getvalue() == "error: *** is wrong\n"
    assert "hush" not in (tmp_path / "up.log").read_text()


def test_on_a_terminal_words_are_whole_and_commands_can_be_copied(paper: Make) -> None:
    file = io.StringIO()
    narrow = paper(file, terminal=True, width=40)
    command = f"!!     exo delete {'x' * 40}"
    narrow.say(f"max_size is lowered from 10 to 4: the quota of instances is 5\n{command}")
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "max_size is lowered from 10 to 4: the",
        "quota of instances is 5",
        command,
    ]


def test_brackets_are_told_as_they_are(paper: Make, tmp_path: Path) -> None:
    file = io.StringIO()
    paper(file).say('operator["grafana"] [/x] [bold]')
    assert file.getvalue() == 'operator["grafana"] [/x] [bold]\n'


def test_a_lost_terminal_leaves_the_log(paper: Make, tmp_path: Path) -> None:
    lost = paper(Lost(), terminal=True)
    lost.show("up 1 s")
    lost.say("destroying")
    lost.hold()
    lost.say("destroyed")
    lost.release()
    lost.close()
    told = (tmp_path / "up.log").read_text().splitlines()
    assert [line.partition("  ")[2] for line in told] == ["destroying", "destroyed"]

"""What people and machines get to see; nothing that only a colour says."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from exotide.check.contract import CONTRACT, chosen
from exotide.check.model import Result, Status
from exotide.check.plan import announcement
from exotide.check.report import Report, to_json, to_table
from exotide.check.screen import LiveScreen, PlainScreen

PASSED = Result(
    id="pool-one", part=1, says="One pool", status=Status.PASSED, took_s=0.1, seen="exotide"
)
FAILED = Result(
    id="backends-healthy",
    part=1,
    says="All healthy",
    status=Status.FAILED,
    took_s=301.2,
    seen="0 of 1 [healthy]",
    hint="add that rule",
)
SKIPPED = Result(
    id="x", part=3, says="Grafana", status=Status.SKIPPED, took_s=0, seen="Alertmanager's"
)


LATE = Result(
    id="late", part=2, says="Up within 300 s", status=Status.LATE, took_s=512.3, seen="1 of 1 up"
)


def report(*results: Result, left: tuple[str, ...] = (), stopped: int | None = None) -> Report:
    return Report(
        cloud="local",
        endpoint="http://here/v2",
        zone="at-vie-1",
        took_s=302.0,
        results=results,
        left=left,
        stopped=stopped,
    )


def shown(made: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(to_table(made))
    return out.getvalue()


def test_the_table_reads_without_colour_and_says_what_to_do() -> None:
    text = shown(report(SKIPPED, PASSED, FAILED))
    assert "\x1b" not in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][:4] == ["passed", "1", "0.1", "s"]
    assert lines[2][:4] == ["FAILED", "1", "301.2", "s"]
    assert lines[3][:3] == ["skipped", "3", "Grafana"]
    assert "0 of 1 [healthy]" in text
    assert "to do: add that rule" in text
    assert "1 passed, 0 passed late, 1 failed, 1 skipped, in 302 s" in text
    assert "after the contract's time" not in text


def test_what_passed_late_did_not_fail_and_is_told_apart() -> None:
    made = report(PASSED, LATE)
    assert made.exit_code == 0
    text = shown(made)
    assert "passed late     2  512.3 s  Up within 300 s" in text
    assert "after the contract's time, before this run's patience was over" in text
    assert json.loads(to_json(made))["counts"]["passed late"] == 1


def test_a_run_that_was_stopped_shows_what_it_has_and_did_not_pass() -> None:
    made = report(PASSED, stopped=130)
    assert (made.passed, made.exit_code) == (False, 130)
    assert "in 302 s; stopped before all were made, and cleaned up" in shown(made)
    assert json.loads(to_json(made))["stopped"] is True


def test_a_run_passes_if_nothing_failed_and_nothing_was_left() -> None:
    assert report(PASSED, SKIPPED).passed
    assert not report(PASSED, FAILED).passed
    left = report(PASSED, left=("instance pool exotide-check-1, it costs money",))
    assert not left.passed
    assert "LEFT OVER instance pool exotide-check-1, it costs money" in shown(left)


def test_the_json_has_every_check_by_its_id() -> None:
    raw = json.loads(to_json(report(PASSED, FAILED, SKIPPED)))
    assert raw["passed"] is False
    assert raw["counts"] == {"passed": 1, "passed late": 0, "failed": 1, "skipped": 1}
    assert (raw["cloud"], raw["stopped"]) == ("local", False)
    assert [each["id"] for each in raw["checks"]] == ["pool-one", "backends-healthy", "x"]
    assert raw["checks"][1]["hint"] == "add that rule"
    assert raw["checks"][1]["status"] == "failed"


def test_without_a_terminal_a_long_wait_tells_every_ten_seconds_and_a_short_one_nothing() -> None:
    out = io.StringIO()
    screen = PlainScreen(Console(file=out, width=200))
    for second in range(5):
        screen.waiting("Short", "not yet", passed_s=second, within_s=60)
    for second in range(31):
        screen.waiting("All [healthy]", f"seen {second}", passed_s=second, within_s=300)
    screen.say("passed  [0 s]")
    screen.close()
    assert out.getvalue().splitlines() == [
        "  ...  10 of 300 s  All [healthy]: seen 10",
        "  ...  20 of 300 s  All [healthy]: seen 20",
        "  ...  30 of 300 s  All [healthy]: seen 30",
        "passed  [0 s]",
    ]


def test_on_a_terminal_one_line_moves_and_the_rest_stands() -> None:
    out = io.StringIO()
    screen = LiveScreen(Console(file=out, width=120, force_terminal=True))
    screen.waiting("It exits", "not yet", passed_s=0, within_s=0)
    screen.waiting("All healthy", "0 of [1]", passed_s=3, within_s=300)
    screen.say("passed [it]")
    screen.close()
    screen.close()
    text = out.getvalue()
    assert "3 of 300 s  All healthy: 0 of [1]" in text
    assert "passed [it]" in text


def test_what_will_happen_is_told_once_with_what_it_costs() -> None:
    lines = announcement(CONTRACT, member_type="standard.micro")
    assert lines[0] == "to check it, this run"
    assert len([line for line in lines if "deletes all members" in line]) == 1
    assert len([line for line in lines if "/load in 10 parallel loops" in line]) == 1
    assert len([line for line in lines if "makes a pool of its own" in line]) == 1
    assert lines[-1] == ("this costs 0.013 EUR without VAT at most (1.5 hours of a standard.micro)")


@pytest.mark.parametrize(
    ("part", "member_type", "cost"),
    [
        pytest.param(1, "standard.micro", "this costs nothing more", id="free"),
        pytest.param(3, "gpu.small", "this costs 1.5 hours of a gpu.small at most", id="unknown"),
    ],
)
def test_the_cost_is_that_of_the_part(part: int, member_type: str, cost: str) -> None:
    assert announcement(chosen((part,)), member_type=member_type)[-1] == cost


def test_where_servers_come_slowly_they_also_cost_longer() -> None:
    slow = announcement(CONTRACT, member_type="standard.micro", is_slow=True)
    assert slow[-1] == "this costs 0.026 EUR without VAT at most (3 hours of a standard.micro)"


def test_checks_that_only_look_announce_nothing() -> None:
    assert announcement(CONTRACT[:4], member_type="standard.micro") == []

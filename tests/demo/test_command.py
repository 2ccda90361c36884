from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from exotide.demo.command import demo
from exotide.demo.localcloud import find_access, free_port
from exotide.demo.plan import Plan, Stage
from exotide.demo.screen import LiveScreen, PlainScreen, View
from exotide.demo.session import described, keep_logs, settings_for
from exotide.loadtest.sample import DecisionMark, Phase, Sample
from exotide.stopping import Stopped, stoppable

UP = DecisionMark(t_s=7, size=1, wanted=2, reason="alert", intent="up", text="one more")
STAY = DecisionMark(t_s=17, size=2, wanted=2, reason="no-alert", intent="none", text="all calm")


def view(now_s: float) -> View:
    sample = Sample(
        t_s=now_s,
        phase=Phase.PEAK,
        wanted=2,
        serving=1,
        cpu_ratio=0.93,
        offered_rps=9.5,
        arrivals=9,
        completed=5,
        failed=1,
        in_flight=40,
        p50_s=1.0,
        p95_s=4.2,
    )
    return View(
        now_s=now_s,
        stage=Stage(phase=Phase.PEAK),
        plan=Plan(),
        samples=[Sample(t_s=0, phase=Phase.CALM), sample],
        decisions=[UP, STAY],
        troubles=["average CPU: ConnectError: refused, for 9 s"],
        logs="/somewhere",
    )


def test_without_a_terminal_there_is_a_line_every_five_seconds_and_each_change() -> None:
    out = io.StringIO()
    screen = PlainScreen(Console(file=out, width=200))
    for second in range(11):
        screen.show(view(float(second)))
    text = out.getvalue()
    assert text.count("the load stays high") == 3
    assert text.count("size 1 → 2  alert: one more") == 1
    assert "gap: average CPU: ConnectError" in text
    assert "size 1/2" in text
    assert "p95 4.20 s" in text


def test_the_live_picture_has_all_that_one_wants_to_know() -> None:
    out = io.StringIO()
    screen = LiveScreen(Console(file=out, width=140, height=40, force_terminal=True))
    screen.say("[red]starting[/red] is printed as it is")
    screen.show(view(75.0))
    screen.close()
    text = out.getvalue()
    assert "[red]starting[/red]" in text
    for part in (
        "1:15",
        "1 serving of 2 wanted",
        "93 %",
        "9.5/s offered",
        "1 failed",
        "4.20 s",
        "size 1 → 2",
        "size 2 stays",
        "next",
        "/somewhere",
        "grew to 3 or more",
    ):
        assert part in text, part


@pytest.mark.parametrize("speed", [0.5, 13.0, float("nan")])
def test_a_speed_that_cannot_work_is_refused_with_its_value(
    speed: float, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert demo(speed=speed, report=tmp_path / "report.html") == 2
    assert f"--speed must be from 1 to 12, got: {speed:g}" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert demo(report=tmp_path / "missing" / "report.html") == 2
    assert "missing/report.html" in capsys.readouterr().err


def test_the_first_signal_stops_and_a_second_cannot_disturb_the_cleaning_up() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        stop_twice()
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def stop_twice() -> None:
    with stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)


def test_a_cloud_is_known_by_its_port_and_others_are_passed_over(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": '{"port": 1}', "c": CLOUD}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cloud.json").write_text(text)
    access = find_access(8123, states=tmp_path)
    assert access is not None
    assert access.endpoint == "http://127.0.0.1:8123/v2"
    assert access.folder == tmp_path / "c"
    assert access.servers == "loopback, since someone asked"
    assert access.limits == ("no magic",)
    assert find_access(8124, states=tmp_path) is None
    assert "hush" not in repr(access)


CLOUD = json.dumps(
    {
        "port": 8123,
        "key": "EXOk",
        "secret": "hush",
        "agent_endpoint": "http://127.77.0.1:8123/v2",
        "servers": "loopback",
        "why": "someone asked",
        "limits": ["no magic"],
        "http_port": 8080,
    }
)


def test_the_settings_shown_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cloud.json").write_text(CLOUD)
    access = find_access(8123, states=tmp_path)
    assert access is not None
    assert settings_for(access, Plan()).http_port == 8080
    shown = described(Plan(), settings_for(access, Plan()), servers=access.servers)
    assert "hush" not in str(shown)
    assert "EXOk" not in str(shown)
    assert shown["autoscaler"] == "one change per 10 s, size 1 to 4"


def test_the_servers_logs_are_kept_by_server(tmp_path: Path) -> None:
    log = tmp_path / "servers" / "abc" / "log" / "slowapp.log"
    log.parent.mkdir(parents=True)
    log.write_text("served\n")
    kept = tmp_path / "kept"
    kept.mkdir()
    keep_logs(tmp_path, kept)
    assert (kept / "abc" / "slowapp.log").read_text() == "served\n"


def test_a_free_port_can_be_taken() -> None:
    assert 1024 < free_port() < 65536

"""PID 1 of a server, run here as an ordinary process: needs no root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exotide.cloud.servers import init

SCRIPT = str(Path(init.__file__))


class Run:
    """One init with its events."""

    def __init__(self, tmp_path: Path, programs: list[dict[str, object]]) -> None:
        self.stat = tmp_path / "stat"
        self.stat.write_text("cpu\n")
        config = {
            "stat": str(self.stat),
            "programs": [{"log": str(tmp_path / f"{p['name']}.log"), **p} for p in programs],
            "backoff_s": 0.2,
            "stale_after_s": 0.6,
            "grace_s": 5.0,
        }
        (tmp_path / "init.json").write_text(json.dumps(config))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", SCRIPT, str(tmp_path / "init.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.events: list[dict[str, object]] = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def count(self, event: str) -> int:
        return sum(item["event"] == event for item in self.events)

    def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline_s, self.events
            time.sleep(0.01)

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(10)
        self.reader.join()
        self.process.stdout.close()


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def make(*programs: dict[str, object]) -> Run:
        runs.append(Run(tmp_path, list(programs)))
        runs[-1].until(lambda: runs[-1].count("booted") == 1)
        return runs[-1]

    yield make
    for run in runs:
        run.end()


def shell(name: str, script: str, **more: object) -> dict[str, object]:
    env = {"PATH": os.environ["PATH"]}
    return {"name": name, "argv": ["/bin/sh", "-c", script], "env": env, **more}


def test_a_program_that_dies_is_started_again_after_a_pause(start: Start, tmp_path: Path) -> None:
    run = start(shell("brief", "echo started; exit 3"))
    run.until(lambda: run.count("program_ended") >= 2)
    assert run.events[-1]["code"] == 3
    assert (tmp_path / "brief.log").read_text().startswith("started\nstarted\n")


def test_stop_lets_programs_end_in_their_own_time(start: Start, tmp_path: Path) -> None:
    script = "trap 'sleep 0.5; echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    run = start(shell("app", script))
    run.until(lambda: "up" in (tmp_path / "app.log").read_text())
    run.tell("stop 5\n")
    assert run.process.wait(5) == 0
    assert (tmp_path / "app.log").read_text() == "up\nbye\n"


def test_term_is_forwarded(start: Start) -> None:
    run = start(shell("app", "exec sleep 60"))
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(5) == 0


def test_a_program_that_ignores_term_does_not_hold_the_server(start: Start) -> None:
    run = start(shell("app", "trap '' TERM; sleep 2"))
    time.sleep(0.2)  # until the trap is set
    run.tell("stop 0.3\n")
    began_s = time.monotonic()
    assert run.process.wait(5) == 1
    assert time.monotonic() - began_s < 1.5


def test_the_exporter_stops_while_its_numbers_are_frozen(start: Start) -> None:
    run = start(shell("exporter", "exec sleep 60", exporter=True), shell("app", "exec sleep 60"))
    run.until(lambda: run.count("exporter_stopped") == 1, within_s=3.0)
    assert {"event": "program_ended", "program": "app", "code": -9} not in run.events
    started = run.count("program_started")
    time.sleep(0.5)  # longer than the pause before a restart
    assert run.count("program_started") == started
    run.stat.write_text("cpu again\n")
    run.until(lambda: run.count("program_started") == started + 1)


def test_the_end_of_the_cloud_is_the_end_of_the_server(start: Start) -> None:
    run = start(shell("app", "exec sleep 60"))
    assert run.process.stdin is not None
    run.process.stdin.close()
    run.process.wait(3)


def test_the_env_file_is_read_at_each_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "agent.env").write_text("# comment\nWORD=one\nQUOTED='a b'\n")
    run = start(shell("app", 'echo "$WORD $QUOTED"', env_file=str(tmp_path / "agent.env")))
    (tmp_path / "agent.env").write_text("WORD=two\n")
    run.until(lambda: "two" in (tmp_path / "app.log").read_text())
    assert (tmp_path / "app.log").read_text().startswith("one a b\n")


def test_children_of_a_dead_program_die_with_it(start: Start, tmp_path: Path) -> None:
    run = start(shell("app", f"sleep 60 & echo $! > {tmp_path}/child; sleep 0.1; exit 1"))
    run.until(lambda: run.count("program_ended") >= 1)
    child = int((tmp_path / "child").read_text())
    run.until(lambda: not alive(child))


def test_a_program_that_is_not_there_is_reported(start: Start) -> None:
    run = start({"name": "ghost", "argv": ["/nonexistent/ghost"]})
    run.until(lambda: run.count("program_failed") >= 1)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False

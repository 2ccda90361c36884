"""Real processes: whether they die, hang or resist cannot be shown with fakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exotide.demo.errors import ProgramDied, ProgramUnready
from exotide.demo.programs import Program, last_lines


def python(code: str, log: Path) -> Program:
    return Program(
        "child", [sys.executable, "-c", code], log=log, environment={"GREETING": "hello"}
    )


def test_a_program_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python(
        "import os; print(os.environ['GREETING']); raise SystemExit(3)", tmp_path / "log"
    )
    with pytest.raises(ProgramDied, match=r"child ended with 3; (?s:.*)hello"):
        child.await_ready(lambda: False, limit_s=20)


def test_a_program_that_never_gets_ready_is_told_apart_from_a_dead_one(tmp_path: Path) -> None:
    child = python("import time; time.sleep(60)", tmp_path / "log")
    try:
        with pytest.raises(ProgramUnready, match=r"not ready within 0\.2 s"):
            child.await_ready(lambda: False, limit_s=0.2)
        child.check()
    finally:
        child.stop(grace_s=5)


def test_a_program_that_resists_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    child = python(code, tmp_path / "log")
    child.await_ready(lambda: "up" in (tmp_path / "log").read_text(), limit_s=20)
    child.stop(grace_s=0.2)
    with pytest.raises(ProgramDied, match="child ended with -9"):
        child.check()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    child = Program("nothing", ["/does/not/exist"], log=tmp_path / "log", environment={})
    with pytest.raises(ProgramDied, match="/does/not/exist"):
        child.await_ready(lambda: False, limit_s=20)


def test_the_kernel_ends_a_program_whose_demo_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys, time; from pathlib import Path; from exotide.demo.programs import Program;"
        "log = Path(sys.argv[1]); shell = ['sh', '-c', 'echo up; exec sleep 60'];"
        "p = Program('child', shell, log=log, environment={});"
        "p.await_ready(lambda: 'up' in log.read_text(), limit_s=20);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        child = int(demo.stdout.readline())
        demo.kill()
    end_s = time.monotonic() + 5
    while runs(child) and time.monotonic() < end_s:
        time.sleep(0.05)
    alive = runs(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie: not every init reaps."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert "cannot be read" in last_lines(tmp_path / "missing")

"""The real demo, ended before its time: real programs and real seconds, on purpose."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEMO = [sys.executable, "-c", "from exotide.cli import main; main()", "demo"]


class RunningDemo:
    """A demo in its own process, read line by line from its output."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        with self.out.open("wb") as stream:
            self.process = subprocess.Popen(
                [*DEMO, "--report", str(folder / "report.html")],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Temporary files of this run, to see whether any stays.
                env=os.environ | {"TMPDIR": str(folder)},
            )

    def await_text(self, text: str) -> None:
        self.await_that(lambda: text in self.out.read_text(), text)

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + 90
        while not condition():
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < end_s, f"no {what} in: {self.out.read_text()}"
            time.sleep(0.1)

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def cloud_folder(self) -> Path:
        found = re.search(r"the servers' logs: (\S+)", self.out.read_text())
        assert found is not None
        return Path(found[1])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDemo]:
    demo = RunningDemo(tmp_path)
    yield demo
    if demo.process.poll() is None:
        demo.process.terminate()
    demo.process.wait(timeout=60)


def namespaces() -> str:
    if os.geteuid() != 0:
        return ""  # an ordinary user's cloud makes none
    return subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout


def test_ctrl_c_under_load_leaves_nothing_behind(running: RunningDemo, tmp_path: Path) -> None:
    running.await_text("calm")
    folder, children = running.cloud_folder(), running.children()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=60) == 130
    assert "everything was cleaned up" in running.out.read_text()
    assert not folder.exists()
    assert folder.name not in namespaces()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_load_generator_that_dies_ends_the_run_with_a_report_that_says_so(
    running: RunningDemo, tmp_path: Path
) -> None:
    running.await_text("calm")
    folder = running.cloud_folder()
    locust = next(pid for pid in running.children() if "locust" in command_line(pid))
    os.kill(locust, signal.SIGKILL)
    assert running.process.wait(timeout=60) == 1
    assert "locust ended with -9" in running.out.read_text()
    assert "locust ended with -9" in (tmp_path / "report.html").read_text()
    assert not folder.exists()
    kept = {path.name for path in tmp_path.glob("exotide-demo-*/**/*.log")}
    assert {"cloud.log", "slowapp.log", "prometheus.log", "exotide-autoscaler.log"} <= kept


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()

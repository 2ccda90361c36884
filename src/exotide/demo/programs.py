"""Programs that the demo runs beside itself: each with its own log, each ended with the demo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from exotide.demo.errors import ProgramDied, ProgramUnready
from exotide.stopping import Stopped

LAST_LINES: Final = 12
POLL_S: Final = 0.05


class Program:
    """A running child process."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str]
    ) -> None:
        """
        Start it in a session of its own, so that Ctrl-C reaches only the demo.

        Raises:
            ProgramDied: the program is not there; the message names it.
        """
        self.name, self.log = name, log
        with log.open("ab") as stream:
            try:
                self._process = subprocess.Popen(
                    [*_with_its_parent(), *command],
                    env=os.environ | environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise ProgramDied(f"{name}: not found: {error.filename}") from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """
        See that it still runs.

        Raises:
            ProgramDied: with the last lines of its log.
        """
        code = self._process.poll()
        if code is not None:
            raise ProgramDied(f"{self.name} ended with {code}; {last_lines(self.log)}")

    def await_ready(self, ready: Callable[[], bool], *, limit_s: float) -> None:
        """
        Wait until ready() is true.

        Raises:
            ProgramDied: it ended instead.
            ProgramUnready: it did neither within limit_s.
        """
        end_s = time.monotonic() + limit_s
        while not ready():
            self.check()
            if time.monotonic() > end_s:
                lines = last_lines(self.log)
                raise ProgramUnready(f"{self.name} was not ready within {limit_s:g} s; {lines}")
            time.sleep(POLL_S)

    def stop(self, *, grace_s: float) -> None:
        """
        Ask it to end, wait, and end it and its children if it does not.

        Raises:
            Stopped: someone asked the demo to stop meanwhile; the program has ended all the same.
        """
        try:
            self._stop(grace_s)
        except Stopped:
            self._stop(grace_s)
            raise

    def _stop(self, grace_s: float) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=grace_s)
            except subprocess.TimeoutExpired:
                self._end_group()
        self._process.wait()

    def _end_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """Where a log is and how it ends."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except OSError as error:
        return f"its log cannot be read: {error}"
    return "\n  ".join([f"the end of {log}:", *lines] if lines else [f"{log} is empty"])


def _with_its_parent() -> list[str]:
    """Have the kernel ask the child to end when the demo is killed."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", "--"] if found else []

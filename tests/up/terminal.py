"""A person at a terminal, for tests."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Terminal:
    """A program on a terminal of its own, and what it showed there."""

    def __init__(
        self, words: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(words[0], list(words), dict(environment) | {"TERM": "xterm"})
        self.seen = ""

    def until(self, pattern: str, within_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline_s, f"no {pattern} in: {self.seen}"
            self._read()

    def forget_until(self, pattern: str) -> None:
        """Wait until it is shown anew."""
        self.seen = ""
        self.until(pattern)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def hang_up(self) -> int:
        """Close the terminal; the kernel tells the program."""
        os.close(self._master)
        return self._status()

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self._status()

    def _status(self, within_s: float = 60.0) -> int:
        deadline_s = time.monotonic() + within_s
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline_s, f"it did not end: {self.seen}"
            time.sleep(0.02)  # another process has to end
        return os.waitstatus_to_exitcode(ended[1])

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.2)[0]:
            return True
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # the other side has closed
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)

"""Logs of a crash: the traceback is there, the variables (which may hold secrets) are not."""

from __future__ import annotations

import subprocess
import sys

import pytest

CRASH = """
import logging, structlog
from exotide_autoscaler.cli import _configure_logging
_configure_logging("info")
def crash(secret):
    raise RuntimeError("a bug")
try:
    crash("do-not-" + "print-me")
except RuntimeError:
    structlog.get_logger().exception("pass_crashed")
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_logged_crash_shows_its_traceback_and_no_local_variable(terminal: bool) -> None:
    program = CRASH
    if terminal:
        program = "import sys; sys.stderr.isatty = lambda: True\n" + program
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stderr
    assert "a bug" in said
    assert "in crash" in said
    assert "do-not-print-me" not in said

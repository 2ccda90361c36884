"""Errors can be read on a terminal, and what is in them can be copied."""

from __future__ import annotations

import io
import sys

import pytest

from exotide.complaint import complain

LONG = 'the provider asks that for some calls only: eval "$(exotide cloud env)" sets the shell'
ID = "4da1b188-dcd6-4ff5-b7fd-bde984055548"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(monkeypatch: pytest.MonkeyPatch, text: str, stream: io.StringIO) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "40")
    assert complain(text, code=2) == 2
    return stream.getvalue().splitlines()


def test_on_a_terminal_an_error_is_broken_at_words_and_never_inside_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = told(monkeypatch, f"{LONG}\n  iam: refused list-iam-roles {ID}{ID}", Terminal())
    assert lines == [
        "error: the provider asks that for some",
        "  calls only:",
        '  eval "$(exotide cloud env)" sets the',
        "  shell",
        "  iam: refused list-iam-roles",
        f"    {ID}{ID}",
    ]


def test_elsewhere_an_error_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, LONG, io.StringIO()) == [f"error: {LONG}"]

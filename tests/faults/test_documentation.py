"""docs/reference/faults.md: every kind is described, and every command in it runs."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

from exotide.cloud.faults.reading import KINDS

from .conftest import Run

PAGE = Path(__file__).parents[2] / "docs/reference/faults.md"
COMMANDS = re.findall(r"^exotide cloud (.+)$", PAGE.read_text(), re.MULTILINE)
ROWS = re.findall(r"^\| (`.+)$", PAGE.read_text(), re.MULTILINE)


def test_every_command_on_the_page_runs_in_its_order(run: Run) -> None:
    for command in COMMANDS:
        code, _, said = run(*shlex.split(command))
        assert (code, said) == (0, ""), command


def test_every_kind_of_fault_has_an_example() -> None:
    examples = [shlex.split(command) for command in COMMANDS]
    added = {words[2] for words in examples if words[:2] == ["fault", "add"]}
    assert added == set(KINDS)


def test_every_kind_is_described_with_its_own_options() -> None:
    described = {}
    for row in ROWS:
        kinds, _, options, *_ = row.split(" | ")
        for kind in re.findall(r"`([a-z-]+)`", kinds):
            described[kind] = {
                word.replace("-", "_") for word in re.findall(r"--([a-z-]+)", options)
            }
    assert set(described) == set(KINDS)
    for kind, effect in KINDS.items():
        assert {each.name for each in fields(effect)} <= described[kind], kind

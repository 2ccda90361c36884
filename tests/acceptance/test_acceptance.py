"""
The sentences of the contract are those of `exotide check`, which is run once against a real stack.

That each of its checks can fail is shown in tests/check, and on real servers in test_broken.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_bdd import given, parsers, scenarios, step

from exotide.check.contract import CONTRACT
from exotide.check.runner import sentence
from exotide.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FEATURES = sorted(Path(__file__).parent.glob("*.feature"))
STEPS = ("Then ", "When ", "And ")
BY_SENTENCE = {sentence(check).casefold(): check for check in CONTRACT}


@given("the stack")
def the_stack(built: Stack) -> None:
    """It is there before the first check, and all scenarios share one run."""


@step(parsers.re("(?P<words>.+)"))
def stated(words: str, results: dict[str, dict[str, Any]]) -> None:
    check = BY_SENTENCE[words.casefold()]
    result = results[check.id]
    if result["status"] == "skipped":
        pytest.skip(f"NOT TESTED here: {result['seen']}")
    assert result["status"] == "passed", result
    assert result["took_s"] <= check.within_s + check.holds_s + 10, result


def test_the_features_say_what_the_checks_say() -> None:
    lines = [line.strip() for feature in FEATURES for line in feature.read_text().splitlines()]
    said = {line.partition(" ")[2].casefold() for line in lines if line.startswith(STEPS)}
    assert said == BY_SENTENCE.keys()


scenarios(".")

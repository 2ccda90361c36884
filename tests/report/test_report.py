from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from exotide.loadtest.sample import Phase, Sample
from exotide.report.charts import members_cost, story
from exotide.report.errors import RecordInvalid
from exotide.report.page import headline, render
from exotide.report.palette import Ink
from exotide.report.run import Run, from_json, to_json


class Outside(HTMLParser):
    """Collects everything that would make a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {k}={v}" for k, v in attrs if k in {"src", "srcset", "data", "action"}
        ]
        self.found += [
            f"{tag} {v}"
            for k, v in attrs
            if k in {"href", "xlink:href"} and not str(v).startswith("#")
        ]


def test_the_report_asks_for_nothing_outside_itself(run: Run) -> None:
    page = render(run)
    parser = Outside()
    parser.feed(page)
    assert parser.found == []
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_the_picture_is_well_formed_and_takes_every_colour_from_the_page(run: Run) -> None:
    picture = story(run)
    ET.fromstring(picture)
    assert not [ink for ink in Ink if ink.value in picture]
    assert not re.findall(r"#[0-9a-f]{6}\b", picture.replace("url(#", ""))
    assert {"Pool size · members", "load stays high", "above 80 %: grow", "+1", "\u22121"} <= set(
        re.findall(r">([^<>]+)</text>", picture)
    )


def test_a_good_run_is_told_in_its_headline(run: Run) -> None:
    assert headline(run) == "Passed: the pool went 1 → 2 → 3 → 2 → 1"


def test_a_run_that_never_grew_says_what_was_not_seen(make_run: Callable[..., Run]) -> None:
    page = render(make_run(growth_at=()))
    assert "Failed:" in page
    assert "not seen: grew to 3 or more" in page


def test_a_run_that_broke_shows_why_and_is_no_success(run: Run) -> None:
    broken = replace(run, failure="the load generator ended with 1\n<its last lines>")
    assert not broken.passed
    assert "&lt;its last lines&gt;" in render(broken)
    assert headline(broken) == "Failed: the run ended early"


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param((), id="no-sample"),
        pytest.param((Sample(t_s=0.0, phase=Phase.CALM),), id="one-gap"),
        pytest.param(
            tuple(Sample(t_s=float(i), phase=Phase.CALM) for i in range(9)), id="only-gaps"
        ),
    ],
)
def test_a_run_that_saw_nothing_still_has_a_report(run: Run, samples: tuple[Sample, ...]) -> None:
    assert "Failed:" in render(replace(run, samples=samples, decisions=()))


def test_what_an_agent_says_cannot_break_the_page(run: Run) -> None:
    text = "</script><script>alert(1)</script>"
    odd = replace(run, decisions=(replace(run.decisions[0], text=text),), settings={"x": text})
    assert "<script>alert" not in render(odd)


def test_a_record_draws_the_same_report_again(run: Run) -> None:
    again = from_json(to_json(run))
    assert again == run
    assert render(again) == render(run)


def test_a_summary_starts_with_what_a_script_asks_for(run: Run) -> None:
    summary = json.loads(to_json(run))
    assert list(summary)[:5] == ["format", "passed", "checks", "max_serving", "requests"]
    assert summary["passed"] is True
    assert summary["max_serving"] == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}'])
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(RecordInvalid):
        from_json(text)


def test_a_pool_that_breathes_costs_less_than_one_always_at_its_peak(run: Run) -> None:
    spent, fixed = members_cost(run)
    assert spent == sorted(spent)
    assert spent[-1] < fixed[-1]
    hours = run.samples[-1].t_s * run.speed / 3600
    assert fixed[-1] == pytest.approx(3 * hours * (0.00729 + 10 * 0.00014) * 100)


def test_the_record_names_every_field_of_a_run(run: Run) -> None:
    assert set(Run.__dataclass_fields__) <= set(json.loads(to_json(run)))

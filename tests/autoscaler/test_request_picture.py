"""The picture in docs/concepts/requests.md shows what the code does, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from exotide_autoscaler.domain import Intent, Phase, Policy, Pool, Reason, Request, Source
from exotide_autoscaler.inbox import cancelled_by, triage, withdrawable
from exotide_autoscaler.journal import Answer, Journal

from .worlds import HandClock, memory_journal

PAGE = Path(__file__).parents[2] / "docs/concepts/requests.md"
POLICY = Policy(holds_max=True)
ASKS = {Intent.UP: (2, 3), Intent.DOWN: (3, 2)}


def drawn() -> set[tuple[str, str]]:
    picture = PAGE.read_text(encoding="utf-8").partition("```mermaid\n")[2].partition("```")[0]
    edges = re.findall(r"^\s*(\S+) --> (\S+?)(?::|$)", picture, re.MULTILINE)
    return {(start.replace("_", "-"), end.replace("_", "-")) for start, end in edges}


def all_requests() -> Iterator[Request]:
    for intent, phase, late, asked in product(ASKS, Phase, (False, True), (False, True)):
        if not asked and phase is not Phase.WAITING:
            continue
        asked_from, target = ASKS[intent] if asked else (None, None)
        for once in {phase in {Phase.ACCEPTED, Phase.FALLEN}, phase is not Phase.WAITING}:
            yield Request(
                id=1,
                intent=intent,
                age_s=1000 if late else 5,
                phase=phase,
                once_accepted=once,
                asked_from=asked_from,
                target=target,
            )


def pools() -> Iterator[Pool | None]:
    yield None
    for size, settled in product(range(1, 5), (True, False)):
        state = "running" if settled else "scaling-up"
        yield Pool(name="web", size=size, state=state)


def by_a_pass() -> Iterator[tuple[str, str]]:
    later = Request(id=2, intent=Intent.DOWN, age_s=1)
    for request, pool, stuck in product(all_requests(), pools(), (False, True)):
        for others in ((), (later,)):
            result = triage((request, *others), pool=pool, stuck=stuck, policy=POLICY)
            yield from ((request.phase, each.phase) for each in result.open if each.id == 1)
            for item in result.closed:
                if item.request.id == 1:
                    yield request.phase, item.request.phase
                    yield item.request.phase, item.reason


def by_a_webhook() -> Iterator[tuple[str, str]]:
    for request in all_requests():
        if cancelled_by(Intent.UP, [request]):
            yield request.phase, Reason.OUTRANKED
        if withdrawable(request, alerts_left=0):
            yield request.phase, Reason.WITHDRAWN


def by_a_call() -> Iterator[tuple[str, str]]:
    """An attempt is written down, and so is its answer."""
    for phase, answer in product((Phase.WAITING, Phase.FALLEN), Answer):
        journal, now = Journal(memory_journal()), HandClock().now()
        made = journal.add(Intent.UP, Source.WEBHOOK, now=now)
        journal.keep([Request(id=made.id, intent=Intent.UP, age_s=0, phase=phase)])
        (before,) = journal.owed(now)
        attempt = journal.ask(before, size=1, target=2, victims=(), now=now)
        (asked,) = journal.owed(now)
        yield before.phase, asked.phase
        journal.answer(attempt, before, answer, now=now)
        (after,) = journal.owed(now)
        yield asked.phase, after.phase


def test_the_picture_shows_each_way_of_a_request_and_no_other() -> None:
    ways = {(start, end) for start, end in (*by_a_pass(), *by_a_webhook(), *by_a_call())}
    happens = {(str(start), str(end)) for start, end in ways if start != end}
    happens |= {("[*]", "waiting"), ("waiting", "at-limit")}
    assert drawn() == happens


def test_the_page_names_every_phase_and_every_end() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names = {*Phase, *(reason for reason in Reason if reason.closes)}
    assert {name for name in names if f"`{name}`" not in text} == set()

"""
Makes docs/reference/local-cloud.md from what the API does: `python -m tests.conformance.reference`.

Operations come from the table of endpoints, fields from trying them, differences and limits from
the data beside the code. Nothing in the page is written by hand.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.catalogue import QUOTAS, ZONES
from exotide.cloud.api.differences import BY_OPERATION, EVERYWHERE
from exotide.cloud.api.routing import Endpoint
from exotide.cloud.drivers import EMULATED
from exotide.cloud.servers.loopback.underlay import LIMITS, LOW_PORTS, SHARED
from exotide.cloud.servers.namespaces import Namespaces

from .document import DOCUMENT, OPERATIONS
from .probing import Finding, Prober, Use

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "local-cloud.md"
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HEAD: Final = """\
# The local cloud's API

Made by `make reference` from the code; a test fails when it is stale.

The official OpenAPI document (version {version}) has {all} operations; {here} of them exist here,
and every answer to them is judged by the document in every test. The others answer 404. The API
is below `/v2` (the default zone) and `/z/<zone>/v2`. Zones: {zones}.

Fields: *honoured* have their effect (or are kept and shown); *in part* means that some documented
values are refused; *ignored* are accepted without effect; *refused* answer 400, since a setting
without effect would only look as if it worked. Fields of bodies that are not named are honoured.
"""


def page() -> str:
    """Return the whole page."""
    prober = Prober()
    try:
        return "\n".join(_lines(prober)) + "\n"
    finally:
        prober.close()


def _lines(prober: Prober) -> Iterator[str]:
    yield HEAD.format(
        version=DOCUMENT["info"]["version"],
        all=len(OPERATIONS),
        here=len(ENDPOINTS),
        zones=", ".join(ZONES),
    )
    yield "## Operations\n"
    by_resource = sorted(ENDPOINTS, key=_resource)
    for resource, endpoints in groupby(by_resource, key=_resource):
        yield f"### {resource}\n"
        yield from _operations(prober, list(endpoints))
    yield "## Differences everywhere\n"
    yield from _items(EVERYWHERE)
    quotas = ", ".join(f"{name} {limit}" for name, limit in QUOTAS.items())
    yield f"Quotas of a new organisation here: {quotas}; `--quota.NAME N` changes one.\n"
    yield "## Limits by driver\n"
    yield "`exotide cloud status` shows those of the driver that runs.\n"
    yield from _items(
        [f"`processes` (root): {each}." for each in Namespaces.limits]
        + [f"`loopback` (anyone): {each}." for each in _loopback()]
        + [f"`none`: {each}." for each in EMULATED]
    )


def _resource(endpoint: Endpoint) -> str:
    return endpoint.path.split("/")[1]


def _operations(prober: Prober, endpoints: list[Endpoint]) -> Iterator[str]:
    yield "| operation | method and path | what it does |"
    yield "|---|---|---|"
    for each in endpoints:
        summary = (each.handler.__doc__ or "").strip().partition("\n")[0]
        yield f"| {each.operation} | `{each.method} {each.path}` | {summary} |"
    yield ""
    notes = [note for each in endpoints for note in _notes(prober, each)]
    if notes:
        yield from _items(notes)


def _notes(prober: Prober, endpoint: Endpoint) -> Iterator[str]:
    refusal = prober.refusal(endpoint)
    if refusal:
        yield f"{endpoint.operation} is refused: {_plain(refusal)}."
        return
    findings = prober.findings(endpoint)
    for use in (Use.PARTLY, Use.IGNORED, Use.REFUSED):
        chosen = [_shown(each) for each in findings if each.use is use]
        if chosen:
            yield f"{endpoint.operation}, {use}: {'; '.join(chosen)}."
    for difference in BY_OPERATION.get(endpoint.operation, ()):
        yield f"{endpoint.operation}: {difference}"


def _shown(finding: Finding) -> str:
    name = f"`{finding.name}`"
    if not finding.refusals:
        return name
    said = finding.refusals[0].removeprefix(f"{finding.name.lstrip('?')}: ")
    return f"{name} ({_plain(said)})"


def _plain(said: str) -> str:
    """Leave out what was sent."""
    return UUID.sub("<id>", said.partition(", got: ")[0])


def _loopback() -> tuple[str, ...]:
    return (LOW_PORTS.format(first=1024), *LIMITS, SHARED)


def _items(sentences: Iterable[str]) -> Iterator[str]:
    for each in sentences:
        yield f"- {each}"
    yield ""


def main() -> None:
    """Write the page."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    PAGE.write_text(page())


if __name__ == "__main__":
    main()

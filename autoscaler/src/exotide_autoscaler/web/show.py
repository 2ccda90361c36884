"""What the program shows: health, metrics, decisions, and a small page for people."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from exotide_autoscaler.domain import Pool, RecordedDecision
from exotide_autoscaler.errors import JournalError
from exotide_autoscaler.journal import RecordedWebhook
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.ports import Scribe
from exotide_autoscaler.reconcile import Pass

_MOST_DECISIONS: Final = 1000
_ON_PAGE: Final = 20
_MOST_NOTICE_CHARS: Final = 2000
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>exotide autoscaler</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  overflow-wrap: anywhere }}
strong {{ font-size: 2rem }} td {{ padding: .25rem 1rem .25rem 0; vertical-align: top }}
td:first-child {{ white-space: nowrap; opacity: .8 }}
@media (max-width: 40rem) {{ td {{ display: block; padding: 0 }} }}
</style></head><body><h1>Autoscaler{pool}</h1>
<p><strong>{size}</strong> {noun} &middot; waiting: {waiting}</p>{doubts}
<h2>Last decisions</h2><table>{rows}</table>
<h2>Last webhooks</h2><table>{webhooks}</table></body></html>
"""


class Views:
    """The read-only endpoints."""

    def __init__(
        self,
        *,
        scribe: Scribe,
        metrics: Metrics,
        latest: Callable[[], Pass | None],
        healthy: Callable[[], bool],
        alive: Callable[[], bool],
        notice: Path | None = None,
    ) -> None:
        self._scribe = scribe
        self._metrics = metrics
        self._latest = latest
        self._healthy = healthy
        self._alive = alive
        self._notice = notice

    def health_routes(self) -> list[BaseRoute]:
        """Liveness, readiness and metrics: on every listener."""
        return [
            Route("/livez", self.livez),
            Route("/healthz", self.livez),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    def read_routes(self) -> list[BaseRoute]:
        """Everything that may be read."""
        return [*self.health_routes(), Route("/", self.page), Route("/decisions", self.decisions)]

    async def livez(self, _request: Request) -> Response:
        """Whether the loop runs; if not, a restart helps."""
        if self._alive():
            return PlainTextResponse("OK\n")
        return PlainTextResponse("the loop has ended\n", status_code=503)

    async def readyz(self, _request: Request) -> Response:
        """Whether webhooks can be taken; that needs the journal and not the cloud.

        After `OK`, a line for each thing that keeps the pool from what was asked for.
        """
        if self._healthy():
            return PlainTextResponse("OK\n" + "".join(f"{line}\n" for line in self._doubts()))
        return PlainTextResponse("the journal cannot be written\n", status_code=503)

    def _doubts(self) -> list[str]:
        """What an operator should know although webhooks are taken."""
        latest, found = self._latest(), self._noticed()
        if latest is None:
            return [*found, "the pool was not read yet"]
        if latest.error:
            found.append(latest.error)
        if latest.unsettled_s is not None and latest.pool is not None:
            found.append(unsettled_text(latest.pool, latest.unsettled_s))
        return found

    def _noticed(self) -> list[str]:
        """What others on this machine have to say to those who look here."""
        text = ""
        with suppress(OSError, ValueError):
            text = self._notice.read_text()[:_MOST_NOTICE_CHARS].strip() if self._notice else ""
        return [text] if text else []

    async def metrics(self, _request: Request) -> Response:
        """Prometheus' text format."""
        text = generate_latest(self._metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def decisions(self, request: Request) -> Response:
        """Decisions with an id above `after`, oldest first, at most `limit`."""
        after = _number(request.query_params.get("after", "0"))
        limit = _number(request.query_params.get("limit", "100"))
        if after is None or limit is None or not 1 <= limit <= _MOST_DECISIONS:
            text = f"after must be a number, limit one from 1 to {_MOST_DECISIONS}"
            return JSONResponse({"error": text}, status_code=400)
        try:
            found = await self._scribe.run(
                lambda journal: journal.decisions(after=after, limit=limit)
            )
        except JournalError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        return JSONResponse({"decisions": [_as_json(item) for item in found]})

    async def page(self, _request: Request) -> Response:
        """The status page."""
        try:
            found, webhooks = await self._scribe.run(
                lambda journal: (journal.latest(_ON_PAGE), journal.webhooks(_ON_PAGE))
            )
        except JournalError as error:
            return PlainTextResponse(f"{error}\n", status_code=503)
        latest = self._latest()
        size = latest.decision.size if latest else None
        waiting = ", ".join(sorted(latest.waiting)) if latest else ""
        text = _PAGE.format(
            pool=f" of {html.escape(latest.pool.name)}" if latest and latest.pool else "",
            size="?" if size is None else size,
            noun="instance" if size == 1 else "instances",
            waiting=html.escape(waiting) or "nothing",
            doubts="".join(f"<p>{html.escape(line)}</p>" for line in self._doubts()),
            rows=_rows((item.at, item.text) for item in found),
            webhooks=_rows((item.at, _webhook_text(item)) for item in webhooks),
        )
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(text, headers={"content-security-policy": policy})


def _as_json(item: RecordedDecision) -> dict[str, object]:
    return {
        "id": item.id,
        "at": item.at,
        "size": item.decision.size,
        "wanted": item.decision.wanted,
        "reason": item.decision.reason,
        "intent": item.decision.intent,
        "text": item.text,
    }


def _webhook_text(item: RecordedWebhook) -> str:
    asked = "" if item.request_id is None else f", request {item.request_id}"
    return f"/{item.path} {item.outcome}{asked}" + (f": {item.alert}" if item.alert else "")


def unsettled_text(pool: Pool, unsettled_s: float) -> str:
    """One line that says what a pool lacks."""
    members = "" if pool.members is None else f", {len(pool.members)} listed"
    return (
        f"the pool has not settled for {unsettled_s:.0f} s: {pool.size} asked for{members},"
        f" state {pool.state}"
    )


def _rows(found: Iterable[tuple[float, str]]) -> str:
    return "".join(
        f"<tr><td>{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))} UTC</td>"
        f"<td>{html.escape(text)}</td></tr>"
        for at, text in found
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

"""The report: one HTML file that needs nothing else, for light and dark screens and for paper."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from typing import Final

from exotide.cost.prices import stack_prices
from exotide.loadtest.sample import DecisionMark
from exotide.loadtest.verdict import Check
from exotide.report.charts import members_cost, peak_size, story
from exotide.report.crosshair import SCRIPT, readings
from exotide.report.palette import DARK, LIGHT, variables
from exotide.report.run import Run, totals

CSS: Final = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);
 font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.015em}
h2{font-size:17px;margin:36px 0 10px}
p.sub{color:var(--muted);margin:0 0 20px}
.passed h1 span{color:var(--answered)}.failed h1 span{color:var(--hot)}
.failure{border-left:4px solid var(--hot);padding:8px 14px;margin:0 0 18px;white-space:pre-wrap}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:12px}
.card{border:1px solid var(--grid);border-radius:10px;padding:12px 14px}
.card b{display:block;font-size:15px}.card i{font-style:normal;color:var(--muted);font-size:13.5px}
.met .tick{color:var(--answered)}.unmet .tick{color:var(--hot)}
.unmet{border-color:var(--hot)}
figure{margin:24px 0 0;position:relative}
figure svg{display:block;width:100%;height:auto;font-family:inherit}
#hair{position:absolute;top:0;bottom:0;width:1px;background:var(--text);opacity:.45;display:none;pointer-events:none}
#tip{position:absolute;top:6px;display:none;pointer-events:none;background:var(--paper);
 border:1px solid var(--grid);border-radius:8px;padding:7px 11px;font-size:13px;line-height:1.45;
 box-shadow:0 4px 18px rgb(0 0 0/.18);white-space:pre;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;color:var(--muted);font-weight:600}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
tr.up td.s{color:var(--hot);font-weight:700}tr.down td.s{color:var(--cold);font-weight:700}
tr.hold td{color:var(--muted)}
.wide{overflow-x:auto}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 22px;margin:0;font-size:14px}
dt{color:var(--muted)}dd{margin:0}
footer{margin-top:34px;color:var(--muted);font-size:13px}
@media print{figure{break-inside:avoid}}
"""


THEMES: Final = (
    f":root{{color-scheme:light dark;{variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
)


def picture(run: Run) -> str:
    """The charts alone, as an SVG file that follows the reader's light or dark theme."""
    style = (
        f"<style>{THEMES}svg{{background:var(--paper);"
        "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}}"
        "</style>"
    )
    return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, story(run), count=1)


def render(run: Run) -> str:
    """The whole page."""
    state = "passed" if run.passed else "failed"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>exotide: {escape(headline(run))}</title>
<style>{THEMES}{CSS}</style></head>
<body><main class="{state}">
<h1>{_headline_html(run)}</h1>
<p class="sub">{escape(_subline(run))}</p>
{_failure(run)}<section class="cards">{"".join(map(_card, run.verdict.checks))}</section>
<figure>{story(run)}<div id="hair"></div><div id="tip"></div></figure>
<h2>What the autoscaler decided, and why</h2>
<div class="wide">{_decisions(run)}</div>
<h2>Settings of this run</h2>
{_settings(run)}
<footer>{escape(_footer(run))}</footer>
</main>
<script type="application/json" id="readings">{_embedded(readings(run))}</script>
<script>{SCRIPT}</script>
</body></html>
"""


def headline(run: Run) -> str:
    """The verdict in a few words."""
    sizes = " → ".join(map(str, journey(run)))
    if run.passed:
        return f"Passed: the pool went {sizes}"
    if run.failure is not None:
        return "Failed: the run ended early"
    missing = [check.name for check in run.verdict.checks if not check.met]
    return f"Failed: not seen: {', '.join(missing)}"


def journey(run: Run) -> list[int]:
    """The sizes that the pool was asked to have, in order, without repeats."""
    sizes: list[int] = []
    for sample in run.samples:
        if sample.wanted is not None and (not sizes or sizes[-1] != sample.wanted):
            sizes.append(sample.wanted)
    return sizes


def clock(t_s: float) -> str:
    """Minutes and seconds."""
    return f"{int(t_s) // 60}:{int(t_s) % 60:02d}"


def _headline_html(run: Run) -> str:
    verdict, rest = headline(run).split(":", 1)
    return f"<span>{escape(verdict)}:</span>{escape(rest)}"


def _subline(run: Run) -> str:
    count = totals(run)
    when = datetime.fromtimestamp(run.started_at, tz=UTC).strftime("%d %B %Y, %H:%M UTC")
    pace = (
        "at the assignment's own pace"
        if run.speed == 1
        else f"{run.speed:g} times faster than life"
    )
    lost = f"{count['failed']} failed" if count["failed"] else "none failed"
    answered = f"{count['completed']:,} requests answered"
    return f"{when} · {clock(run.wall_s)} in all, {pace} · {answered}, {lost}"


def _failure(run: Run) -> str:
    return f'<div class="failure">{escape(run.failure)}</div>\n' if run.failure else ""


def _card(check: Check) -> str:
    state, tick = ("met", "✓") if check.met else ("unmet", "✗")
    at = f" · {clock(check.met_at_s)}" if check.met_at_s is not None else ""
    name = _kept_together(check.name[0].upper() + check.name[1:])
    return (
        f'<div class="card {state}"><b><span class="tick">{tick}</span> {escape(name)}</b>'
        f"<i>{escape(_kept_together(check.text))}{at}</i></div>"
    )


def _kept_together(text: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=[s%])", "\N{NO-BREAK SPACE}", text)


def _decisions(run: Run) -> str:
    if not run.decisions:
        return '<p class="sub">No decision was recorded.</p>'
    same = groupby(run.decisions, lambda m: (m.step, m.size, m.reason, m.intent, m.step and m.t_s))
    rows = "".join(_row(list(marks)) for _, marks in same)
    head = "<tr><th>time</th><th>size</th><th>alerts asked for</th><th>reason</th><th></th></tr>"
    return f"<table>{head}{rows}</table>"


def _row(marks: list[DecisionMark]) -> str:
    """One change of size, or all passes on end that left it for the same reason."""
    mark, last = marks[0], marks[-1]
    until = f" to {clock(max(0.0, last.t_s))}" if last is not mark else ""
    size, wanted = ("?" if value is None else str(value) for value in (mark.size, mark.wanted))
    kind = "up" if mark.step > 0 else "down" if mark.step < 0 else "hold"
    cells = [
        ("n", f"{clock(max(0.0, mark.t_s))}{until}"),
        ("n s", f"{size} → {wanted}" if mark.step else size),
        ("", mark.intent),
        ("", mark.reason),
        ("", mark.text),
    ]
    inner = "".join(f'<td class="{style}">{escape(text)}</td>' for style, text in cells)
    return f'<tr class="{kind}">{inner}</tr>'


def _settings(run: Run) -> str:
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in run.settings.items())
    return f"<dl>{items}</dl>"


def _footer(run: Run) -> str:
    prices = stack_prices(
        member_type=run.member_type, monitoring_type=run.monitoring_type, disk_gib=run.disk_gib
    )
    spent, fixed = members_cost(run)
    saved = (
        f"; {1 - spent[-1] / fixed[-1]:.0%} less than always {peak_size(run)}" if any(fixed) else ""
    )
    return (
        f"Cost: Exoscale's public list, {prices.member:.5f} EUR per hour and member "
        f"({run.member_type} with {run.disk_gib:g} GiB){saved}. Balancer and monitoring server: "
        f"{prices.base:.5f} EUR per hour, whatever the size."
    )


def _embedded(data: object) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")

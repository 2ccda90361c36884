"""Reading exact values off the picture: a line that follows the pointer. The page works without."""

from __future__ import annotations

from typing import Any, Final

from exotide.report.charts import LEFT, RIGHT
from exotide.report.run import Run

SCRIPT: Final = """
(()=>{const d=JSON.parse(document.getElementById('readings').textContent),
f=document.querySelector('figure'),hair=document.getElementById('hair'),
tip=document.getElementById('tip');
if(!d.rows.length)return;
f.addEventListener('mousemove',e=>{const b=f.getBoundingClientRect(),l=b.width*d.left,
r=b.width*d.right,
x=e.clientX-b.left;if(x<l||x>r){off();return}
const t=(x-l)/(r-l)*d.end;let n=d.rows[0];for(const row of d.rows)if(row[0]<=t)n=row;
tip.textContent=n[1];hair.style.left=x+'px';hair.style.display=tip.style.display='block';
const w=tip.offsetWidth;tip.style.left=(x+w+16<b.width?x+12:x-w-12)+'px';
tip.style.top=Math.max(6,e.clientY-b.top-tip.offsetHeight/2)+'px'});
const off=()=>{hair.style.display=tip.style.display='none'};
f.addEventListener('mouseleave',off)})();
"""


def readings(run: Run) -> dict[str, Any]:
    """What the script needs: where the axes are, and a text per sample."""
    rows = [
        [
            sample.t_s,
            "\n".join(
                (
                    f"{int(sample.t_s) // 60}:{int(sample.t_s) % 60:02d}  {sample.phase}",
                    f"offered   {_text(sample.offered_rps, '{:.1f}/s')}",
                    f"answered  {_text(sample.completed, '{}/s')}",
                    f"CPU       {_text(_percent(sample.cpu_ratio), '{:.0f} %')}",
                    f"serving   {_text(sample.serving, '{}')} of {_text(sample.wanted, '{}')}",
                    f"p50       {_text(sample.p50_s, '{:.2f} s')}",
                    f"p95       {_text(sample.p95_s, '{:.2f} s')}",
                )
            ),
        ]
        for sample in run.samples
    ]
    end_s = max((sample.t_s for sample in run.samples), default=1.0)
    return {"left": LEFT, "right": RIGHT, "end": max(end_s, 1.0), "rows": rows}


def _text(value: float | None, form: str) -> str:
    return "no data" if value is None else form.format(value)


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100

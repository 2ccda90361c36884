"""Section 3 of the contract, second half: the pool follows the load."""

from __future__ import annotations

from typing import Any, Final

from .errors import WebFault
from .model import Seen
from .monitoring import COUNTED, average
from .prometheus import understood
from .scene import Scene

MOST_PAGES: Final = 20
_PAGE: Final = 1000


def grown(scene: Scene) -> Seen:
    """See whether the pool has one member more than before the load."""
    return _larger(scene, by=1)


def grown_on(scene: Scene) -> Seen:
    """See whether it has two more, or is as large as it may be."""
    seen = _larger(scene, by=2)
    decision = {} if seen.fine else _last_decision(scene)
    if decision.get("reason") == "at-limit" and decision.get("intent") == "up":
        return Seen(fine=True, text=f"{seen.text}; it is at its largest: {decision.get('text')}")
    return seen


def advise_grown(scene: Scene) -> str:
    """Tell which link of the chain from CPU to pool it is."""
    cpu = average(scene)
    if cpu is None:
        return "Prometheus has no CPU of the members, so that no alert can fire"
    if cpu < 0.8:
        return f"the average CPU is {cpu:.0%} only: the alert needs more than 80 %; {COUNTED}"
    decision = _last_decision(scene)
    if not decision:
        return (
            f"the autoscaler does not tell its decisions on {scene.status_url}; on that server: "
            "journalctl -u exotide-autoscaler"
        )
    return (
        f"the autoscaler's last decision: {decision.get('text')}; all on {scene.status_url}; "
        "if it got no webhook: do the alerts fire?"
    )


def end_loops(scene: Scene) -> None:
    """Let the loops end after their present requests."""
    if scene.loops is not None:
        scene.answers = dict(scene.loops.stop())
        scene.note("calm")


def no_loops(scene: Scene) -> str:
    """Tell that there was no load."""
    return "" if scene.loops is not None else "no loop ran"


def none_lost(scene: Scene) -> Seen:
    """
    Count the answers that were not 200.

    Where a member left meanwhile, its requests may be lost: no cloud promises to let them end.
    """
    asked = sum(scene.answers.values())
    lost = {answer: count for answer, count in scene.answers.items() if answer != "200"}
    shown = "; ".join(f"{count} times {answer}" for answer, count in sorted(lost.items()))
    text = f"{asked} requests, {shown or 'all answered 200'}"
    gone = scene.members_before - scene.pool().member_ids if lost else frozenset()
    if gone:
        text += f"; {len(gone)} of the first members left meanwhile, which may lose requests"
    return Seen(fine=asked > 0 and (not lost or bool(gone)), final=True, text=text)


def advise_lost(_: Scene) -> str:
    """Tell how requests get lost."""
    return (
        "no member left, so each must have answered: was one unhealthy under the load, or not "
        "ready when its first requests came? on a member: journalctl -u slowapp"
    )


def shrunk(scene: Scene) -> Seen:
    """See whether the pool is as small as before the load."""
    size = len(scene.pool().member_ids)
    return Seen(fine=size <= scene.size_before, text=_size_and_cpu(scene, size))


def advise_shrunk(scene: Scene) -> str:
    """Tell which link of the chain it is."""
    cpu = average(scene)
    if cpu is not None and cpu > 0.2:
        return f"the average CPU is still {cpu:.0%}: the alert needs less than 20 %; {COUNTED}"
    decision = _last_decision(scene)
    return f"the autoscaler's last decision: {decision.get('text', 'unknown')}; {scene.status_url}"


def _larger(scene: Scene, *, by: int) -> Seen:
    size = len(scene.pool().member_ids)
    return Seen(fine=size >= scene.size_before + by, text=_size_and_cpu(scene, size))


def _size_and_cpu(scene: Scene, size: int) -> str:
    cpu = average(scene) if scene.server else None
    shown = "" if cpu is None else f", average CPU {cpu:.0%}"
    return f"{size} member{'' if size == 1 else 's'}{shown}"


def _last_decision(scene: Scene) -> dict[str, Any]:
    """Read on until the newest; nothing if the autoscaler does not answer."""
    last: dict[str, Any] = {}
    if scene.server is None:
        return last
    for _ in range(MOST_PAGES):
        query = {"after": str(last.get("id", 0)), "limit": str(_PAGE)}
        try:
            page = scene.web.get(f"{scene.status_url}/decisions", query=query)
            with understood(page.url):
                found = page.json()["decisions"]
                last = found[-1] if found else last
        except WebFault:
            return last
        if len(found) < _PAGE:
            return last
    return last

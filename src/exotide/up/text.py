"""How things are said: PURE. Plain text that reads without colour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .leftovers import Leftover
from .messages import Change, Outputs, Summary
from .meter import Meter
from .state import State

_UNITS_S: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
NOT_OURS: Final = (
    "they bear this stack's names and are not in this folder's state. If they are another stack, "
    "give this one another name: exotide up --var name=NAME"
)
YOUNGER: Final = (
    "this folder's last apply broke off, and these were made after that: they are another stack's "
    "and left alone. Give this one another name: exotide up --var name=NAME. If they are its own "
    "after all: exotide down --orphans"
)
RESISTS: Final = (
    "this folder's last apply broke off and made these, and they could not be removed, see above; "
    "remove them, or try again: exotide up"
)
QUOTA: Final = (
    "a quota of the account is used up, as the error below says: ask for more in the portal "
    "(Organization, Quotas), or remove what is not needed; then go on with it: exotide up"
)
_PORTAL: Final = "https://portal.exoscale.com"


def span(seconds: float) -> str:
    """A time in its two largest units: 1 h 59 min."""
    rest, parts = max(0, int(seconds)), []
    for unit, size in _UNITS_S:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(at_s: float) -> str:
    """A moment of Unix time."""
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def unix_s(text: object) -> float | None:
    """Read a moment as Terraform writes it; None for anything else."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def price(per_hour: float | None) -> str:
    """A rate."""
    return "price not known" if per_hour is None else f"{per_hour:.5f} EUR per hour"


def spent(meter: Meter) -> str:
    """A cost."""
    return "an unknown cost" if meter.prices is None else f"about {meter.spent_eur:.4f} EUR"


def change(each: Change) -> str:
    """One resource, when it was dealt with."""
    return f"  {each.done:<9}  {each.address}  {each.seconds:.0f} s"


def summary(each: Summary, *, seconds: float) -> str:
    """All resources."""
    counts = f"{each.added} created, {each.changed} changed, {each.removed} destroyed"
    return f"{each.operation}: {counts} in {span(seconds)}"


def table(outputs: Outputs) -> str:
    """The outputs, one a line; a secret one by how to see it."""
    width = max(map(len, outputs.values), default=0)
    shown = {
        name: f"secret; see it by: terraform output -raw {name}"
        if name in outputs.secret
        else _value(value)
        for name, value in outputs.values.items()
        if name in outputs.secret or value not in (None, "")
    }
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in shown.items())


def _rate(meter: Meter) -> str:
    if meter.per_hour is None:
        return "cost unknown"
    return f"{meter.spent_eur:.4f} EUR ({meter.per_hour:.5f}/h)"


def running(meter: Meter, *, since_s: float, deadline_s: float | None) -> str:
    """The stack now, in a line of less than 80 characters: what it cuts off is not read."""
    parts = [f"up {span(meter.at_s - since_s)}", f"pool {meter.members}", _rate(meter)]
    if deadline_s is not None:
        parts.append(f"destroyed in {span(deadline_s - meter.at_s)}")
    return "  ".join(parts)


def loud(left: tuple[Leftover, ...], *, name: str, zone: str) -> str:
    """What still exists and costs, and how to be rid of it."""
    known = [each.per_hour for each in left]
    total = price(None if None in known else sum(each for each in known if each is not None))
    rule = "!" * 79
    lines = [
        rule,
        f"!! {len(left)} RESOURCES OF STACK {name} STILL EXIST AND MAY COST MONEY: {total}",
        "!!",
    ]
    for each in left:
        state = f", {each.state}" if each.state else ""
        lines += [f"!! {each.resource}{state}: {each.cost}", f"!!     {each.command(zone)}"]
    lines += [
        "!!",
        "!! Remove them in this order by these commands, or in the portal:",
        f"!! {_PORTAL} (zone {zone}: Compute; IAM). All of them at once, by name,",
        f"!! if no other stack of this account has the name: exotide down --orphans --name {name}",
        rule,
    ]
    return "\n".join(lines)


def unseen(fault: str, *, name: str) -> str:
    """What is left could not be seen."""
    return (
        f"!! WHAT IS LEFT OF STACK {name} IS NOT KNOWN, it may cost money: {fault}\n"
        f"!! Look in the portal, {_PORTAL}, or try again: exotide down"
    )


def still_known(known: State) -> str:
    """What Terraform could not remove, or has not yet."""
    lines = [f"!! {each.type} {each.name} {each.id}" for each in known.resources]
    return "\n".join([f"!! {len(lines)} RESOURCES ARE STILL IN THE STATE:", *lines])


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_number(each)}" for name, each in value.items())
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Checks as data: a sentence of the contract, a look that judges it, and how long to look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from exotide.access.rights import Right

from .scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look found."""

    fine: bool
    text: str
    final: bool = False
    """Not fine, and looking on would not change it."""


class Status(StrEnum):
    """How a check ended. Used verbatim in the table and in JSON."""

    PASSED = "passed"
    LATE = "passed late"
    """After the contract's limit, and before the patience for this cloud was over."""
    FAILED = "failed"
    SKIPPED = "skipped"


def nothing_lacks(_: object) -> str:
    """Say that a check can be made."""
    return ""


def no_advice(_: object) -> str:
    """Say nothing."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One sentence of the contract.

    The act is done once, then the look is repeated until it is fine or the time is over.
    """

    id: str
    parts: tuple[int, ...]
    """The contract's sections that need it; the first is the one that states it."""
    says: str
    look: Callable[[Scene], Seen]
    advise: Callable[[Scene], str] = no_advice
    """What to do about its failure; asked only then, and may ask around."""
    within_s: float = 0.0
    """How long a look may be wrong by the contract. 0: the first one counts."""
    slower_s: float = 0.0
    """How much longer than that the real cloud is waited for."""
    since: str = ""
    """The moment from which the time counts: an earlier check's pass, or one that an act notes."""
    holds_s: float = 0.0
    """The look must be fine for so long on end."""
    along: bool = False
    """It is looked at together with the one before it, so that neither waits for the other."""
    act: Callable[[Scene], None] | None = None
    needs: tuple[str, ...] = ()
    """Checks that must have passed before."""
    lacks: Callable[[Scene], str] = nothing_lacks
    """Why it cannot be made here; empty: it can."""
    warns: str = ""
    """What it does to the stack, told before. Empty: it only looks."""
    server_hours: float = 0.0
    """What it costs at most, in hours of a server like the pool's."""
    rights: tuple[Right, ...] = ()
    """What the key must be allowed for it, beside looking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one check ended."""

    id: str
    part: int
    says: str
    status: Status
    took_s: float
    """Since the moment from which its time counts."""
    seen: str
    """The last thing seen, or why it was skipped."""
    hint: str = ""
    """What to do about a failure."""

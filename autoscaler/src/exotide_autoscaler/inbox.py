"""
Which of the owed intents counts next. Pure.

An intent leaves the inbox in one of five ways: the pool shows what it asked for (served), the pool
is at its limit (at-limit), it waited too long (expired), or it asked for less while another asked
for more (superseded). A delay is none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exotide_autoscaler.domain import Intent, Owed


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """The inbox, sorted."""

    served: tuple[Owed, ...] = ()
    expired: tuple[Owed, ...] = ()
    superseded: tuple[Owed, ...] = ()
    head: Owed | None = None
    """The intent to serve next; None: nobody asks for anything."""


def triage(owed: Sequence[Owed], *, size: int | None, ttl_s: float) -> Triage:
    """
    Sort the inbox, given the pool's size as just read.

    More wins over less: a waiting `up` drops every `down`. An `up` that the cloud was asked for
    already waits no more, so a `down` that comes after it stays and is served after it.

    Args:
        size: None when the pool could not be read: then only intents on whose behalf nothing was
            asked can expire, since the others may be served without our knowing.
    """
    served = tuple(intent for intent in owed if size is not None and intent.reached_by(size))
    rest = [intent for intent in owed if intent not in served]
    expired = tuple(
        intent for intent in rest if intent.age_s > ttl_s and (size is not None or not intent.asked)
    )
    rest = [intent for intent in rest if intent not in expired]
    superseded: tuple[Owed, ...] = ()
    if any(intent.intent is Intent.UP and not intent.asked for intent in rest):
        superseded = tuple(intent for intent in rest if intent.intent is Intent.DOWN)
    rest = [intent for intent in rest if intent not in superseded]
    rest.sort(key=lambda intent: (intent.intent is not Intent.UP, intent.id))
    return Triage(
        served=served,
        expired=expired,
        superseded=superseded,
        head=rest[0] if rest else None,
    )

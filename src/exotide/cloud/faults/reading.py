"""Faults as JSON: read from what somebody asks for, and shown with what they have met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, Literal

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.catalogue import QUOTAS, ZONES
from exotide.cloud.api.errors import FailureReason, Invalid
from exotide.cloud.faults.engine import Armed
from exotide.cloud.faults.foreign import CHANGES
from exotide.cloud.faults.model import (
    LONGEST_S,
    BootFailure,
    BrokenBody,
    Death,
    Drop,
    Duration,
    EarlySuccess,
    Effect,
    FailingOperation,
    FallBack,
    Fault,
    ForeignChange,
    Hang,
    Lag,
    Latency,
    NoCapacity,
    Protection,
    Quota,
    RateLimit,
    Refusal,
    Selector,
    ServerError,
    Shortfall,
    SlowBoot,
    Stage,
    Staggered,
    StuckOperation,
    StuckState,
    Timing,
    WrongField,
)

Reader = Callable[[str, object], object]

_EFFECTS: Final[tuple[type[Effect], ...]] = (
    Latency,
    ServerError,
    RateLimit,
    Refusal,
    BrokenBody,
    Drop,
    Lag,
    WrongField,
    ForeignChange,
    Shortfall,
    Staggered,
    FallBack,
    StuckState,
    Protection,
    FailingOperation,
    StuckOperation,
    EarlySuccess,
    BootFailure,
    SlowBoot,
    NoCapacity,
    Death,
    Hang,
    Quota,
)
KINDS: Final[Mapping[str, type[Effect]]] = {each.kind: each for each in _EFFECTS}

_DURATION: Final = (
    f"seconds from 0 to {LONGEST_S:g}, as 2, uniform:LEAST:MOST or lognormal:MEDIAN:SIGMA"
)
_NEEDED: Final[Mapping[str, str]] = {
    "delay_s": _DURATION,
    "behind_s": "seconds from 0 to 600",
    "field": "the name of a field of answers",
}
"""What fields without a default may be."""
_SHAPES: Final[Mapping[str, Literal["uniform", "lognormal"]]] = {
    "uniform": "uniform",
    "lognormal": "lognormal",
}


def read_fault(values: Mapping[str, object], *, fresh_seed: Callable[[], int]) -> Fault:
    """
    Read a fault; what is absent or null has its default.

    Raises:
        Invalid: Naming the field, what it may be, and what came.
    """
    given = {name: value for name, value in values.items() if value is not None}
    kind = given.pop("kind", None)
    effect = KINDS.get(kind) if isinstance(kind, str) else None
    if effect is None:
        raise Invalid.field("kind", f"one of {', '.join(KINDS)}", kind)
    readers = _readers(effect)
    for name in given:
        if name not in readers:
            raise Invalid(f"{name}: a {effect.kind} has no such field; it has {', '.join(readers)}")
    for each in fields(effect):
        if each.default is MISSING and each.name not in given:
            raise Invalid(f"{each.name}: a {effect.kind} needs this: {_NEEDED[each.name]}")
    read = {name: readers[name](name, value) for name, value in given.items()}
    if "seed" not in read:
        read["seed"] = fresh_seed()
    return _build(effect, read)


def read_pace(values: Mapping[str, object]) -> dict[str, float]:
    """
    Read what to change of a cloud's pace.

    Raises:
        Invalid: Naming the field, what it may be, and what came.
    """
    for name in values:
        if name not in _PACE_FIELDS:
            raise Invalid(f"{name}: a pace has no such field; it has {', '.join(_PACE_FIELDS)}")
    given = {name: value for name, value in values.items() if value is not None}
    return {name: _PACE_FIELDS[name](name, value) for name, value in given.items()}


def show_fault(armed: Armed, *, age_s: float, holds: int) -> dict[str, object]:
    """Return a fault with what it has met; `holds` counts the operations that wait for it."""
    fault, timing = armed.fault, armed.fault.timing
    shown: dict[str, object] = {"id": armed.id, "kind": fault.effect.kind}
    for part in (fault.effect, fault.selector, timing):
        values = {each.name: getattr(part, each.name) for each in fields(part)}
        shown |= {name: _plain(value) for name, value in values.items() if value is not None}
    over = not armed.is_open(armed.added_s + age_s)
    state = "waiting" if age_s < timing.from_s else "over" if over else "active"
    tally = armed.tally
    return shown | {"state": state, "seen": tally.seen, "struck": tally.struck, "holds": holds}


def _build(effect: type[Effect], read: Mapping[str, object]) -> Fault:
    parts = []
    for part in (effect, Selector, Timing):
        names = {each.name for each in fields(part)}
        # The readers have made sure of the types.
        make: Callable[..., object] = part
        parts.append(make(**{name: value for name, value in read.items() if name in names}))
    make_fault: Callable[..., Fault] = Fault
    return make_fault(effect=parts[0], selector=parts[1], timing=parts[2])


def _readers(effect: type[Effect]) -> dict[str, Reader]:
    """What a kind of fault has, and how it is read."""
    names = [each.name for each in fields(effect)]
    own = {name: _OWN_FIELDS.get((effect.kind, name)) or _EFFECT_FIELDS[name] for name in names}
    if effect.stage is Stage.QUOTA:
        return own | {name: _TIMING_FIELDS[name] for name in ("from_s", "for_s")}
    chosen = dict(_SELECTOR_FIELDS)
    if effect.stage is Stage.BOOT:
        del chosen["operation"]
    return {**own, **chosen, **_TIMING_FIELDS}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Duration | StrEnum) else value


def _number(
    least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[str, object], float]:
    expected = f"a number above {least:g}" if above else f"a number of at least {least:g}"
    expected += "" if most == math.inf else f" and at most {most:g}"

    def read(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid.field(name, expected, value)
        if not least <= value <= most or (above and value == least) or not math.isfinite(value):
            raise Invalid.field(name, expected, value)
        return float(value)

    return read


def _whole(least: int, most: int) -> Reader:
    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Invalid.field(name, f"a whole number from {least} to {most}", value)
        return value

    return read


def _choice(*allowed: str) -> Reader:
    def read(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Invalid.field(name, f"one of {', '.join(allowed)}", value)
        return value

    return read


def _reason(name: str, value: object) -> FailureReason:
    return FailureReason(str(_choice(*FailureReason)(name, value)))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise Invalid.field(name, "a text of 1 to 255 characters", value)
    return value


def _long_text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > 4_096:
        raise Invalid.field(name, "a text of at most 4096 characters", value)
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid.field(name, "true or false", value)
    return value


def _operation(name: str, value: object) -> str:
    pattern = _text(name, value)
    if not any(fnmatchcase(each.operation, pattern) for each in ENDPOINTS):
        raise Invalid.field(
            name, "the name of an operation, such as scale-instance-pool or 'list-*'", value
        )
    return pattern


def _duration(name: str, value: object) -> Duration:
    if isinstance(value, int | float):
        return Duration(first=_seconds(name, value))
    shape, *numbers = str(value).split(":")
    try:
        drawn = [float(number) for number in numbers or [shape]]
    except ValueError as error:
        raise Invalid.field(name, _DURATION, value) from error
    if not numbers:
        return Duration(first=_seconds(name, drawn[0]))
    if shape not in _SHAPES or len(drawn) != 2:
        raise Invalid.field(name, _DURATION, value)
    first, second = (_seconds(name, number) for number in drawn)
    if shape == "uniform" and second < first:
        raise Invalid.field(name, "LEAST not above MOST in uniform:LEAST:MOST", value)
    return Duration(shape=_SHAPES[shape], first=first, second=second)


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not 0 <= value <= LONGEST_S:
        raise Invalid.field(name, _DURATION, value)
    return float(value)


_EFFECT_FIELDS: Final[Mapping[str, Reader]] = {
    "delay_s": _duration,
    "status": _whole(500, 599),
    "message": _text,
    "carried_out": _flag,
    "retry_after_s": _whole(0, 3_600),
    "form": _choice("truncated", "html", "wrong-type", "empty"),
    "moment": _choice("before", "after", "middle"),
    "reason": _reason,
    "release_after_s": _number(0, LONGEST_S, above=True),
    "resource": _choice(*QUOTAS),
    "limit": _whole(0, 1_000_000),
    "failing_reads": _whole(0, 1_000),
    "behind_s": _number(0, 600),
    "field": _text,
    "value": _long_text,
    "of": _text,
    "change": _choice(*CHANGES),
    "comes": _whole(0, 1_000),
    "gives_up": _flag,
    "late_size": _flag,
    "fresh": _flag,
    "state": _text,
    "accepts": _flag,
    "stays": _flag,
}
_OWN_FIELDS: Final[Mapping[tuple[str, str], Reader]] = {
    (Refusal.kind, "status"): _whole(400, 499),
    (Protection.kind, "status"): _whole(400, 499),
}
"""Fields that mean something else in one kind of fault; by kind and name."""
_SELECTOR_FIELDS: Final[Mapping[str, Reader]] = {
    "operation": _operation,
    "zone": _choice(*ZONES),
    "pool": _text,
    "instance": _text,
}
_TIMING_FIELDS: Final[Mapping[str, Reader]] = {
    "probability": _number(0, 1, above=True),
    "after": _whole(0, 1_000_000),
    "count": _whole(1, 1_000_000),
    "from_s": _number(0, LONGEST_S),
    "for_s": _number(0, LONGEST_S, above=True),
    "seed": _whole(0, 2**63 - 1),
}
_PACE_FIELDS: Final[Mapping[str, Callable[[str, object], float]]] = {
    "speed": _number(0, 10_000, above=True),
    "boot_delay_s": _number(0, LONGEST_S),
    "operation_delay_s": _number(0, LONGEST_S),
    "stop_grace_s": _number(0, LONGEST_S),
    "retry_s": _number(0, LONGEST_S),
}

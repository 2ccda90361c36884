"""What Terraform and OpenTofu say with -json, one message per line, and what it means for us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

_DONE: Final = {
    "create": "created",
    "update": "changed",
    "delete": "destroyed",
    "replace": "replaced",
    "read": "read",
}

PAUSES_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, *(300.0,) * 3, *(600.0,) * 4)
"""
Before the second and each later attempt: an hour in all, since what is not destroyed costs money,
and nobody may be there to try again. The provider itself has tried for 15 s each time.
"""
_QUOTA: Final = re.compile(r"\bquotas?\b", re.IGNORECASE)
"""The cloud refuses with 409 or 412 what a quota does not leave; the word is in both."""
_TRANSIENT: Final = re.compile(
    r"giving up after|connection (refused|reset)|connection timed out|i/o timeout|timeout exceeded"
    r"|deadline exceeded|no such host|network is unreachable|unexpected EOF|TLS handshake"
    r"|server error|bad gateway|service unavailable|gateway timeout|too many requests"
    r"|\b(429|500|502|503|504)\b",
    re.IGNORECASE,
)
_REFUSED: Final = re.compile(
    r"forbidden|\b40[13]\b|unauthorized|invalid request signature"
    r"|no value for required variable|invalid value for variable|unsupported argument"
    r"|acquiring the state lock|required plugins|missing required provider",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One resource was dealt with."""

    done: str
    """created, changed, destroyed; or `failed`."""
    address: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """One resource is being dealt with."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error or a warning."""

    is_error: bool
    summary: str
    detail: str
    address: str

    @property
    def is_quota(self) -> bool:
        """Whether a quota of the account is used up."""
        return bool(_QUOTA.search(f"{self.summary} {self.detail}"))

    def __str__(self) -> str:
        where = f" ({self.address})" if self.address else ""
        detail = f"\n  {' '.join(self.detail.split())}" if self.detail else ""
        return f"{'error' if self.is_error else 'warning'}: {self.summary}{where}{detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the whole command did."""

    operation: str
    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The outputs by name; of secret ones the value is None."""

    values: Mapping[str, Any]
    secret: frozenset[str]


Message: TypeAlias = Change | Working | Trouble | Summary | Outputs


def read(line: str) -> Message | None:
    """Read a line; None for what nobody needs to see, and for what is no message."""
    try:
        match json.loads(line):
            case {"hook": {"action": "read"}}:  # data is looked up, nothing is made
                return None
            case dict() as said:
                return _read(said)
    except (ValueError, KeyError, TypeError):
        pass
    return None


def pause_s(troubles: Iterable[Trouble], *, attempts: int) -> float | None:
    """
    Tell how long to wait before a failed destroy is tried again; None: it would not help.

    What the network or a fault of the API caused passes; a refusal of the key or of the
    configuration does not. The rest gets one more attempt, as a server may hold its security group
    for a moment longer than its own deletion says.
    """
    texts = [f"{each.summary} {each.detail}" for each in troubles if each.is_error]
    if any(_REFUSED.search(text) for text in texts):
        return None
    limit = len(PAUSES_S) if any(_TRANSIENT.search(text) for text in texts) else 1
    return PAUSES_S[attempts - 1] if attempts <= limit else None


def _read(said: Mapping[str, Any]) -> Message | None:
    match said.get("type"):
        case "apply_start" | "apply_progress":
            return Working(address=said["hook"]["resource"]["addr"])
        case "apply_complete" | "apply_errored":
            return _change(said["hook"], failed=said["type"] == "apply_errored")
        case "diagnostic":
            return trouble(said["diagnostic"])
        case "change_summary":
            return _summary(said["changes"])
        case "outputs":
            return _outputs(said["outputs"])
    return None


def trouble(diagnostic: Mapping[str, Any]) -> Trouble:
    """Read a diagnostic, as `validate -json` gives them too."""
    return Trouble(
        is_error=diagnostic.get("severity") != "warning",
        summary=str(diagnostic.get("summary", "")),
        detail=str(diagnostic.get("detail", "")),
        address=str(diagnostic.get("address", "")),
    )


def _change(hook: Mapping[str, Any], *, failed: bool) -> Change:
    return Change(
        done="failed" if failed else _DONE.get(hook["action"], hook["action"]),
        address=hook["resource"]["addr"],
        seconds=float(hook.get("elapsed_seconds", 0)),
    )


def _summary(changes: Mapping[str, Any]) -> Summary:
    return Summary(
        operation=str(changes["operation"]),
        added=int(changes["add"]),
        changed=int(changes["change"]),
        removed=int(changes["remove"]),
    )


def _outputs(outputs: Mapping[str, Any]) -> Outputs | None:
    """A plan announces outputs without values; only an apply has them."""
    if any("action" in each for each in outputs.values()):
        return None
    return Outputs(
        values={name: each.get("value") for name, each in outputs.items()},
        secret=frozenset(name for name, each in outputs.items() if each.get("sensitive")),
    )

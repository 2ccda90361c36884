"""
What a key may do, by calls that change nothing: lists, and changes of what does not exist.

A change is asked for with an id that nobody has, or with an empty body where fields are required.
A key without the right is refused for that (403). Any other answer means only that nothing was
seen to be in the way: a cloud may look at the arguments first, so a right is never proved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exotide.stack.api import Api
from exotide.stack.errors import AccessDenied, CloudUnavailable, StackError

from .errors import NoAccess

COMPUTE: Final = "compute"
IAM: Final = "iam"
NOBODY: Final = "00000000-0000-4000-8000-000000000000"
"""An id that no resource has."""
_NO_KEY: Final = "EXO000000000000000000000000"
_UNAUTHENTIC: Final = ("signature", "credential", "expired")
"""What a refusal speaks of whose key is wrong, rather than weak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """To call one operation."""

    operation: str
    """As policies name it."""
    service: str = COMPUTE
    harmless: Mapping[str, Any] = field(default_factory=dict)
    """Arguments with which the call has no effect."""

    @property
    def is_list(self) -> bool:
        """Whether nothing can be done without its answer."""
        return self.operation.startswith("list-")


def _compute(*operations: str, **harmless: Any) -> tuple[Right, ...]:
    return tuple(Right(operation=each, harmless=harmless) for each in operations)


def _iam(*operations: str, **harmless: Any) -> tuple[Right, ...]:
    return tuple(Right(operation=each, service=IAM, harmless=harmless) for each in operations)


LOOKING: Final = _compute(
    "list-instance-pools",
    "list-instances",
    "list-load-balancers",
    "list-instance-types",
    "list-templates",
)
BUILDING: Final = (
    *_compute(
        "list-security-groups",
        "create-security-group",
        "create-instance-pool",
        "create-instance",
        "create-load-balancer",
    ),
    *_compute(
        "delete-security-group",
        "delete-instance-pool",
        "delete-instance",
        "delete-load-balancer",
        "add-rule-to-security-group",
        "add-service-to-load-balancer",
        id=NOBODY,
    ),
)
GIVING_KEYS: Final = (
    *_iam("list-iam-roles", "list-api-keys", "get-iam-organization-policy"),
    *_iam("create-iam-role", "create-api-key"),
    *_iam("delete-iam-role", id=NOBODY),
    *_iam("delete-api-key", id=_NO_KEY),
)
SCALING: Final = (
    *_compute("list-instances", "list-load-balancers"),
    *_compute("get-instance-pool", id=NOBODY),
    *_compute("scale-instance-pool", id=NOBODY, size=1),
    *_compute("evict-instance-pool-members", id=NOBODY, instances=[NOBODY]),
)
DELETING_MEMBERS: Final = _compute("delete-instance", id=NOBODY)
OWN_POOL: Final = (
    *_compute("create-instance-pool"),
    *_compute("delete-instance-pool", id=NOBODY),
    *SCALING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of the calls."""

    missing: tuple[Right, ...] = ()
    """Refused."""
    untold: tuple[Right, ...] = ()
    """Nothing can be said: the API had a fault."""

    def of(self, service: str) -> tuple[Right, ...]:
        """What is missing of one service."""
        return tuple(each for each in self.missing if each.service == service)

    @property
    def table(self) -> str:
        """What is missing, a line for each service."""
        services = dict.fromkeys(each.service for each in self.missing)
        return "\n".join(
            f"  {service}: refused {', '.join(right.operation for right in self.of(service))}"
            for service in services
        )

    def remark(self, services: Iterable[str]) -> str:
        """Say that nothing is missing, as far as it can be known."""
        shown = " and ".join(dict.fromkeys(services))
        text = f"rights: nothing refused in {shown}, tried by calls without effect"
        if self.untold:
            names = ", ".join(right.operation for right in self.untold)
            text += f"; could not be tried: {names}"
        return text


def try_rights(api: Api, rights: Iterable[Right]) -> Found:
    """
    Try each right once.

    Raises:
        NoAccess: the key itself is refused.
        CloudUnavailable: a list cannot be had, although the client has asked again.
    """
    wanted = {(each.operation, each.service): each for each in rights}.values()
    missing, untold = [], []
    for right in wanted:
        try:
            api.call(right.operation.replace("-", "_"), **right.harmless)
        except AccessDenied as error:
            missing.append(right)
            _check_key(error, is_weak=len(missing) < len(wanted))
        except CloudUnavailable:
            if right.is_list:
                raise
            untold.append(right)
        except StackError:
            continue  # it looked at the arguments
    return Found(missing=tuple(missing), untold=tuple(untold))


def _check_key(error: AccessDenied, *, is_weak: bool) -> None:
    """A key that is refused everywhere is wrong, or good for nothing."""
    text = str(error).lower()
    if not is_weak or any(word in text for word in _UNAUTHENTIC):
        raise NoAccess(f"the API key is refused: {error}") from error

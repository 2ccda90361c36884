"""How much room an account has, as the API tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exotide.stack.api import Api
from exotide.stack.errors import CloudUnavailable, StackError

INSTANCES: Final = "instance"
BALANCERS: Final = "network-load-balancer"
RAISE: Final = "ask for more in the portal (Organization, Quotas)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One limit of an account."""

    resource: str
    limit: int
    """Negative: none."""
    usage: int

    @property
    def free(self) -> int | None:
        """How many more there may be; None: any number."""
        return None if self.limit < 0 else max(self.limit - self.usage, 0)

    def __str__(self) -> str:
        return f"quota of {self.resource}s: {self.usage} of {self.limit} in use"


def read_quotas(api: Api) -> Mapping[str, Quota]:
    """
    Read all limits, by resource.

    Raises:
        StackError: they cannot be read.
    """
    shown = api.call("list_quotas")
    try:
        found = [
            Quota(resource=each["resource"], limit=int(each["limit"]), usage=int(each["usage"]))
            for each in shown["quotas"]
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise CloudUnavailable(f"quotas: the answer is not as expected: {error!r}") from error
    return {each.resource: each for each in found}


def full(api: Api) -> str:
    """Tell which quotas are used up, for advice; empty if none is, or they cannot be read."""
    try:
        found = read_quotas(api).values()
    except StackError:
        return ""
    used_up = [str(each) for each in found if each.free == 0]
    return f"{'; '.join(used_up)}: {RAISE}" if used_up else ""

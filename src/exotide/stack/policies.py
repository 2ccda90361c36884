"""
What each agent may do, as policies of IAM roles.

Operations on one pool are allowed for the agents' own pool only. `list-instances` names no pool, so
it is allowed for all: it changes nothing, and shows no user-data.
"""

from __future__ import annotations

from typing import Any, Final

AUTOSCALER_ON_POOL: Final = (
    "get-instance-pool",
    "scale-instance-pool",
    "evict-instance-pool-members",
)
AUTOSCALER_READS: Final = ("list-instances",)
"""To find the oldest members; without it, the autoscaler goes by the order of the pool's list."""
DISCOVERY_ON_POOL: Final = ("get-instance-pool",)
DISCOVERY_READS: Final = ("list-instances",)


def autoscaler_policy(pool_id: str) -> dict[str, Any]:
    """Return the policy of the autoscaler's role, as the API takes it."""
    return _policy(pool_id, on_pool=AUTOSCALER_ON_POOL, reads=AUTOSCALER_READS)


def discovery_policy(pool_id: str) -> dict[str, Any]:
    """Return the policy of the service discovery's role, as the API takes it."""
    return _policy(pool_id, on_pool=DISCOVERY_ON_POOL, reads=DISCOVERY_READS)


def _policy(pool_id: str, *, on_pool: tuple[str, ...], reads: tuple[str, ...]) -> dict[str, Any]:
    expressions = (f"{_one_of(on_pool)} && parameters.id == '{pool_id}'", _one_of(reads))
    rules = [{"action": "allow", "expression": expression} for expression in expressions]
    return {
        "default-service-strategy": "deny",
        "services": {"compute": {"type": "rules", "rules": rules}},
    }


def _one_of(operations: tuple[str, ...]) -> str:
    return f"operation in [{', '.join(repr(name) for name in operations)}]"

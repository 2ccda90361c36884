"""
What each agent may do, as policies of IAM roles.

Operations on one pool are allowed for the agents' own pool only. Lists name no pool, so they are
allowed for all: they change nothing, and show no user-data.

By its documentation, the real cloud passes over a rule whose expression cannot be evaluated. It
does not say under which name an expression finds the pool that a path names: as `parameters.id`,
or below `resources`. So the rule for the pool tries both. One side of `||` may fail if the other
is true; where it may not, the last rule still holds.
"""

from __future__ import annotations

from typing import Any, Final

AUTOSCALER_ON_POOL: Final = (
    "get-instance-pool",
    "scale-instance-pool",
    "evict-instance-pool-members",
)
AUTOSCALER_READS: Final = ("list-instances", "list-load-balancers")
"""To find the oldest members, and those that the load balancer calls unhealthy."""
DISCOVERY_ON_POOL: Final = ("get-instance-pool",)
DISCOVERY_READS: Final = ("list-instances",)


def autoscaler_policy(pool_id: str | None, *, max_size: int | None = None) -> dict[str, Any]:
    """
    Return the policy of the autoscaler's role, as the API takes it.

    Args:
        pool_id: The one pool that it may touch. None: any.
        max_size: To what size it may scale at most, also when it is stolen. None: to any.
    """
    policy = _policy(pool_id, on_pool=AUTOSCALER_ON_POOL, reads=AUTOSCALER_READS)
    if max_size is not None:
        too_large = f"operation == 'scale-instance-pool' && parameters.size > {max_size}"
        rules = policy["services"]["compute"]["rules"]
        rules.insert(0, {"action": "deny", "expression": too_large})
    return policy


def discovery_policy(pool_id: str | None) -> dict[str, Any]:
    """Return the policy of the service discovery's role; as `autoscaler_policy`."""
    return _policy(pool_id, on_pool=DISCOVERY_ON_POOL, reads=DISCOVERY_READS)


def _policy(
    pool_id: str | None, *, on_pool: tuple[str, ...], reads: tuple[str, ...]
) -> dict[str, Any]:
    expressions = [_one_of(reads), *_on_pool(_one_of(on_pool), pool_id)]
    rules = [{"action": "allow", "expression": expression} for expression in expressions]
    return {
        "default-service-strategy": "deny",
        "services": {"compute": {"type": "rules", "rules": rules}},
    }


def _on_pool(operation: str, pool_id: str | None) -> tuple[str, ...]:
    if pool_id is None:
        return (operation,)
    parameter, resource = (
        f"parameters.id == '{pool_id}'",
        f"resources.instance_pool.id == '{pool_id}'",
    )
    return (f"{operation} && ({parameter} || {resource})", f"{operation} && {resource}")


def _one_of(operations: tuple[str, ...]) -> str:
    return f"operation in [{', '.join(repr(name) for name in operations)}]"

"""Changes of a pool that somebody else makes between two requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from exotide.cloud.api.errors import ApiError
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.instance_pools import endpoints as pools
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances import changes, endpoints
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World
from exotide.cloud.faults.engine import OPERATION

_log: Final = structlog.get_logger(__name__)

Ask = Callable[[Pool], tuple[str, str, dict[str, object]]]
"""A pool to an operation, the id that it is about, and its body."""


def _oldest(pool: Pool) -> str:
    return next(iter(pool.members), "")


CHANGES: Final[Mapping[str, Ask]] = {
    "grow": lambda pool: ("scale-instance-pool", pool.id, {"size": pool.size + 1}),
    "shrink": lambda pool: ("scale-instance-pool", pool.id, {"size": max(0, pool.size - 1)}),
    "evict": lambda pool: ("evict-instance-pool-members", pool.id, {"instances": [_oldest(pool)]}),
    "delete": lambda pool: ("delete-instance", _oldest(pool), {}),
    "protect": lambda pool: ("add-instance-protection", _oldest(pool), {}),
    "update": lambda pool: ("update-instance-pool", pool.id, {}),
}
_ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    each.operation: each for each in (*pools.ENDPOINTS, *endpoints.ENDPOINTS, *changes.ENDPOINTS)
}


def carry_out(world: World, pool: Pool, change: str) -> None:
    """Change a pool as another client would; what is refused is left and logged."""
    operation, key, body = CHANGES[change](pool)
    call = Call(zone=pool.zone, endpoint_of=str, body=Fields(body), path={"id": key})
    before = OPERATION.set(operation)
    try:
        _ENDPOINTS[operation].handler(world, call)
    except ApiError as error:
        _log.warning("fault_without_effect", operation=operation, pool=pool.id, reason=str(error))
    finally:
        OPERATION.reset(before)

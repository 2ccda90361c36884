"""What a fault may want to know about a request, an operation or a server: its facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.world import World
from exotide.cloud.faults.engine import OPERATION
from exotide.cloud.faults.model import Facts, Stage


def of_request(
    world: World, operation: str, zone: str, path: Mapping[str, str], manager: str | None = None
) -> Facts:
    """
    Give the facts of a request; a question about an operation is about what that changes.

    Args:
        manager: Id of the pool whose members are listed.
    """
    keys = [*path.values(), *([] if manager is None else [manager])]
    return _about(world, Stage.REQUEST, operation, zone, keys)


def of_change(world: World, pool: Pool, victims: Iterable[str]) -> Facts:
    """Give the facts of a change of a pool, which may remove some of its members."""
    return _about(world, Stage.POOL, OPERATION.get(), pool.zone, [pool.id, *victims])


def of_removal(world: World, pool: Pool | None, instance: Instance) -> Facts:
    """Give the facts of the removal of one instance, a member or not."""
    keys = [instance.id] if pool is None else [pool.id, instance.id]
    return _about(world, Stage.POOL, OPERATION.get(), instance.zone, keys)


def of_operation(world: World, operation: str, zone: str, key: str) -> Facts:
    """Give the facts of an operation about the resource with this id."""
    return _about(world, Stage.OPERATION, operation, zone, [key])


def of_boot(world: World, instance: Instance) -> Facts:
    """Give the facts of a server that is about to boot."""
    return _about(world, Stage.BOOT, "", instance.zone, [instance.id])


def _about(world: World, stage: Stage, operation: str, zone: str, keys: Iterable[str]) -> Facts:
    ids = set(keys)
    ids |= {world.operations.known[key].reference.id for key in ids & world.operations.known.keys()}
    servers = [world.instances[key] for key in ids & world.instances.keys()]
    ids |= {server.pool_id for server in servers if server.pool_id is not None}
    pools = [world.pools[key] for key in ids & world.pools.keys()]
    return Facts(
        stage=stage,
        operation=operation,
        zone=zone,
        pools=frozenset(name for pool in pools for name in (pool.id, pool.name)),
        instances=frozenset(name for server in servers for name in (server.id, server.name)),
    )

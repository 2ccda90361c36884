"""Operations on instance pools: requests read, rules applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from exotide.cloud.api.fields import Fields
from exotide.cloud.api.instance_pools import rules
from exotide.cloud.api.instance_pools.model import DEFAULT_PREFIX, Pool
from exotide.cloud.api.instances.plans import changed_plan, read_plan
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World

_MOST: Final = 2**31 - 1
_DEFAULTS: Final[Mapping[str, object]] = {
    "anti-affinity-groups": [],
    "deploy-target": None,
    "description": "",
    "elastic-ips": [],
    "ipv6-enabled": False,
    "labels": {},
    "private-networks": [],
    "security-groups": [],
    "ssh-key": {"name": ""},
    "user-data": None,
}
"""What an update must say to bring each field back; user-data has no such value."""


def create_instance_pool(world: World, call: Call) -> dict[str, object]:
    """Make a pool with at least one member."""
    body = call.body
    wanted = rules.NewPool(
        name=body.must("name", body.text("name")),
        size=body.must("size", body.integer("size", least=1, most=_MOST)),
        plan=read_plan(world, call.zone, body),
        description=body.text("description", least=0) or "",
        instance_prefix=body.text("instance-prefix", most=30) or DEFAULT_PREFIX,
        min_available=body.integer("min-available", least=0, most=_MOST) or 0,
    )
    return rules.create(world, call.zone, wanted)


def list_instance_pools(world: World, call: Call) -> dict[str, object]:
    """List the pools of a zone, in full."""
    return {
        "instance-pools": [pool.view() for pool in world.pools.values() if pool.zone == call.zone]
    }


def get_instance_pool(world: World, call: Call) -> dict[str, object]:
    """Show one pool."""
    return world.pool(call.zone, call.path["id"]).view()


def update_instance_pool(world: World, call: Call) -> dict[str, object]:
    """Change any subset: absent or null stays, an empty list or description clears."""
    pool = world.pool(call.zone, call.path["id"])
    return rules.update(world, pool, _changes(world, pool, call.body))


def reset_instance_pool_field(world: World, call: Call) -> dict[str, object]:
    """Give one field its default again, for future members."""
    pool = world.pool(call.zone, call.path["id"])
    name = call.one_of("field", tuple(_DEFAULTS))
    changes = _changes(world, pool, Fields({name: _DEFAULTS[name]}))
    if name == "user-data":
        changes = replace(changes, plan=replace(pool.plan, user_data="", boot_data=b""))
    return rules.update(world, pool, changes)


def _changes(world: World, pool: Pool, body: Fields) -> rules.Changes:
    description = body.text("description", least=0)
    prefix = body.text("instance-prefix", least=0, most=30)
    min_available = body.integer("min-available", least=0, most=_MOST)
    return rules.Changes(
        name=body.text("name") or pool.name,
        plan=changed_plan(world, pool.zone, body, pool.plan),
        description=pool.description if description is None else description,
        instance_prefix=pool.instance_prefix if prefix is None else prefix or DEFAULT_PREFIX,
        min_available=pool.min_available if min_available is None else min_available,
    )


def scale_instance_pool(world: World, call: Call) -> dict[str, object]:
    """Bring the pool to a size."""
    pool = world.pool(call.zone, call.path["id"])
    size = call.body.must("size", call.body.integer("size", least=0, most=_MOST))
    return rules.scale(world, pool, size)


def evict_instance_pool_members(world: World, call: Call) -> dict[str, object]:
    """Remove the named members and shrink by as many."""
    pool = world.pool(call.zone, call.path["id"])
    victims = call.body.must("instances", call.body.uuids("instances") or None)
    return rules.evict(world, pool, victims)


def delete_instance_pool(world: World, call: Call) -> dict[str, object]:
    """Remove a pool that no load balancer uses."""
    return rules.delete(world, world.pool(call.zone, call.path["id"]))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/instance-pool",
        operation="create-instance-pool",
        handler=create_instance_pool,
    ),
    Endpoint(
        method="GET",
        path="/instance-pool",
        operation="list-instance-pools",
        handler=list_instance_pools,
    ),
    Endpoint(
        method="GET",
        path="/instance-pool/{id}",
        operation="get-instance-pool",
        handler=get_instance_pool,
    ),
    Endpoint(
        method="PUT",
        path="/instance-pool/{id}",
        operation="update-instance-pool",
        handler=update_instance_pool,
    ),
    Endpoint(
        method="DELETE",
        path="/instance-pool/{id}",
        operation="delete-instance-pool",
        handler=delete_instance_pool,
    ),
    Endpoint(
        method="PUT",
        path="/instance-pool/{id}:scale",
        operation="scale-instance-pool",
        handler=scale_instance_pool,
    ),
    Endpoint(
        method="PUT",
        path="/instance-pool/{id}:evict",
        operation="evict-instance-pool-members",
        handler=evict_instance_pool_members,
    ),
    Endpoint(
        method="DELETE",
        path="/instance-pool/{id}/{field}",
        operation="reset-instance-pool-field",
        handler=reset_instance_pool_field,
    ),
)

"""How the faults of a world get hold of its operations."""

from __future__ import annotations

from exotide.cloud.api.operations import Work
from exotide.cloud.api.world import World
from exotide.cloud.faults import operations, places
from exotide.cloud.faults.engine import OPERATION


def install(world: World) -> None:
    """Put the faults around every operation that starts from now on."""

    def around(work: Work | None, zone: str, key: str) -> Work | None:
        if world.faults.idle:
            return work
        facts = places.of_operation(world, OPERATION.get(), zone, key)
        return operations.around(world, work, facts)

    world.operations.around = around

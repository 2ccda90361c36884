"""How the faults of a world get hold of its operations."""

from __future__ import annotations

from exotide.cloud.api.operations import Work
from exotide.cloud.api.world import World
from exotide.cloud.faults import places
from exotide.cloud.faults.engine import OPERATION
from exotide.cloud.faults.operations import OperationFaults


def install(world: World) -> OperationFaults:
    """Put the faults around every operation that starts from now on."""
    faults = OperationFaults(world.faults)

    def around(work: Work | None, zone: str, key: str) -> Work | None:
        if world.faults.idle:
            return work
        return faults.around(work, places.of_operation(world, OPERATION.get(), zone, key))

    world.operations.around = around
    return faults

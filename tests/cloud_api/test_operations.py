"""How long operations can be read."""

from __future__ import annotations

from itertools import count

import pytest

from exotide.cloud.api.operations import KEPT, Background, Operation, Operations, Reference


def operation(key: str) -> Operation:
    return Operation(id=key, zone="at-vie-1", reference=Reference(kind="ssh-key", id=key))


@pytest.mark.parametrize("stuck", [0, 3])
def test_the_oldest_that_have_ended_are_forgotten_and_those_that_are_stuck_stay(stuck: int) -> None:
    numbers = count()
    operations = Operations(background=Background(), new_id=lambda: f"ended-{next(numbers)}")
    held = [f"stuck-{number}" for number in range(stuck)]
    operations.known |= {key: operation(key) for key in held}
    for _ in range(KEPT + 5):
        operations.start(zone="at-vie-1", kind="ssh-key", key="me")
    assert len(operations.known) == KEPT
    assert set(held) <= operations.known.keys()
    assert f"ended-{KEPT + 4}" in operations.known
    assert f"ended-{4 + stuck}" not in operations.known

from __future__ import annotations

import pytest

from exotide.cloud.api.states import (
    TRANSITIONS,
    BalancerState,
    IllegalTransition,
    InstanceState,
    PoolState,
    ServiceState,
    State,
    require,
)

KINDS = (InstanceState, PoolState, BalancerState, ServiceState)
ENDS = {
    InstanceState: InstanceState.DESTROYING,
    PoolState: PoolState.DESTROYING,
    BalancerState: BalancerState.DELETING,
    ServiceState: ServiceState.DELETING,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_has_its_line_and_only_the_last_one_has_no_way_out(kind: type[State]) -> None:
    table = TRANSITIONS[kind]
    assert set(table) == set(kind)
    assert [state for state in kind if not table[state]] == [ENDS[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_the_table_lacks_is_refused(kind: type[State]) -> None:
    for current in kind:
        for wanted in kind:
            if wanted in TRANSITIONS[kind][current]:
                require(current, wanted)
            else:
                with pytest.raises(IllegalTransition, match=f"{current} -> {wanted}"):
                    require(current, wanted)

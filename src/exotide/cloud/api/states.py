"""
Which state may follow which, as data.

    instance   starting ──► running ◄──► stopped (through stopping, starting)
                  └─────────────┴─ delete, evict, scale ──► destroying ──► (gone)
    pool       creating ──► running ──► scaling-up, scaling-down, updating ──► running
                  └ failed ─────┴─ delete ──► destroying ──► (gone)
    NLB        creating ──► running ──► deleting ──► (gone)
    service    creating ──► running ──► updating ──► running;  running ──► deleting ──► (gone)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class IllegalTransition(Exception):
    """A fault of the emulator itself: the rules let something happen that the tables forbid."""


class InstanceState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DESTROYING = "destroying"
    ERROR = "error"


class PoolState(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    SCALING_UP = "scaling-up"
    SCALING_DOWN = "scaling-down"
    UPDATING = "updating"
    DESTROYING = "destroying"


class BalancerState(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    DELETING = "deleting"


class ServiceState(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    UPDATING = "updating"
    DELETING = "deleting"


State = InstanceState | PoolState | BalancerState | ServiceState

_INSTANCE: Final[Mapping[InstanceState, frozenset[InstanceState]]] = {
    InstanceState.STARTING: frozenset(InstanceState)
    - {InstanceState.STARTING, InstanceState.STOPPING},
    InstanceState.RUNNING: frozenset(InstanceState)
    - {InstanceState.STARTING, InstanceState.RUNNING},
    InstanceState.STOPPING: frozenset({InstanceState.STOPPED, InstanceState.DESTROYING}),
    InstanceState.STOPPED: frozenset({InstanceState.STARTING, InstanceState.DESTROYING}),
    InstanceState.ERROR: frozenset({InstanceState.STARTING, InstanceState.DESTROYING}),
    InstanceState.DESTROYING: frozenset(),
}
_POOL: Final[Mapping[PoolState, frozenset[PoolState]]] = {
    PoolState.CREATING: frozenset({PoolState.RUNNING, PoolState.DESTROYING}),
    PoolState.RUNNING: frozenset(PoolState) - {PoolState.CREATING, PoolState.RUNNING},
    PoolState.SCALING_UP: frozenset({PoolState.RUNNING}),
    PoolState.SCALING_DOWN: frozenset({PoolState.RUNNING}),
    PoolState.UPDATING: frozenset({PoolState.RUNNING}),
    PoolState.DESTROYING: frozenset(),
}
_BALANCER: Final[Mapping[BalancerState, frozenset[BalancerState]]] = {
    BalancerState.CREATING: frozenset({BalancerState.RUNNING}),
    BalancerState.RUNNING: frozenset({BalancerState.DELETING}),
    BalancerState.DELETING: frozenset(),
}
_SERVICE: Final[Mapping[ServiceState, frozenset[ServiceState]]] = {
    ServiceState.CREATING: frozenset({ServiceState.RUNNING}),
    ServiceState.RUNNING: frozenset({ServiceState.UPDATING, ServiceState.DELETING}),
    ServiceState.UPDATING: frozenset({ServiceState.RUNNING}),
    ServiceState.DELETING: frozenset(),
}

TRANSITIONS: Final[Mapping[type[State], Mapping[State, frozenset[State]]]] = {
    InstanceState: dict(_INSTANCE.items()),
    PoolState: dict(_POOL.items()),
    BalancerState: dict(_BALANCER.items()),
    ServiceState: dict(_SERVICE.items()),
}
"""By kind first: states of two kinds may have the same name, and would be the same key."""


def require(current: State, wanted: State) -> None:
    """
    Check one step against the table.

    Raises:
        IllegalTransition: The table has no such step.
    """
    if wanted not in TRANSITIONS[type(current)][current]:
        raise IllegalTransition(f"{type(current).__name__}: {current} -> {wanted}")

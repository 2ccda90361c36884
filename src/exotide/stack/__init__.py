"""
The assignment's stack on any endpoint, through the official SDK.

The servers' user-data is configuration only; the local cloud starts the programs by the label
`role`. Each agent gets a key of its own, whose role allows what the agent does and no more.
"""

from __future__ import annotations

from .create import create
from .destroy import destroy, leftovers
from .errors import StackError
from .model import Action, Progress, Stack, Step
from .probes import wait_healthy, wait_prometheus
from .settings import StackSettings
from .waiting import Patience

__all__ = [
    "Action",
    "Patience",
    "Progress",
    "Stack",
    "StackError",
    "StackSettings",
    "Step",
    "create",
    "destroy",
    "leftovers",
    "wait_healthy",
    "wait_prometheus",
]

"""
Seconds that the official Terraform provider needs for the example stack on the local cloud.

The provider asks after a change every 3 s. Its floor is the longest chain of changes that wait for
one another, times 3 s: here group or balancer, pool, service. Servers are emulated, so that the
figures are those of the API and of the provider.
Run: EXOTIDE_TERRAFORM_PROVIDER=... python benchmarks/terraform.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from exotide.cloud.proxy.environment import environment
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell, CellFailed
from exotide.realtools.terraform import Workspace

STACK = Path(__file__).resolve().parents[1] / "examples/terraform/stack.tf"
POLL_S, CHAIN = 3.0, 3
ROUNDS = 3


def timed(work: Callable[[], object]) -> float:
    """Give the seconds of wall time."""
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 2)


def measure(workspace: Workspace, cloud: RunningCloud) -> dict[str, float]:
    """Apply, plan and destroy once, from nothing to nothing."""
    figures = {"apply_s": timed(workspace.apply), "plan_s": timed(workspace.plan)}
    assert workspace.plan().is_empty
    figures["destroy_s"] = timed(workspace.destroy)
    assert not cloud.cloud.world.instances
    return figures


def main() -> None:
    """Print the figures as JSON, one line for each round."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try:
        terraform, provider = programs.terraform(), programs.provider()
    except programs.NotHere as error:
        sys.stderr.write(f"NOT MEASURED: {error}\n")
        return
    with tempfile.TemporaryDirectory() as folder, Cell() as cell:
        tls = Tls(Path(folder) / "ca")
        with running_cloud(tls=tls, more_sockets=lambda port: [cell.listen(port)]) as cloud:
            variables = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
            workspace = Workspace.made(
                Path(folder) / "stack",
                STACK,
                terraform=terraform,
                provider=provider,
                environment=variables | {"PATH": os.environ["PATH"]},
                run_in=cell.command,
            )
            for _ in range(ROUNDS):
                print(json.dumps({"floor_s": POLL_S * CHAIN} | measure(workspace, cloud)))


if __name__ == "__main__":
    try:
        main()
    except CellFailed as error:
        sys.stderr.write(f"NOT MEASURED: {error}\n")

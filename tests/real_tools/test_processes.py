"""What Terraform builds really serves: servers are processes, the load balancer is HAProxy."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from exotide.cloud import drivers
from exotide.cloud.drivers import Wanted
from exotide.cloud.proxy.environment import environment
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell
from exotide.realtools.terraform import Workspace

from .conftest import EXAMPLES, found

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: namespaces need root; run as root"),
]


@pytest.fixture
def cloud(tls: Tls, cell: Cell) -> Iterator[RunningCloud]:
    found(programs.provider)
    run_dir = Path(tempfile.mkdtemp(prefix="exo-"))
    wanted = Wanted(cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir, vcpu_cores=0.2)
    driver = drivers.make("processes", wanted)
    with running_cloud(
        servers=driver.servers,
        balancers=driver.balancers,
        tls=tls,
        more_sockets=lambda port: [cell.listen(port)],
    ) as running:
        yield running
    assert [each for each in run_dir.iterdir() if each.is_dir()] == []
    shutil.rmtree(run_dir)


def answered(url: str, within_s: float) -> str:
    """Ask until somebody answers; members need a check before they get requests."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"no answer from {url} within {within_s} s"
            time.sleep(0.1)


def test_the_example_stack_serves_users_and_leaves_nothing(
    cloud: RunningCloud, cell: Cell, tls: Tls, tmp_path: Path
) -> None:
    variables = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
    stack = Workspace.made(
        tmp_path,
        EXAMPLES / "stack.tf",
        EXAMPLES / "key.tf",
        terraform=found(programs.terraform),
        provider=found(programs.provider),
        environment=variables | {"PATH": os.environ["PATH"]},
        run_in=cell.command,
    )
    stack.apply(size=2, check_interval_s=5)
    address = stack.outputs()["address"]
    assert answered(f"http://{address}/health", within_s=20)
    plan = stack.plan(size=2, check_interval_s=5)
    assert plan.is_empty, plan.text
    stack.destroy(size=2)
    assert stack.resources() == {}
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{address}/health", timeout=2)

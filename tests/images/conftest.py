"""
Images, really built and really run: by podman, on a base made here, against a local cloud.

Containers live in a network without a way out, where the cloud's API is at 127.0.0.1. They get the
environment of the acceptance contract, the API's address, and keys that may do their work only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.realtools.cell import Cell, CellFailed
from exotide.stack.agents import Agents
from exotide.stack.api import Api, connect
from exotide.stack.create import build
from exotide.stack.model import silent
from exotide.stack.settings import StackSettings
from exotide.stack.userdata import AgentKey
from exotide.stack.waiting import Patience

from . import materials
from .podman import NotPossible, Podman, regular_files

NAMES: Final = ("autoscaler", "servicediscovery", "slowapp")
"""Folders that hold a Dockerfile."""
BASE: Final = "localhost/exotide-base"
OUTSIDE: Final = "198.18.80.1"
"""An address of the containers' network that is not a loopback one."""
ZONE_ID: Final = "de88c980-78f6-467c-a431-71bcc88e437f"
"""The contract hands it over; the programs need the zone's name alone."""
VISIT: Final = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
with urllib.request.urlopen(request, timeout=15) as answer:
    print(answer.status, answer.read().decode(), end="")
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("images")
            item.add_marker("root")
            # The first test makes the base image, if it is not in the cache.
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def cell() -> Iterator[Cell]:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: building and running images needs root; run as root")
    with ExitStack() as stack:
        try:
            cell = stack.enter_context(Cell())
        except CellFailed as error:
            pytest.skip(f"NOT TESTED: {error}; allow network namespaces here")
        cell.listen(0, OUTSIDE).close()
        yield cell


@pytest.fixture(scope="session")
def podman(cell: Cell) -> Iterator[Podman]:
    """An engine that has the base image."""
    with ExitStack() as stack:
        try:
            podman = stack.enter_context(Podman(cell))
        except NotPossible as error:
            pytest.skip(f"NOT TESTED: images cannot be built here: {error}")
        podman.import_base(materials.base(), BASE)
        yield podman


@dataclass
class Images:
    """The images, each built once, and beside each other."""

    podman: Podman
    folder: Path
    building: dict[str, Future[str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        """The id of the image of a folder."""
        return self.building[name].result()

    def build(self, name: str, *, mode: int) -> str:
        """Build an image from a copy of its folder whose files have this mode; gives its id."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self.podman.build(
                regular_files(materials.ROOT / name, Path(folder) / name, mode=mode),
                f"localhost/exotide-{name}",
                base=BASE,
                wheels=materials.wheels(),
                at=materials.WHEELS,
            )


@pytest.fixture(scope="session")
def images(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Built from what somebody's checkout holds whose umask is strict: it must not matter."""
    images = Images(podman, tmp_path_factory.mktemp("contexts"))
    materials.wheels()
    with ThreadPoolExecutor() as threads:
        for name in NAMES:
            images.building[name] = threads.submit(images.build, name, mode=0o600)
    return images


@pytest.fixture(scope="session")
def cloud(cell: Cell) -> Iterator[RunningCloud]:
    with running_cloud(more_sockets=lambda port: [cell.listen(port)]) as running:
        yield running


@dataclass
class Site:
    """The assignment's stack on the cloud, and the pool that the agents look after."""

    api: Api
    pool_id: str
    endpoint: str
    autoscaler: AgentKey
    discovery: AgentKey

    def contract(self, key: AgentKey) -> dict[str, str]:
        """The contract's environment, and where the API is."""
        return {
            "EXOSCALE_KEY": key.key,
            "EXOSCALE_SECRET": key.secret,
            "EXOSCALE_ZONE": "at-vie-1",
            "EXOSCALE_ZONE_ID": ZONE_ID,
            "EXOSCALE_INSTANCEPOOL_ID": self.pool_id,
            "TARGET_PORT": "9100",
            "EXOSCALE_API_ENDPOINT": self.endpoint,
        }

    def pool(self) -> Any:
        return self.api.call("get_instance_pool", id=self.pool_id)

    def resize(self, size: int) -> None:
        if self.pool()["size"] != size:
            self.api.change("scale_instance_pool", id=self.pool_id, size=size)

    def targets(self) -> set[str]:
        """What Prometheus is to scrape."""
        members = [
            self.api.call("get_instance", id=member["id"]) for member in self.pool()["instances"]
        ]
        return {f"{member['public-ip']}:9100" for member in members}


@pytest.fixture(scope="session")
def site(cloud: RunningCloud) -> Iterator[Site]:
    access = cloud.access
    settings = StackSettings(
        key=access.key, secret=access.secret, endpoint=cloud.url, zone=access.zone
    )
    with connect(settings, Patience(first_s=0.002, longest_s=0.05, limit_s=20)) as api:
        stack = build(api, settings, progress=silent)
        agents = Agents(api=api, settings=settings, pool_id=stack.pool_id, progress=silent)
        keys = agents.make_keys()
        yield Site(
            api=api,
            pool_id=stack.pool_id,
            endpoint=cloud.url,
            autoscaler=keys.autoscaler,
            discovery=keys.discovery,
        )


Visit = Callable[[str, str], tuple[int, str]]


@pytest.fixture(scope="session")
def visit(cell: Cell) -> Visit:
    """Sends a request in the containers' network; gives status and text."""

    def visit(method: str, url: str) -> tuple[int, str]:
        words = cell.command(sys.executable, "-c", VISIT, method, url)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        status, _, text = done.stdout.partition(" ")
        return int(status), text

    return visit

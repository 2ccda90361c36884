"""
The official tools, unmodified, against a local cloud; they run in a network without a way out.

The tools are not part of this project: see `exotide.realtools.programs` for where they are looked
for. Tests without their tool are skipped and say how to get it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from exoscale.api.v2 import Client

from exotide.cloud.proxy.environment import environment
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell, CellFailed
from exotide.realtools.terraform import Workspace

from .exo import Exo

EXAMPLES = Path(__file__).parents[2] / "examples/terraform"


def found(find: Callable[[], Path]) -> Path:
    try:
        return find()
    except programs.NotHere as error:
        pytest.skip(f"NOT TESTED: {error}")


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("data") / "exotide/ca")


@contextmanager
def cell_or_skip() -> Iterator[Cell]:
    with ExitStack() as stack:
        try:
            cell = stack.enter_context(Cell())
        except CellFailed as error:
            pytest.skip(f"NOT TESTED: {error}; allow user namespaces, or run as root")
        yield cell


@pytest.fixture(scope="session")
def cell() -> Iterator[Cell]:
    with cell_or_skip() as cell:
        yield cell


@pytest.fixture(scope="module")
def cloud(tls: Tls, cell: Cell) -> Iterator[RunningCloud]:
    with running_cloud(tls=tls, more_sockets=lambda port: [cell.listen(port)]) as running:
        yield running


@pytest.fixture(scope="module")
def variables(cloud: RunningCloud, tls: Tls) -> dict[str, str]:
    """All that the tools see of the environment."""
    exported = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
    return exported | {"PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def workspace(
    cell: Cell, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Workspace]:
    """Makes terraform workspaces from files of the example, or from text."""
    terraform, provider = found(programs.terraform), found(programs.provider)

    def make(*files: str, text: str = "") -> Workspace:
        folder = tmp_path_factory.mktemp("terraform")
        if text:
            (folder / "main.tf").write_text(text)
        return Workspace.made(
            folder,
            *(EXAMPLES / file for file in files),
            terraform=terraform,
            provider=provider,
            environment=variables,
            run_in=cell.command,
        )

    return make


@pytest.fixture(scope="module")
def exo(cell: Cell, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Exo:
    home = tmp_path_factory.mktemp("home")
    return Exo(found(programs.exo), variables | {"HOME": str(home)}, cell.command)


@pytest.fixture(scope="module")
def client(cloud: RunningCloud) -> Iterator[Any]:
    """The SDK, from outside the cell: who changes things behind the tools' backs."""
    client = Client(cloud.access.key, cloud.access.secret, url=cloud.url)
    yield client
    client.http_client.close()

"""The container's entry point: it writes wherever it is mounted, and keeps no privilege."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "servicediscovery" / "entrypoint.sh"
PROGRAM = """#!/bin/sh
id -u > "$(dirname "$EXOTIDE_TARGETS_FILE")/config.json"
grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="changes its user"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: PTH101 - others must reach what is in it
        program = Path(name) / "exotide-servicediscovery"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        yield Path(name)


def started(*command: str, folder: Path, target: Path) -> dict[str, str]:
    """Run the entry point and give what the program found out about itself."""
    done = subprocess.run(
        command,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "EXOTIDE_TARGETS_FILE": str(target / "config.json"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(":\t") for line in done.stdout.splitlines())


@pytest.mark.parametrize("owner", [0, 1000, 65534])
def test_it_becomes_the_owner_of_a_folder_that_is_closed_to_others(
    folder: Path, owner: int
) -> None:
    target = folder / "service-discovery"
    target.mkdir(mode=0o700)
    os.chown(target, owner, owner)
    facts = started("sh", str(ENTRYPOINT), folder=folder, target=target)
    assert (target / "config.json").read_text() == f"{owner}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert facts == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}


def test_root_without_capabilities_cannot_change_its_user_and_stays(folder: Path) -> None:
    target = folder / "service-discovery"
    target.mkdir()
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "sh", str(ENTRYPOINT))
    facts = started(*powerless, folder=folder, target=target)
    assert (target / "config.json").read_text() == "0\n"
    assert facts == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "0"}

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
        yield Path(name)


@pytest.mark.parametrize("owner", [0, 1000, 65534])
def test_it_becomes_the_owner_of_a_folder_that_is_closed_to_others(
    folder: Path, owner: int
) -> None:
    program = folder / "exotide-servicediscovery"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    target = folder / "service-discovery"
    target.mkdir(mode=0o700)
    os.chown(target, owner, owner)
    done = subprocess.run(
        ["sh", ENTRYPOINT],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "EXOTIDE_TARGETS_FILE": str(target / "config.json"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert (target / "config.json").read_text() == f"{owner}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    facts = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert facts == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}

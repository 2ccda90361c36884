"""The load generator as the demo's child: Locust, steered by a file, heard by another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from exotide.demo.programs import Program
from exotide.loadtest.control import Control, write_control
from exotide.loadtest.results import Second, Tail

LOCUSTFILE: Final = Path(__file__).parents[1] / "loadtest" / "locustfile.py"
STOP_GRACE_S: Final = 5.0


class Generator:
    """Offers requests at a rate that may be changed at any time."""

    def __init__(self, url: str, *, path: str, folder: Path, rate_rps: float) -> None:
        self._control, self._path = folder / "load-control.json", path
        self.results = folder / "load-results.jsonl"
        self._tail = Tail(self.results)
        self.offer(rate_rps)
        options = ["--headless", "--users", "1", "--host", url, "--loglevel", "WARNING"]
        self.program = Program(
            "locust",
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options, "--only-summary"],
            log=folder / "locust.log",
            environment={
                "EXOTIDE_LOAD_CONTROL": str(self._control),
                "EXOTIDE_LOAD_RESULTS": str(self.results),
            },
        )

    def offer(self, rate_rps: float) -> None:
        """Change the rate, and tell the generator that someone is still there."""
        write_control(self._control, Control(rate_rps=rate_rps, path=self._path))

    def news(self) -> list[Second]:
        """The seconds that were reported since the last call."""
        return self._tail.read()

    def stop(self) -> None:
        """No more requests; those in flight are given up."""
        self._control.unlink(missing_ok=True)
        self.program.stop(grace_s=STOP_GRACE_S)

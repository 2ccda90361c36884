"""The `exo` command line as tests use it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Exo:
    """Runs `exo` where it reaches the cloud; every answer is JSON."""

    def __init__(
        self, program: Path, environment: Mapping[str, str], run_in: Callable[..., list[str]]
    ) -> None:
        self._program, self._environment, self._run_in = program, environment, run_in

    def __call__(self, *words: str, given: str = "") -> Any:
        ended = self.start(*words, given=given)
        assert ended.returncode == 0, f"exo {' '.join(words)}\n{ended.stdout}{ended.stderr}"
        return json.loads(ended.stdout) if ended.stdout.strip() else None

    def with_key(self, key: str, secret: str) -> Exo:
        """The same command line in the hands of somebody else."""
        theirs = {"EXOSCALE_API_KEY": key, "EXOSCALE_API_SECRET": secret}
        theirs |= {"EXOSCALE_KEY": key, "EXOSCALE_SECRET": secret}
        return Exo(self._program, {**self._environment, **theirs}, self._run_in)

    def without(self, *names: str) -> Exo:
        """The same command line, not told of something."""
        kept = {key: each for key, each in self._environment.items() if key not in names}
        return Exo(self._program, kept, self._run_in)

    def start(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._run_in(str(self._program), *words, "--output-format", "json"),
            env=dict(self._environment),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

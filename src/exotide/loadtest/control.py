"""The small file by which a run tells its load generator, in another process, what to do."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from exotide.loadtest.errors import ControlFileInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What the generator reads anew several times per second."""

    rate_rps: float
    """Requests per second to start, whatever becomes of them; 0 pauses."""
    path: str = "/work"
    """Path and query of the requests."""


def write_control(file: Path, control: Control) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(control)), encoding="utf-8")
    temporary.replace(file)


def read_control(file: Path) -> Control:
    """
    Read what is wanted now.

    Raises:
        FileNotFoundError: the run has ended.
        ControlFileInvalid: the content is not a control.
    """
    text = file.read_text(encoding="utf-8")
    try:
        raw = json.loads(text)
        control = Control(rate_rps=float(raw["rate_rps"]), path=str(raw["path"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ControlFileInvalid(f"{file.name}: expected rate_rps and path, got: {text}") from error
    if not 0 <= control.rate_rps < float("inf"):
        raise ControlFileInvalid(f"{file.name}: rate_rps must be 0 or more, got: {text}")
    return control

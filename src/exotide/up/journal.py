"""
What the next start must know if this one does not get to its end, beside the state.

`.exotide/` holds the journal (`up.json`), what was said (`up.log`), and what Terraform says. All
of it is readable by its owner only, and the journal holds no secret.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from .course import Phase
from .errors import Busy, CannotRun

FOLDER: Final = ".exotide"
FILE: Final = "up.json"
_LOCK: Final = "lock"
_VERSION: Final = 1
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A Terraform that was started; alive, it must be waited for."""

    pid: int
    started: str
    """Since which boot, by the kernel's clock: another process of this number began later."""
    is_told_to_stop: bool = False
    """A second signal would make it drop what it is doing."""

    @classmethod
    def of(cls, pid: int) -> Process:
        """Describe a process that runs."""
        return cls(pid=pid, started=_started(pid) or "")

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return bool(self.started) and _started(self.pid) == self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One stack, from its first apply until nothing is left. Times in Unix seconds."""

    phase: Phase
    since: float
    """When its first apply began."""
    destroy_after: float | None = None
    name: str
    zone: str
    endpoint: str
    """Which API it was made at: another would answer that nothing of it exists."""
    program: str
    """Terraform or OpenTofu, by path."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What --var gave; they hold until the stack is gone."""
    key: str = ""
    """The API key that it was made with, without its secret. Empty: not known."""
    makes_keys: bool = True
    """Whether the stack makes its agents' keys, so that roles and keys may be left of it."""
    max_size: int = 0
    """To what the quota has lowered the pool's largest size. 0: as the variables say."""
    lowered_from: int = 0
    """What the variables say, if it was lowered."""
    spent_eur: float = 0.0
    counted_at: float
    """Until when the cost was added up."""
    members: int = 0
    is_torn: bool = False
    """
    An apply did not get to its end. The stack's names were free before it, so that what now bears
    them and is not in the state was made by it.
    """
    torn_until: float = 0.0
    """When that apply can have made something last; what is younger is somebody else's."""
    terraform: Process | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of the journal."""

    folder: Path

    @property
    def file(self) -> Path:
        """The journal."""
        return self.folder / FILE

    def load(self) -> Journal | None:
        """
        Read the journal; None without one.

        Raises:
            CannotRun: It is not one.
        """
        try:
            return _journal(json.loads(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CannotRun(
                f"{self.file} cannot be read; see what runs in the portal, then remove the file: "
                f"{error!r}"
            ) from error

    def save(self, journal: Journal) -> None:
        """Write it in one step, so that a power cut leaves the old or the new one."""
        fresh = self.folder / f"{FILE}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **asdict(journal)}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.file)

    def forget(self) -> None:
        """Remove the journal: nothing of the stack is left."""
        self.file.unlink(missing_ok=True)


@contextmanager
def held(root: Path) -> Iterator[Place]:
    """
    Hold the folder of the journal, so that two runs do not work on one stack.

    Raises:
        Busy: Another run holds it.
        CannotRun: The folder cannot be written.
    """
    folder = root / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"another exotide (process {file.read().strip()}) works in {root}; end it by "
                "Ctrl-C there, or wait for it"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield Place(folder=folder)


def _journal(raw: Mapping[str, Any]) -> Journal:
    if raw["version"] != _VERSION:
        raise ValueError(f"version {raw['version']} is not {_VERSION}")
    values = {name: value for name, value in raw.items() if name != "version"}
    terraform = values.pop("terraform")
    return Journal(
        **(values | {"phase": Phase(values["phase"])}),
        terraform=None if terraform is None else Process(**terraform),
    )


def _started(pid: int) -> str | None:
    """When a process began; None if it has ended, be it that nobody has asked for its end yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{fields[19]} in {_BOOT.read_text().strip()}"

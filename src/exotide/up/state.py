"""
What `terraform.tfstate` says, read without Terraform: it must be read even when that cannot run.

The lock on a local state is one of the kernel's on the file, so it ends with the process that holds
it, however that ends. The file `.terraform.tfstate.lock.info` beside it only tells who it was:
after a kill it stays, holds nothing, and the next Terraform overwrites it. `force-unlock` refuses
local states for the same reason.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import CannotRun

FILE: Final = "terraform.tfstate"
BACKUP: Final = "terraform.tfstate.backup"
ERRORED: Final = "errored.tfstate"
"""Where Terraform saves what it could not write to the state, as when the disk was full."""
PRIVATE: Final = 0o077
"""The umask of whatever writes a state: keys and user-data lie in it in clear."""
_LOCK_INFO: Final = ".terraform.tfstate.lock.info"
_FORMAT: Final = 4
_FLOCK: Final = "hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, process."""


def make_private(folder: Path) -> None:
    """Take from others what an earlier Terraform let them read."""
    for name in (FILE, BACKUP, ERRORED):
        file = folder / name
        with suppress(FileNotFoundError):
            mode = file.stat().st_mode
            if mode & PRIVATE:
                file.chmod(mode & ~PRIVATE & 0o777)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One resource that the state knows."""

    type: str
    name: str
    """Its name in the cloud; empty for what has none there."""
    id: str
    attributes: Mapping[str, Any]

    @property
    def is_in_cloud(self) -> bool:
        """Whether it exists outside the state."""
        return self.type.startswith("exoscale_")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the state knows; it holds secrets, so it is neither printed nor kept."""

    resources: tuple[Known, ...] = ()

    def __repr__(self) -> str:
        return f"State({len(self.resources)} resources)"

    @property
    def ids(self) -> frozenset[str]:
        """Ids of everything in the cloud."""
        return frozenset(each.id for each in self.resources if each.is_in_cloud)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to destroy."""
        return not self.resources

    def first(self, kind: str) -> Known | None:
        """The first resource of a type."""
        return next((each for each in self.resources if each.type == kind), None)

    def created_at(self) -> str | None:
        """When the stack was first applied, from the root module's own record."""
        return next(
            (each for each in self._records() if isinstance(each, str) and "T" in each), None
        )

    def max_size(self) -> int | None:
        """The pool's largest size, likewise."""
        sizes = (each.get("max") for each in self._records() if isinstance(each, dict))
        return next((int(each) for each in sizes if isinstance(each, int | float)), None)

    def _records(self) -> Iterator[object]:
        made = (each for each in self.resources if each.type == "terraform_data")
        outputs = (each.attributes.get("output") for each in made)
        return (each.get("value") for each in outputs if isinstance(each, dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What is known of the state's lock."""

    holder: int | None
    """The process that holds it. None: nobody does."""
    told: str
    """Who took it last, as the lock's file says; empty without one."""


def load(folder: Path) -> State:
    """
    Read the state of a folder; one that does not exist is empty.

    Raises:
        CannotRun: It cannot be read.
    """
    file = folder / FILE
    if (folder / ERRORED).exists():
        raise CannotRun(
            f"{folder / ERRORED} is there: Terraform could not write {FILE}, and saved it so. Make "
            f"room, then in {folder}: terraform state push {ERRORED} && rm {ERRORED}"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State()
    except (OSError, ValueError) as error:
        raise CannotRun(f"{file} cannot be read: {error}") from error
    if not text.strip():
        return State()  # terraform makes the file before it writes it
    try:
        raw = json.loads(text)
        found = raw["version"]
        resources = tuple(_known(raw)) if found == _FORMAT else ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotRun(
            f"{file} is damaged; put {BACKUP} in its place if that is whole: {error!r}"
        ) from error
    if found != _FORMAT:
        raise CannotRun(f"{file} has format {found}, and this version reads {_FORMAT}")
    return State(resources=resources)


def is_lost(folder: Path) -> bool:
    """Whether there is no state at all; after a destroy there is one that knows nothing."""
    try:
        return not (folder / FILE).read_bytes().strip()
    except OSError:
        return True


def in_backup(folder: Path) -> int:
    """How many resources in the cloud the state's last but one version knew; 0 if none is left."""
    try:
        raw = json.loads((folder / BACKUP).read_text(encoding="utf-8"))
        return sum(each.is_in_cloud for each in _known(raw))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def lock(folder: Path) -> Lock:
    """Tell who holds the state's lock, by asking the kernel."""
    return Lock(holder=_holder(folder / FILE), told=_told(folder / _LOCK_INFO))


def _known(raw: Mapping[str, Any]) -> Iterator[Known]:
    for resource in raw.get("resources", []):
        if resource["mode"] != "managed":
            continue
        for instance in resource["instances"]:
            attributes = instance.get("attributes") or {}
            yield Known(
                type=resource["type"],
                name=str(attributes.get("name") or ""),
                id=str(attributes.get("key" if _is_key(resource) else "id") or ""),
                attributes=attributes,
            )


def _is_key(resource: Mapping[str, Any]) -> bool:
    return bool(resource["type"] == "exoscale_iam_api_key")


def _holder(file: Path) -> int | None:
    try:
        with file.open("rb") as opened:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(opened, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)


def _told(file: Path) -> str:
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        return f"{info['Operation']} by {info['Who']} since {info['Created']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""

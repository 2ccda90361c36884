"""
Why a local cloud cannot start or cannot be found, as one tree. All end the program with exit 2.

* CloudUnusable
  x PortInUse         another program listens there; names a way to choose another port
  x ProgramsMissing   system programs are not installed; names their Debian packages
  x AuthorityUnusable the proxy's certificate authority is damaged or cannot be written
  x NoCloud           no running cloud was found, or more than one
  x StateUnusable     the state folder cannot be used; nothing in it was changed
    + StateInUse      a running cloud keeps its state there
    + StateDamaged    the file cannot be read; names it and what is wrong
    + StateTooNew     a newer version wrote it

What the drivers report is beside this: `exotide.cloud.servers.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class CloudUnusable(Exception):
    """Base of all; the message is for the user and tells the next step."""


class PortInUse(CloudUnusable):
    """The API's port is taken."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is in use by another program; stop it, or choose another with --port"
        )


class ProgramsMissing(CloudUnusable):
    """System programs are not installed."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n  ".join(["system programs are missing", *reasons]))


class AuthorityUnusable(CloudUnusable):
    """The certificate authority cannot be used as it is."""

    def __init__(self, place: Path, reason: str) -> None:
        super().__init__(
            f"certificate authority: {place}: {reason}; repair or remove it (the next start makes "
            "a new one), or choose another folder with --ca-dir"
        )


class NoCloud(CloudUnusable):
    """There is no running cloud to talk about, or it is not clear which one is meant."""


class StateUnusable(CloudUnusable):
    """The state folder cannot be used; the message says why and what to do."""


class StateInUse(StateUnusable):
    """A running cloud keeps its state there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"the state folder {folder} is in use by a running cloud; "
            "stop that one, or choose another folder with --state"
        )


class StateDamaged(StateUnusable):
    """The file cannot be read."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"{file} is damaged: {' '.join(reason.split())}. It was not changed: "
            "put a copy of it back, or begin anew with another folder (--state)"
        )


class StateTooNew(StateUnusable):
    """A newer version wrote it."""

    def __init__(self, file: Path, *, found: int, known: int) -> None:
        super().__init__(
            f"{file} has format {found}, written by a newer version; this one reads up to {known}. "
            "It was not changed: use the newer version, or another folder with --state"
        )

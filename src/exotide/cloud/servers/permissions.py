"""Whether this process may make namespaces, asked before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from exotide.cloud.servers.errors import HostUnsuitable, NoPermission
from exotide.cloud.servers.programs import find

CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""Their bit numbers in CapEff."""
NEEDED: Final = ("ip", "nsenter", "nft", "unshare", "mount", "setpriv", "prlimit", "node-exporter")


def check(status: str | None = None) -> None:
    """
    Make sure that servers can run here.

    Args:
        status: What /proc/self/status says. None: read it.

    Raises:
        NoPermission: naming the missing capabilities.
        MissingProgram: naming the package.
        HostUnsuitable: when the kit lies where servers have their own files.
    """
    check_capabilities(status)
    for program in NEEDED:
        find(program)
    check_place(Path(sys.executable), Path(sys.prefix), Path(__file__))


def check_capabilities(status: str | None = None) -> None:
    """Raise NoPermission, naming the missing capabilities; see `check` for `status`."""
    text = Path("/proc/self/status").read_text() if status is None else status
    missing = missing_capabilities(text)
    if missing:
        raise NoPermission(
            "servers with a network of their own need namespaces and control groups, but this "
            f"process lacks {' and '.join(missing)}; run as root, or in a container with "
            "--privileged"
        )


def missing_capabilities(status: str) -> list[str]:
    """List what /proc/self/status lacks."""
    return [name for name, bit in CAPABILITIES.items() if not held(bit, status)]


def held(bit: int, status: str | None = None) -> bool:
    """Whether this process has a capability, by its number; see `check` for `status`."""
    text = Path("/proc/self/status").read_text() if status is None else status
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    return bool(int(lines["CapEff"].strip(), 16) >> bit & 1)


def check_place(*paths: Path) -> None:
    """Raise HostUnsuitable when one lies below /srv, which each server replaces by its own."""
    for path in paths:
        if path.resolve().is_relative_to("/srv"):
            raise HostUnsuitable(
                f"{path} lies below /srv, where each server sees its own files; "
                "move the checkout elsewhere"
            )

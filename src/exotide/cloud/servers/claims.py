"""Names of which each exists once on a host network, such as the number of a cloud's addresses."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any, Final

from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.trust import Untrusted, own_folder


def _folder(user: int) -> Path:
    """Choose a folder that is the user's own and gone after a reboot."""
    if user == 0:
        return Path("/run/exotide-claims")
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own, "exotide-claims") if own else Path("/", "tmp", f"exotide-claims-{user}")


FOLDER: Final = _folder(os.geteuid())


def claim_name(name: str) -> IO[Any] | None:
    """
    Hold a name until the file is closed or we are gone; None: another cloud has it.

    The lock lies in a folder of the user's: what every user could bind, such as an abstract socket,
    anybody could squat. So clouds of different users do not see each other here.

    Raises:
        HostUnsuitable: The folder cannot be made, or is somebody else's.
    """
    network = Path("/proc/self/ns/net").stat().st_ino
    try:
        own_folder(FOLDER)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.fdopen(os.open(FOLDER / f"{network}-{name}", flags, 0o600), "rb+")
    except (Untrusted, OSError) as error:
        raise HostUnsuitable(f"cannot note which addresses are in use: {error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file

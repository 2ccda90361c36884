"""How running clouds are found: each tells in `<run dir>/<cloud id>/cloud.json`, mode 0600."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exotide.cloud.drivers import Character
from exotide.cloud.errors import NoCloud
from exotide.cloud.servers.leftovers import KEPT, kept_in
from exotide.cloud.service import Access
from exotide.cloud.trust import Untrusted, read_text, trusted_folder


def _run_dir(user: int) -> Path:
    """
    Choose a folder that is the user's own and gone after a reboot.

    TMPDIR is not asked: later commands must find the cloud, and sockets need short paths. What
    another user put there is neither used nor believed.
    """
    if user == 0:
        return Path("/run/exotide")
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own) / "exotide" if own else Path("/", "tmp", f"exotide-{user}")


RUN_DIR: Final = _run_dir(os.geteuid())
NAME: Final = "cloud.json"
LOCK: Final = "lock"
DOOMED: Final = "doomed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One living cloud."""

    cloud_id: str
    pid: int
    started: str = ""
    """Since when, by the kernel's clock: another process of this number began later."""
    access: Access
    fabric_ip: str
    """Where the emulated servers reach the API; its port is the same."""
    ca_file: Path | None = None
    """What clients of the proxy must trust. None: this cloud is no proxy."""
    character: Character
    state: Path | None = None
    """Where it is kept. None: it is forgotten at its end."""

    @property
    def agent_endpoint(self) -> str:
        """Base URL as the emulated servers see it."""
        return f"http://{self.fabric_ip}:{self.access.port}/v2"

    def end(self) -> None:
        """
        Ask the cloud to end.

        Raises:
            NoCloud: No process runs under its number, or another one does.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError as error:
            raise NoCloud(f"cloud {self.cloud_id} (process {self.pid}) has ended") from error
        try:
            if not self.started or started_at(self.pid) != self.started:
                raise NoCloud(f"process {self.pid} is not cloud {self.cloud_id}; remove its folder")
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        finally:
            os.close(descriptor)

    def as_json(self) -> dict[str, object]:
        """Return what the file holds."""
        return {
            "pid": self.pid,
            "started": self.started,
            "port": self.access.port,
            "key": self.access.key,
            "secret": self.access.secret,
            "zone": self.access.zone,
            "endpoint": self.access.endpoint,
            "fabric_ip": self.fabric_ip,
            "agent_endpoint": self.agent_endpoint,
            "ca_file": None if self.ca_file is None else str(self.ca_file),
            "servers": self.character.servers,
            "why": self.character.why,
            "limits": list(self.character.limits),
            "http_port": self.character.http_port,
            "state": None if self.state is None else str(self.state),
        }


def started_at(pid: int) -> str:
    """Tell when a process began: boot and ticks since it. Empty: there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}:{fields[19]}"


def publish(folder: Path, entry: Entry) -> None:
    """Write a cloud's file in one step, at its start; only its owner may read it."""
    (folder / DOOMED).unlink(missing_ok=True)
    fresh = folder / f"{NAME}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(entry.as_json(), file)
    fresh.replace(folder / NAME)


def doom(folder: Path) -> None:
    """Ask that a kept cloud takes its servers and its state along when it ends."""
    (folder / DOOMED).touch(mode=0o600)


def is_doomed(folder: Path) -> bool:
    """Tell whether that was asked."""
    return (folder / DOOMED).exists()


def living(run_dir: Path = RUN_DIR) -> list[Entry]:
    """
    Return all clouds that run, by port; files of dead ones are passed over.

    A folder that others can write to is not looked into: what it says could end a process of ours.
    """
    if not trusted_folder(run_dir):
        return []
    found = [_read(file) for file in run_dir.glob(f"*/{NAME}") if _is_held(file.parent / LOCK)]
    return sorted((each for each in found if each is not None), key=lambda e: e.access.port)


def resting(run_dir: Path = RUN_DIR) -> list[tuple[str, Path]]:
    """Return the ids and state folders of kept clouds that do not run."""
    if not trusted_folder(run_dir):
        return []
    found = sorted(run_dir.glob(f"*/{KEPT}"))
    files = [(file.parent, kept_in(file.parent)) for file in found]
    return [
        (folder.name, file.parent)
        for folder, file in files
        if file is not None and not _is_held(folder / LOCK)
    ]


def find(port: int | None, *, run_dir: Path = RUN_DIR) -> Entry:
    """
    Return the cloud on this port, or the only one if no port is given.

    Raises:
        NoCloud: There is none, or it is not clear which one is meant.
    """
    clouds = living(run_dir)
    if port is not None:
        clouds = [cloud for cloud in clouds if cloud.access.port == port]
    if not clouds:
        where = "" if port is None else f" on port {port}"
        raise NoCloud(f"no local cloud runs{where} (looked in {run_dir}); start: exotide cloud")
    if len(clouds) > 1:
        ports = ", ".join(str(cloud.access.port) for cloud in clouds)
        raise NoCloud(f"several local clouds run; choose one with --port, one of: {ports}")
    return clouds[0]


def _is_held(lock: Path) -> bool:
    """The kernel frees the lock when a cloud ends, however it ends."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read(file: Path) -> Entry | None:
    try:
        return _entry(file.parent.name, json.loads(read_text(file)))
    except (Untrusted, OSError, ValueError, KeyError, TypeError):
        return None


def _entry(cloud_id: str, raw: Mapping[str, Any]) -> Entry:
    return Entry(
        cloud_id=cloud_id,
        pid=int(raw["pid"]),
        started=str(raw.get("started", "")),
        access=Access(
            port=int(raw["port"]), key=raw["key"], secret=raw["secret"], zone=raw["zone"]
        ),
        fabric_ip=raw["fabric_ip"],
        ca_file=Path(raw["ca_file"]) if raw.get("ca_file") else None,
        character=Character(
            servers=raw["servers"],
            why=raw["why"],
            limits=tuple(raw["limits"]),
            http_port=int(raw["http_port"]),
        ),
        state=Path(raw["state"]) if raw.get("state") else None,
    )

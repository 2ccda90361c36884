"""The local cloud as the demo's child: started, found by its port, asked to stop."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exotide.cloud.directory import RUN_DIR
from exotide.demo.programs import Program

BOOT_S: Final = 12.0
"""What a real server takes to boot; the cloud divides it by its speed."""
READY_LIMIT_S: Final = 30.0
STOP_GRACE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a running cloud."""

    port: int
    key: str
    secret: str = field(repr=False)
    agent_endpoint: str
    """The endpoint as the emulated servers reach it."""
    folder: Path
    """Where it keeps its servers' folders and logs."""
    servers: str
    """What its servers are made of, and why, for people."""
    limits: tuple[str, ...]
    """What they cannot do, one sentence each."""
    http_port: int
    """Where balancers serve port 80."""

    @property
    def endpoint(self) -> str:
        """The endpoint as this machine reaches it."""
        return f"http://127.0.0.1:{self.port}/v2"


def start_cloud(*, speed: float, member_cores: float, log: Path) -> tuple[Program, int]:
    """
    Start a cloud on a free port; give the program and the port.

    Args:
        member_cores: What a server's vCPU may use of this machine; a member has one.
    """
    port = free_port()
    options = {
        "--port": port,
        "--speed": speed,
        "--boot-delay-s": BOOT_S,
        "--vcpu-cores": member_cores,
    }
    words = [word for name, value in options.items() for word in (name, f"{value:g}")]
    command = [sys.executable, "-c", "from exotide.cli import main; main()", "cloud", *words]
    return Program("exotide cloud", command, log=log, environment={}), port


def find_access(port: int, *, states: Path = RUN_DIR) -> Access | None:
    """The living cloud on this port; None until it is ready."""
    for file in states.glob("*/cloud.json"):
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            if int(raw["port"]) == port:
                return _access(raw, file.parent)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another cloud's, or one that is just being written
    return None


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _access(raw: dict[str, Any], folder: Path) -> Access:
    return Access(
        port=int(raw["port"]),
        key=str(raw["key"]),
        secret=str(raw["secret"]),
        agent_endpoint=str(raw["agent_endpoint"]),
        folder=folder,
        servers=f"{raw['servers']}, since {raw['why']}" if raw["why"] else str(raw["servers"]),
        limits=tuple(raw["limits"]),
        http_port=int(raw["http_port"]),
    )

"""Finding the HAProxy process that a predecessor left for one service."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.balancer_config import LISTENER
from exotide.cloud.balancer_runtime import Row, Runtime
from exotide.cloud.servers.errors import BalancerFailed
from exotide.cloud.servers.lasting import Lasting

log = structlog.get_logger(__name__)

GENERATION: Final = re.compile(r"-([0-9]+)\.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A HAProxy that answers."""

    process: Lasting
    listener: socket.socket
    runtime: Runtime
    generation: int
    rows: Mapping[str, Row]
    text: str
    """Its configuration without members."""


async def find(folder: Path, stem: str, pids: Sequence[int]) -> Found | None:
    """
    Give the newest process of a service that answers; older ones only finish their connections.

    Args:
        stem: What the names of the service's files begin with.
        pids: Processes of the balancer's control group: no other is taken for ours.
    """
    for generation, path in _sockets(folder, stem):
        runtime = Runtime(path)
        try:
            pid = await runtime.pid()
            rows = await runtime.rows()
            text = without_members(path.with_suffix(".cfg").read_text())
            if pid in pids:
                process = Lasting(pid)
                return Found(
                    process=process,
                    listener=_listener_of(process),
                    runtime=runtime,
                    generation=generation,
                    rows=rows,
                    text=text,
                )
        except (BalancerFailed, OSError, KeyError) as error:
            log.debug("no_balancer_there", socket=str(path), reason=str(error))
    return None


def _listener_of(process: Lasting) -> socket.socket:
    """Share the socket that a process inherited. Raises OSError or KeyError when it has none."""
    words = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    return process.share_socket(int(variables[LISTENER]))


def end_others(pids: Sequence[int], folder: Path, *, keep: Sequence[str]) -> None:
    """
    Kill what serves a service that nobody knows any more.

    Args:
        pids: Processes of the balancer's control group.
        keep: What the names of the files of known services begin with.
    """
    known = tuple(f"{folder}/{stem}-".encode() for stem in keep)
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if not any(word.startswith(known) for word in words):
                os.kill(pid, signal.SIGKILL)


def without_members(text: str) -> str:
    """Leave the lines of members out: they change at run time."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("server "))


def _sockets(folder: Path, stem: str) -> Iterator[tuple[int, Path]]:
    """Newest first."""
    found = [
        (int(match[1]), path)
        for path in folder.glob(f"{stem}-*.sock")
        if (match := GENERATION.search(path.name))
    ]
    yield from sorted(found, reverse=True)

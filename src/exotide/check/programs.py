"""Adapter of the port Programs: the installed programs, or container images of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .access import Access
from .agents import TARGET_PORT
from .errors import ProgramFault
from .ports import Program

LAST_LINES: Final = 8
GRACE_S: Final = 5.0
VIENNA: Final = "4da1b188-dcd6-4ff5-b7fd-bde984055548"
"""EXOSCALE_ZONE_ID of at-vie-1, which is all that the contract knows."""
_SHARED: Final = {Program.DISCOVERY: "/srv/service-discovery"}
"""Folders of containers that are looked into."""
_NETWORK: Final = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
_TRUST: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPrograms:
    """Runs the programs on this machine, each in a folder of its own."""

    access: Access
    folder: Path
    engine: str = ""
    """podman or docker, for those that have an image."""
    images: Mapping[Program, str] = field(default_factory=dict)

    def start(self, program: Program, *, pool_id: str) -> LocalAgent:
        port = free_port()
        folder = self.folder / f"{program}-{port}"
        # What is around it is closed to others; without root, the container's user owns it.
        folder.mkdir(mode=0o755)
        variables = contract_environment(self.access, pool_id=pool_id, port=port)
        if image := self.images.get(program):
            return self._container(image, program, variables, folder, port=port)
        own = variables | _own_places(program, folder) | _surroundings()
        return LocalAgent([*_with_its_parent(), installed(program)], own, folder, port=port)

    def _container(
        self,
        image: str,
        program: Program,
        variables: Mapping[str, str],
        folder: Path,
        *,
        port: int,
    ) -> LocalAgent:
        name, place = f"exotide-check-{port}", _SHARED.get(program)
        command = [
            *(self.engine, "run", "--rm", "--name", name, "--network", "host"),
            *(("--volume", f"{folder}:{place}") if place else ()),
            # Names alone: values would be among the arguments, which anyone may read.
            *(word for variable in variables for word in ("--env", variable)),
            image,
        ]
        removal = (self.engine, "rm", "--force", name)
        return LocalAgent(command, os.environ | variables, folder, port=port, removal=removal)


class LocalAgent:
    """A program that was started."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        port: int,
        removal: tuple[str, ...] = (),
        grace_s: float = GRACE_S,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder, self._log, self._removal = folder, folder / "program.log", removal
        self._grace_s = grace_s
        with self._log.open("wb") as stream:
            try:
                # A session of its own, so that Ctrl-C does not reach it before we end it.
                self._process = subprocess.Popen(
                    command,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProgramFault(f"{command[0]} cannot be run: {error}") from error

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def targets(self) -> str:
        try:
            return (self._folder / "config.json").read_text(encoding="utf-8")
        except OSError:
            return ""

    def ask_to_end(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self._grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._removal:
            subprocess.run(
                self._removal, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        shown = "; ".join(line.strip() for line in lines[-LAST_LINES:])
        return f"the end of its log: {shown}" if shown else "its log is empty"


def contract_environment(access: Access, *, pool_id: str, port: int) -> dict[str, str]:
    """The contract's variables; an endpoint only where it is not the real cloud's."""
    variables = {
        "EXOSCALE_KEY": access.key,
        "EXOSCALE_SECRET": access.secret,
        "EXOSCALE_ZONE": access.zone,
        "EXOSCALE_ZONE_ID": VIENNA,
        "EXOSCALE_INSTANCEPOOL_ID": pool_id,
        "TARGET_PORT": str(TARGET_PORT),
        "LISTEN_PORT": str(port),
        # Not the contract's: it takes webhooks without a token, from this machine only.
        "EXOTIDE_LISTEN_ADDRESS": "127.0.0.1",
        "EXOTIDE_METRICS_PORT": str(free_port()),
    }
    if not access.is_public:
        variables["EXOSCALE_API_ENDPOINT"] = access.endpoint
    return variables


def installed(program: Program) -> str:
    """
    Find a program: beside this one, or on the PATH.

    Raises:
        ProgramFault: it is not there.
    """
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if not found:
        raise ProgramFault(f"{program} is not installed: make setup, or name a container image")
    return found


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own_places(program: Program, folder: Path) -> dict[str, str]:
    """What a container has to itself."""
    if program is Program.DISCOVERY:
        return {"EXOTIDE_TARGETS_FILE": str(folder / "config.json")}
    return {"EXOTIDE_JOURNAL": str(folder / "journal.sqlite")}


def _surroundings() -> dict[str, str]:
    """How this machine finds programs and reaches the network."""
    names = ("PATH", *_NETWORK, *_TRUST)
    return {name: os.environ[name] for name in names if name in os.environ}


def _with_its_parent() -> list[str]:
    """Have the kernel ask the program to end when we are killed."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", "--"] if found else []

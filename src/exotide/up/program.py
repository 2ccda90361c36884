"""Terraform or OpenTofu in the stack's folder: init when needed, then runs that can be watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from .errors import CannotRun
from .journal import Process
from .messages import Message, Trouble, read, trouble
from .module import EXPRESSION, Module
from .state import PRIVATE, make_private

SAID: Final = "terraform.jsonl"
COMPLAINED: Final = "terraform.err"
_CHECK_WITHIN_S: Final = 120.0
_INIT_WITHIN_S: Final = 600.0
_TAIL_LINES: Final = 15
_PROXY: Final = ("HTTPS_PROXY", "https_proxy")
_OF_LOCAL_CLOUD: Final = (*_PROXY, "SSL_CERT_FILE")


class Run(Protocol):
    """
    One command that runs on even if this program is killed.

    Adapters: StartedRun, FoundRun, and a scripted one in the tests.
    """

    process: Process

    def news(self) -> list[Message]:
        """What it has said since the last call."""

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""

    def interrupt(self) -> None:
        """Tell it to stop when what it has begun is done; to be called once."""

    def complaint(self) -> str:
        """The end of what it wrote beside its messages; for a program that died."""


class Terraform(Protocol):
    """Adapters: Program, and a scripted one in the tests."""

    def apply(self, variables: Mapping[str, str]) -> Run:
        """Begin to make the stack."""

    def destroy(self, variables: Mapping[str, str]) -> Run:
        """Begin to remove all that the state knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The real one. Its own files are in `logs`."""

    path: Path
    folder: Path
    logs: Path
    environment: Mapping[str, str] = field(repr=False)

    def apply(self, variables: Mapping[str, str]) -> Run:
        """Begin to make the stack."""
        return self._start("apply", variables)

    def destroy(self, variables: Mapping[str, str]) -> Run:
        """Begin to remove all that the state knows."""
        return self._start("destroy", variables)

    def prepare(self) -> Iterator[str]:
        """
        Check the configuration, and fetch the provider and link the modules if that is not done.

        Yields:
            What it does, for people.

        Raises:
            CannotRun: with what Terraform said.
        """
        problems = self._problems()
        if any(_asks_for_init(each) for each in problems):
            yield f"{self.path.name} init: linking the modules, fetching the provider"
            self._init()
            problems = self._problems()
        errors = [str(each) for each in problems if each.is_error]
        if errors:
            raise CannotRun("\n".join([f"the configuration in {self.folder} is wrong:", *errors]))

    def evaluated(self, variables: Mapping[str, str]) -> Module | None:
        """Tell what the root module's variables will be; None if Terraform cannot say."""
        try:
            ended = self._run(
                "console",
                *_given(variables),
                within_s=_CHECK_WITHIN_S,
                environment=self._own(),
                typed=f"{EXPRESSION}\n",
            )
        except CannotRun:
            return None
        return Module.read(ended.stdout)

    def _problems(self) -> list[Trouble]:
        ended = self._run("validate", "-json", within_s=_CHECK_WITHIN_S, environment=self._own())
        try:
            return [trouble(each) for each in json.loads(ended.stdout)["diagnostics"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CannotRun(
                f"{self.path} validate failed ({ended.returncode}): {ended.stderr.strip()}"
            ) from error

    def _init(self) -> None:
        words = ("init", "-input=false", "-no-color")
        environment = _past_local_cloud(self._own())
        ended = self._run(*words, within_s=_INIT_WITHIN_S, environment=environment)
        if ended.returncode:
            raise CannotRun(
                f"{self.path.name} init failed:\n{(ended.stderr or ended.stdout).strip()}\n"
                "It fetches the provider exoscale/exoscale once: see that this machine reaches "
                "the registry. Without a network, name a folder that holds the provider: "
                "filesystem_mirror in the file of TF_CLI_CONFIG_FILE."
            )

    def _run(
        self, *words: str, within_s: float, environment: Mapping[str, str], typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [str(self.path), *words],
                cwd=self.folder,
                env=environment,
                input=typed,
                capture_output=True,
                text=True,
                timeout=within_s,
                check=False,
                umask=PRIVATE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotRun(f"{self.path} {words[0]} did not work: {error}") from error

    def _start(self, command: str, variables: Mapping[str, str]) -> Run:
        """
        Start a command that says what it does into a file.

        Into a file and not into a pipe, and in a session of its own: so it neither dies of this
        program's end, nor gets the terminal's Ctrl-C, which is for this program to judge.
        """
        make_private(self.folder)
        words = [command, "-json", "-auto-approve", "-input=false", *_given(variables)]
        with _fresh(self.logs / SAID) as said, _fresh(self.logs / COMPLAINED) as complained:
            started = subprocess.Popen(
                [str(self.path), *words],
                cwd=self.folder,
                env=self._own(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
                start_new_session=True,
                umask=PRIVATE,
            )
        return StartedRun(started, self.logs)

    def _own(self) -> dict[str, str]:
        return dict(self.environment) | {
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            # The contract's place of the state is ./terraform.tfstate, that of this workspace.
            "TF_WORKSPACE": "default",
        }


class StartedRun:
    """A command that this program started."""

    def __init__(self, started: subprocess.Popen[bytes], logs: Path) -> None:
        self.process = Process.of(started.pid)
        self._started = started
        self._said = _Lines(logs / SAID)
        self._complained = logs / COMPLAINED

    def news(self) -> list[Message]:
        """What it has said since the last call."""
        return self._said.read()

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._started.poll()

    def interrupt(self) -> None:
        """Tell it to stop."""
        self._started.send_signal(signal.SIGINT)

    def complaint(self) -> str:
        """The end of what it wrote beside its messages."""
        lines = self._complained.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


class FoundRun:
    """A command that an earlier run of this program started, and that outlived it."""

    def __init__(self, process: Process, logs: Path) -> None:
        self.process = process
        self._said = _Lines(logs / SAID)

    def news(self) -> list[Message]:
        """What it has said since the last call; at the first, since its start."""
        return self._said.read()

    def ended(self) -> int | None:
        """0 when it has ended: its status went to nobody. What it left undone is done anew."""
        return None if self.process.is_alive else 0

    def interrupt(self) -> None:
        """Tell it to stop."""
        if self.process.is_alive:
            os.kill(self.process.pid, signal.SIGINT)

    def complaint(self) -> str:
        """Nothing: it is not known how it ended."""
        return ""


class _Lines:
    """Messages of a file that grows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at = 0

    def read(self) -> list[Message]:
        """Read the lines that are complete."""
        with self._file.open("rb") as file:
            file.seek(self._at)
            whole, end, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(end)
        lines = whole.decode("utf-8", errors="replace").splitlines()
        return [message for line in lines if (message := read(line)) is not None]


def _given(variables: Mapping[str, str]) -> list[str]:
    return [f"-var={name}={value}" for name, value in variables.items()]


def _fresh(file: Path) -> BinaryIO:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb")


def _asks_for_init(each: Trouble) -> bool:
    return each.is_error and any(f"{tool} init" in each.detail for tool in ("terraform", "tofu"))


def _past_local_cloud(environment: dict[str, str]) -> dict[str, str]:
    """
    Let init reach the registry from a shell that uses a local cloud, whose proxy refuses it.

    Init asks registries only, never Exoscale, so that nothing is let through to the real cloud.
    """
    direct = environment.get("EXOSCALE_API_ENDPOINT", "")
    proxies = {environment.get(name, "") for name in _PROXY} - {""}
    if not any(direct.startswith(f"{proxy.rstrip('/')}/") for proxy in proxies):
        return environment
    return {name: each for name, each in environment.items() if name not in _OF_LOCAL_CLOUD}

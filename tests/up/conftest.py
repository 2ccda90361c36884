"""A folder that looks like the root module, a fake Terraform, and `exotide` as a program."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from exoscale.api.v2 import Client

from exotide.cloud.proxy.environment import environment
from exotide.cloud.testing import RunningCloud, running_cloud

Run = Callable[[Callable[[], int]], tuple[int, str]]
"""Runs a command in the site; gives its exit status and all that it said."""
FAKE = Path(__file__).with_name("fake_terraform.py")
OF_THIS_SHELL = ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "EXOSCALE_API_ENVIRONMENT")
"""What the shell that runs the tests may have, and the site's does not."""
EXOTIDE = (sys.executable, "-c", "from exotide.cli import main; main()")


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    with running_cloud() as running:
        yield running


@pytest.fixture
def client(cloud: RunningCloud) -> Iterator[Any]:
    client = Client(cloud.access.key, cloud.access.secret, url=cloud.url)
    yield client
    client.http_client.close()


def names_in(cloud: RunningCloud) -> list[str]:
    """Everything in a cloud that a stack could have left."""
    world = cloud.cloud.world
    return sorted(
        each.name
        for some in (world.pools, world.instances, world.load_balancers, world.security_groups)
        for each in some.values()
    )


@dataclass(kw_only=True)
class Site:
    """One checkout with its cloud, and the programs that were started in it."""

    root: Path
    cloud: RunningCloud
    environment: dict[str, str]
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Start `exotide`; its output is read by `end`."""
        process = subprocess.Popen(
            [*EXOTIDE, *words],
            cwd=self.root,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **more: str) -> tuple[int, str]:
        """Run `exotide` to its end; give its exit status and all that it said."""
        return end(self.begin(*words, **more))

    own_pid: int = field(default_factory=os.getpid)

    def go(self) -> None:
        """Let a Terraform go on that waits."""
        (self.root / "go").touch()

    @property
    def log(self) -> str:
        return (self.root / ".exotide/up.log").read_text()

    @property
    def journal(self) -> Path:
        return self.root / ".exotide/up.json"


def end(process: subprocess.Popen[str], within_s: float = 60.0) -> tuple[int, str]:
    said, _ = process.communicate(timeout=within_s)
    return process.returncode, said


def until(seen: Callable[[], object], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not seen():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)  # polled: the other side is another process


@pytest.fixture
def run(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Let a command work in the site, with its shell."""
    for name in OF_THIS_SHELL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(site.root)
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)

    def run(work: Callable[[], int]) -> tuple[int, str]:
        status = work()
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture
def site(cloud: RunningCloud, tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / "checkout"
    (root / "terraform/userdata").mkdir(parents=True)
    (root / "main.tf").touch()
    fake = tmp_path / "terraform"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    fake.chmod(0o755)
    variables = environment(cloud.access, ca_file=None, mode="direct")
    variables |= {"PATH": os.environ["PATH"], "EXOTIDE_TERRAFORM": str(fake)}
    site = Site(root=root, cloud=cloud, environment=variables)
    yield site
    for process in site.started:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.communicate()

"""All that both commands work with: the folder, the shell, the key, the operator and the paper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console as RichConsole

from exotide.access.keys import Key, read_key
from exotide.access.shell import ENDPOINT, Kind, Shell, check_one_api, read_shell
from exotide.access.zones import Reached, reach
from exotide.stack.errors import SettingsError
from exotide.stack.settings import StackSettings

from . import options, text
from .cloud import ApiCloud
from .errors import CannotRun
from .hands import Hands
from .journal import Journal, Place, held
from .module import OBEYS_ENDPOINT, provider_version
from .operator import Console
from .program import Program
from .screen import Paper, opened_log
from .session import Session

CLOCKS_S = 300.0
"""So far two clocks may be apart before it is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One command in one folder, which nobody else works in meanwhile."""

    operator: Console
    place: Place
    root: Path
    key: Key
    shell: Shell
    aside: ThreadPoolExecutor
    paper: Paper

    def reach(self, zone: str) -> Reached:
        """
        Find the cloud and say which it is.

        Raises:
            NoAccess: It does not answer, or has no such zone.
        """
        cloud = reach(self.shell, zone)
        self.paper.say(cloud.line)
        apart_s = self.operator.now() - (cloud.time_s or self.operator.now())
        if abs(apart_s) > CLOCKS_S:
            way = "ahead of" if apart_s > 0 else "behind"
            self.paper.say(f"this machine's clock is {text.span(abs(apart_s))} {way} the cloud's")
        return cloud

    def program(self, journal: Journal, cloud: Reached) -> Program:
        """
        Terraform, with the key in its environment.

        If the shell names an endpoint, it is that of the stack's zone: from 0.71 on the provider
        looks there for what is of a zone, whichever zone the resource is to be in.
        """
        own = {ENDPOINT: cloud.endpoint} if os.environ.get(ENDPOINT) else {}
        return Program(
            path=Path(journal.program),
            folder=self.root,
            logs=self.place.folder,
            environment=os.environ | options.for_terraform(self.key) | own,
        )

    def settings(self, journal: Journal, cloud: Reached) -> StackSettings:
        """
        What the SDK's clients are made from.

        Raises:
            CannotRun: The key, or the name, cannot work.
        """
        try:
            return StackSettings(
                key=self.key.key,
                secret=self.key.secret,
                endpoint=cloud.endpoint,
                zone=journal.zone,
                name=journal.name,
            )
        except SettingsError as error:
            raise CannotRun(str(error)) from error

    def check_provider(self) -> None:
        """
        Make sure that the provider asks no other cloud than the rest, once it is installed.

        Raises:
            CannotRun: It would.
        """
        if self.shell.kind is Kind.EXOSCALE or self.shell.is_proxied:
            return
        version = provider_version(self.root)
        if version is None or version < OBEYS_ENDPOINT:
            shown = "of unknown version" if version is None else "{}.{}".format(*version)
            raise CannotRun(
                f"this shell names a local cloud by {ENDPOINT} alone, and the provider ({shown}) "
                "asks that for some calls only, and the real Exoscale for the others; set the "
                'shell for all tools: eval "$(exotide cloud env)". From 0.71 it asks it for all'
            )

    @contextmanager
    def session(
        self, journal: Journal, cloud: Reached, *, sweeps: bool = False
    ) -> Iterator[Session]:
        """Give a session on a stack."""
        api = ApiCloud(self.settings(journal, cloud))
        hands = Hands(
            terraform=self.program(journal, cloud),
            cloud=api,
            screen=self.paper,
            now=self.operator.now,
            place=self.place,
            root=self.root,
            aside=self.aside,
            journal=journal,
            sweeps=sweeps,
        )
        try:
            yield Session(hands=hands, operator=self.operator, screen=self.paper)
        finally:
            api.close()


@contextmanager
def opened(folder: Path | None) -> Iterator[Desk]:
    """
    Take the folder.

    Raises:
        CannotRun, NoAccess: Folder, shell or key do not let the command begin.
    """
    root = options.root(folder, here=Path.cwd())
    key = read_key(os.environ)
    check_one_api(os.environ)
    with (
        held(root) as place,
        opened_log(place.folder) as log,
        Console() as operator,
        ThreadPoolExecutor(1) as aside,
    ):
        hidden = (key.secret, os.environ.get(options.AGENTS_SECRET, ""))
        paper = Paper(RichConsole(), log, now=operator.now, hidden=hidden)
        try:
            yield Desk(
                operator=operator,
                place=place,
                root=root,
                key=key,
                shell=read_shell(os.environ, zone=options.DEFAULT_ZONE),
                aside=aside,
                paper=paper,
            )
        finally:
            paper.close()

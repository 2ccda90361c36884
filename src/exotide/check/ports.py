"""What the checks need of the world, as ports. Adapters: account, web, load, programs; fakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from .errors import WebFault
from .things import Balancer, Pool, Server


class Account(Protocol):
    """One account in one zone. Every method raises StackError."""

    def pools(self) -> list[Pool]:
        """All instance pools."""

    def pool(self, pool_id: str) -> Pool:
        """One pool as it is now."""

    def balancers(self) -> list[Balancer]:
        """All load balancers, with the health of their backends."""

    def balancer(self, balancer_id: str) -> Balancer:
        """One load balancer as it is now."""

    def servers(self) -> list[Server]:
        """All instances but those on their way out."""

    def lets_checks_in(self, group_ids: tuple[str, ...], port: int) -> bool:
        """Tell whether one of these security groups opens a port to the balancers' checks."""

    def type_name(self, type_id: str) -> str:
        """Name of an instance type, such as standard.micro."""

    def full(self) -> str:
        """Which quotas are used up, and the next step; empty if none is. Raises nothing."""

    def delete_server(self, server_id: str) -> None:
        """Ask for an instance's end; one that is gone already is fine."""

    def make_pool(self, name: str, *, like: Pool) -> str:
        """Make a pool of one small instance from another pool's template; gives its id."""

    def remove_pools(self, name: str) -> None:
        """Remove every pool of this name, however busy it is, and wait until it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An HTTP answer."""

    url: str
    status: int
    text: str

    def json(self) -> Any:
        """
        Give what the page holds.

        Raises:
            WebFault: it is not JSON.
        """
        try:
            return msgspec.json.decode(self.text)
        except msgspec.DecodeError as error:
            raise WebFault(f"{self.url} answers {self.status}, and no JSON") from error


class Web(Protocol):
    """Asks for pages, each with a time-out."""

    def get(
        self,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> Page:
        """
        Ask once, whatever the answer's status.

        Raises:
            WebFault: no answer.
        """


class Loops(Protocol):
    """Parallel loops of requests that run."""

    def stop(self) -> Mapping[str, int]:
        """End each loop after its present request; gives how many got which answer."""

    def abandon(self) -> None:
        """End without waiting."""


class Load(Protocol):
    """Makes load."""

    def start(self, url: str, *, loops: int) -> Loops:
        """Let so many loops ask for a page, each again as soon as it has the answer."""


class Program(StrEnum):
    """The contract's two programs, by the names of their commands."""

    AUTOSCALER = "exotide-autoscaler"
    DISCOVERY = "exotide-servicediscovery"


class Agent(Protocol):
    """One of the programs, started."""

    @property
    def url(self) -> str:
        """Where it listens."""

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""

    def targets(self) -> str:
        """Text of the file that the service discovery writes; empty: there is none yet."""

    def ask_to_end(self) -> None:
        """Send TERM."""

    def end(self) -> None:
        """See to it that it is gone."""

    def last_words(self) -> str:
        """How its log ends."""


class Programs(Protocol):
    """Starts the programs."""

    def start(self, program: Program, *, pool_id: str) -> Agent:
        """
        Start a program with the contract's environment alone.

        Raises:
            ProgramFault: it is not there.
        """


class Clock(Protocol):
    """Seconds that never go back."""

    def now(self) -> float:
        """Tell the time."""

    def sleep(self, pause_s: float) -> None:
        """Let time pass."""


class Screen(Protocol):
    """Adapters: LiveScreen for a terminal, PlainScreen for everything else."""

    def say(self, text: str) -> None:
        """One line of progress."""

    def waiting(self, says: str, seen: str, *, passed_s: float, within_s: float) -> None:
        """What is looked at, and what was seen last."""

    def close(self) -> None:
        """Leave the terminal as it was."""

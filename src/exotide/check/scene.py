"""What the checks look at, and what they have found so far."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

from exotide.stack.errors import StackError
from exotide.stack.userdata import EXPORTER_PORT, PROMETHEUS_PORT, STATUS_PORT

from .ports import Account, Agent, Clock, Load, Loops, Programs, Web
from .prometheus import Prometheus
from .things import Balancer, Named, Pool, Server, owner

GRAFANA_PORT: Final = 3000
N = TypeVar("N", Pool, Server, Balancer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person who checks has chosen."""

    zone: str
    name: str = ""
    """Of the one stack that is meant. Empty: the account holds no other."""
    http_port: int = 80
    """Where the balancer's port 80 is reached."""
    look_only: bool = False
    grafana_password: str = field(default="", repr=False)
    """Of Grafana's admin. Empty: not known."""
    speed: float = 1.0
    """How many times faster than the contract the stack's alerts are."""
    patience: float = 1.0
    """Multiplies every time limit."""
    is_slow: bool = False
    """Whether servers take as long to come as on the real cloud."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """The ports, and the memory of one run: earlier checks write it, later ones read it."""

    account: Account
    web: Web
    load: Load
    programs: Programs
    clock: Clock
    options: Options
    cleanup: ExitStack = field(default_factory=ExitStack)
    """Whatever an act starts or makes is ended or removed by it."""
    own_pool: ExitStack = field(default_factory=ExitStack)
    """The same for the pool that is the checks' own: it costs money."""
    left: dict[str, str] = field(default_factory=dict)
    """What could not be removed, by name, and why."""
    moments: dict[str, float] = field(default_factory=dict)
    """When checks passed, by id, and what acts have noted."""
    pool_id: str = ""
    balancer_id: str = ""
    balancer_ip: str = ""
    server: Server | None = None
    """The monitoring server."""
    deleted: frozenset[str] = frozenset()
    """Ids of the members that were deleted."""
    cpu_before: float = 0.0
    """The busiest member's share before the load."""
    size_before: int = 0
    """The pool's size before the load."""
    members_before: frozenset[str] = frozenset()
    """The pool's members before the load."""
    loops: Loops | None = None
    answers: dict[str, int] = field(default_factory=dict)
    """How many requests of the loops got which answer, once they have ended."""
    discovery: Agent | None = None
    autoscaler: Agent | None = None
    own_pool_id: str = ""
    status: int = 0
    """Of the answer to the last webhook that was sent."""

    @property
    def service_url(self) -> str:
        """The application, through the load balancer."""
        port = "" if self.options.http_port == 80 else f":{self.options.http_port}"
        return f"http://{self.balancer_ip}{port}"

    @property
    def prometheus(self) -> Prometheus:
        """Prometheus on the monitoring server."""
        return Prometheus(web=self.web, url=f"http://{self._server_ip}:{PROMETHEUS_PORT}")

    @property
    def grafana_url(self) -> str:
        """Grafana on the monitoring server."""
        return f"http://{self._server_ip}:{GRAFANA_PORT}"

    @property
    def status_url(self) -> str:
        """The autoscaler's status, or how far the server's set-up is."""
        return f"http://{self._server_ip}:{STATUS_PORT}"

    @property
    def _server_ip(self) -> str:
        assert self.server, "checks that look at the monitoring server need the one that finds it"
        return self.server.ip

    def pool(self) -> Pool:
        """The stack's pool as it is now."""
        return self.account.pool(self.pool_id)

    def exporters(self) -> set[str]:
        """Where Prometheus should find each member of the stack's pool."""
        members = [each for each in self.account.servers() if each.pool_id == self.pool_id]
        return {f"{each.ip}:{EXPORTER_PORT}" for each in members if each.ip}

    def mine(self, things: Iterable[N], *, pools: Iterable[Pool]) -> list[N]:
        """Keep what is of the stack that is meant, which is everything unless it has a name."""
        name = self.options.name
        if not name:
            return list(things)
        stacks = {name, *(pool.stack for pool in pools if pool.stack)}
        return [thing for thing in things if owner(thing, stacks) == name]

    def remove_at_end(self, name: str) -> None:
        """
        Have the checks' own pool removed, whatever happens.

        In the end once more, as whoever is stopped may be so in the midst of the first removal.
        """
        self.cleanup.callback(self._remove_pools, name)
        self.cleanup.callback(self.own_pool.close)
        self.own_pool.callback(self._remove_pools, name)

    def _remove_pools(self, name: str) -> None:
        try:
            self.account.remove_pools(name)
        except StackError as error:
            command = f"exo compute instance-pool delete {name} --zone {self.options.zone}"
            self.left[name] = f"instance pool {name}, it costs money: {command}; {error}"
        else:
            self.left.pop(name, None)

    def note(self, moment: str) -> None:
        """Remember that something happened now."""
        self.moments[moment] = self.clock.now()


def names(things: Iterable[Named]) -> str:
    """Write names for a person."""
    return ", ".join(sorted(thing.name for thing in things)) or "none"

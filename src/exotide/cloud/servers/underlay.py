"""What servers stand on: addresses, what keeps them apart, and what limits their CPU."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from exotide.cloud.ports import ServerSpec
from exotide.cloud.servers.cgroups import Cgroups

Guard = Callable[[Path], Awaitable[None]]
"""Filters what may reach a network namespace."""


class Net(Protocol):
    """One cloud's addresses. Adapters: network.Network, loopback.network.LoopbackNetwork."""

    @property
    def number(self) -> int:
        """What tells this cloud's network from others of the host; raises before `open`."""

    @property
    def host_ip(self) -> str:
        """The host's address as servers see it."""

    @property
    def fabric_ip(self) -> str:
        """The address at which servers reach the cloud's API."""

    async def open(self) -> None:
        """Claim a network. Raises HostUnsuitable when all are in use."""

    def release(self) -> None:
        """Give the network back."""

    def reserve_ip(self) -> str:
        """Give out the address that was given back longest ago. Raises OutOfAddresses."""

    def claim_ip(self, ip: str) -> None:
        """Give out this very address. Raises OutOfAddresses when it is not free."""

    def release_ip(self, ip: str) -> None:
        """Take an address back."""

    async def attach(self, identifier: str, ip: str, *, guard: Guard | None = None) -> Path | None:
        """
        Make the address usable; gives the network namespace that has it, if one does.

        Args:
            guard: Called with the namespace, if there is one, before anything reaches it.
        """

    def standing(self, identifier: str) -> Path | None:
        """Give the namespace that a predecessor attached, if there is one."""

    async def detach(self, identifier: str) -> None:
        """Undo `attach`; fine if it is undone."""

    def listen(self, port: int) -> socket.socket:
        """Give a socket that listens at `fabric_ip`. Raises OSError when the port is taken."""

    def metadata_sockets(self) -> list[socket.socket]:
        """Give sockets that listen at 169.254.169.254; none where servers cannot reach that."""

    def served_port(self, port: int) -> int:
        """Say on which port a balancer serves what the API calls `port`."""


class Housing(Protocol):
    """What keeps one server apart from the host and from the others."""

    @property
    def is_pid_1(self) -> bool:
        """Whether the kernel ends all of the server's processes with the first one."""

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the server has in its environment."""

    def prepare(self, owned: Sequence[Path], /) -> None:
        """Let the server have its folder, in which it may write /srv and the files `owned`."""

    def command(self, inner: Sequence[str]) -> list[str]:
        """Wrap a command so that it runs as the server's first process."""

    def fit(self, text: str) -> str:
        """Change what is written for a machine of its own (addresses, /srv) to fit here."""

    def require(self, ports: Sequence[int]) -> None:
        """Make sure that the server can have these TCP ports. Raises ServerFailed."""

    def listening(self, pid: int) -> set[int]:
        """Give the TCP ports that listen at the server's address; `pid` is its process."""

    async def vacate(self) -> None:
        """End what outlived the server's first process."""


class Underlay(Protocol):
    """Adapters: namespaces.Namespaces (root), loopback.Loopback (anyone)."""

    @property
    def name(self) -> str:
        """As `exotide cloud --servers` has it."""

    @property
    def network(self) -> Net:
        """The cloud's addresses."""

    @property
    def own_network(self) -> bool:
        """Whether what the kernel counts for the network belongs to one server alone."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What differs from servers with a network of their own, one sentence each."""

    def check(self, *paths: Path) -> None:
        """
        Make sure that servers can run here, with programs at these paths.

        Raises:
            NoPermission, MissingProgram, HostUnsuitable: with what to change.
        """

    def groups(self) -> Cgroups:
        """Give what limits and measures CPU. Raises HostUnsuitable when there is nothing."""

    def house(self, spec: ServerSpec, folder: Path, group: str) -> Housing:
        """Plan a server's place; `folder` holds its srv, etc, procfs and log."""

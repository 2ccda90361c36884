"""
One cloud's addresses without any namespace: 127.77.N.1 to 127.77.N.253 of the host's loopback.

Every address of 127.0.0.0/8 is there from the start on Linux. What may not be done without
privileges is to listen on a low port, so balancers serve those elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from pathlib import Path
from typing import IO, Any, Final

from exotide.cloud.ports import OutOfAddresses
from exotide.cloud.servers.claims import claim_name
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.network import FIRST_HOST, LAST_HOST
from exotide.cloud.servers.permissions import held
from exotide.cloud.servers.underlay import Guard

LOW_PORTS_AT: Final = 8_000
"""A low port P of a balancer is served at this + P."""
FIRST_FREE: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
NET_BIND_SERVICE: Final = 10
"""Bit of the capability to listen on every port."""


class LoopbackNetwork:
    """
    Adapter of Net.

    Args:
        wanted: N of the 127.77.N.0/24 to have, as a predecessor had it. None: any that is free.
    """

    def __init__(self, *, first_free_port: int | None = None, wanted: int | None = None) -> None:
        self._wanted = wanted
        self.first_free_port = first_free() if first_free_port is None else first_free_port
        self._number: int | None = None
        self._claim: IO[Any] | None = None
        self._free: deque[str] = deque()
        self._given: set[str] = set()

    @property
    def number(self) -> int:
        """N of 127.77.N.0/24. Raises HostUnsuitable before `open`."""
        if self._number is None:
            raise HostUnsuitable("the network is not open yet; await open() first")
        return self._number

    @property
    def host_ip(self) -> str:
        """What servers see as the address of every client, also of each other."""
        return "127.0.0.1"

    @property
    def fabric_ip(self) -> str:
        """The address at which servers reach the cloud's API."""
        return f"127.77.{self.number}.1"

    async def open(self) -> None:
        """
        Claim the first free N, beginning where other users most likely do not.

        Raises:
            HostUnsuitable: All 256 are in use.
        """
        first = os.geteuid() * 37
        free = [(first + step) % 256 for step in range(256)]
        for number in free if self._wanted is None else (self._wanted,):
            claim = claim_name(f"exotide-loopback-{number}")
            if claim is not None:
                self._claim, self._number = claim, number
                self._free = deque(
                    f"127.77.{number}.{host}" for host in range(FIRST_HOST, LAST_HOST + 1)
                )
                return
        which = "all networks 127.77.0.0/24 to 127.77.255.0/24 are"
        if self._wanted is not None:
            which = f"the network of this cloud, 127.77.{self._wanted}.0/24, is"
        raise HostUnsuitable(f"{which} in use by other local clouds; see: exotide cloud status")

    def release(self) -> None:
        """Give the addresses back to the host."""
        if self._claim is not None:
            self._claim.close()
        self._claim = self._number = None
        self._free.clear()
        self._given.clear()

    def reserve_ip(self) -> str:
        """Give out the address that was given back longest ago. Raises OutOfAddresses."""
        if not self._free:
            raise OutOfAddresses(
                f"all {LAST_HOST - FIRST_HOST + 1} addresses of 127.77.{self.number}.0/24"
                " are in use; delete an instance or a load balancer"
            )
        ip = self._free.popleft()
        self._given.add(ip)
        return ip

    def claim_ip(self, ip: str) -> None:
        """Give out this very address. Raises OutOfAddresses when it is not free."""
        if ip not in self._free:
            raise OutOfAddresses(f"address {ip} is not free in the network of {self.fabric_ip}")
        self._free.remove(ip)
        self._given.add(ip)

    def release_ip(self, ip: str) -> None:
        """Take an address back; one that was not given out is ignored."""
        if ip in self._given:
            self._given.remove(ip)
            self._free.append(ip)

    async def attach(self, identifier: str, ip: str, *, guard: Guard | None = None) -> None:
        """Nothing to do: the address is there, and no namespace that could be filtered."""

    def standing(self, identifier: str) -> None:
        """Nothing stands: servers and balancers end with their cloud."""

    async def detach(self, identifier: str) -> None:
        """Nothing to do."""

    def listen(self, port: int) -> socket.socket:
        """Give a socket that listens at `fabric_ip`. Raises OSError when the port is taken."""
        return socket.create_server((self.fabric_ip, port), backlog=1024)

    def metadata_sockets(self) -> list[socket.socket]:
        """Give none: their address is not the loopback's."""
        return []

    def served_port(self, port: int) -> int:
        """Move the ports that this user may not open: 80 becomes 8080, 443 becomes 8443."""
        return port if port >= self.first_free_port else LOW_PORTS_AT + port


def first_free() -> int:
    """Give the lowest port that this process may listen on."""
    if held(NET_BIND_SERVICE):
        return 1
    return int(FIRST_FREE.read_text()) if FIRST_FREE.exists() else 1024

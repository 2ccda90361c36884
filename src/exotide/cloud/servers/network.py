"""
The cloud's own network: one /24, one bridge in a namespace, one namespace per server.

        host                 namespace exotide-<cloud>              exotide-<cloud>-<short>
   198.18.N.254/24 ── veth ── br0 198.18.N.1/24 ── veth ──────────── eth0 198.18.N.x/24

The bridge has a namespace of its own so that no firewall of the host is in between. A MAC
address follows from its IP address: an address that is given out again would otherwise be
unreachable for seconds, until the old neighbour entry expires.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from exotide.cloud.ports import METADATA_IP, METADATA_PORT, PASSWORD_PORT, OutOfAddresses
from exotide.cloud.servers.claims import claim_name
from exotide.cloud.servers.commands import run
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.underlay import Guard

T = TypeVar("T")

NAMESPACES: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
FIRST_HOST, LAST_HOST = 2, 253
"""1 is the bridge, 254 the host."""


def short(identifier: str) -> str:
    """Give the first 8 characters of a UUID, which name its namespace, port and group."""
    return identifier[:8]


def fabric_namespace(cloud_id: str) -> str:
    """Name the namespace that holds the bridge."""
    return f"exotide-{cloud_id}"


def server_namespace(cloud_id: str, identifier: str) -> str:
    """Name the namespace of one server or balancer."""
    return f"{fabric_namespace(cloud_id)}-{short(identifier)}"


def host_link(cloud_id: str) -> str:
    """Name the host's end of the cable to the bridge."""
    return f"exo-{cloud_id}"


def mac_of(ip: str) -> str:
    """Derive the MAC address of an IPv4 address: 02:77 and its four bytes."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x77, *socket.inet_aton(ip)))


class Network:
    """
    One cloud's addresses and cables; `open` before all else, `release` at the end.

    Args:
        wanted: N of the 198.18.N.0/24 to have, as a predecessor had it. None: any that is free.
    """

    def __init__(self, cloud_id: str, *, wanted: int | None = None) -> None:
        self.cloud_id, self._wanted = cloud_id, wanted
        self._number: int | None = None
        self._claim: IO[Any] | None = None
        self._free: deque[str] = deque()
        self._given: set[str] = set()

    @property
    def number(self) -> int:
        """N of 198.18.N.0/24. Raises HostUnsuitable before `open`."""
        if self._number is None:
            raise HostUnsuitable("the network is not open yet; await open() first")
        return self._number

    @property
    def host_ip(self) -> str:
        """The host's address on the cloud's network."""
        return f"198.18.{self.number}.254"

    @property
    def fabric_ip(self) -> str:
        """The bridge's address, at which servers reach the cloud's API."""
        return f"198.18.{self.number}.1"

    @property
    def fabric(self) -> Path:
        """The bridge's namespace."""
        return NAMESPACES / fabric_namespace(self.cloud_id)

    def namespace(self, identifier: str) -> Path:
        """Give the path of a server's or balancer's namespace."""
        return NAMESPACES / server_namespace(self.cloud_id, identifier)

    async def open(self) -> None:
        """
        Claim the first free /24 and make the bridge.

        Raises:
            HostUnsuitable: when all 256 networks are in use.
            CommandFailed: when the host refuses; `leftovers.remove` takes away what was made.
        """
        await self._claim_number()
        fabric = fabric_namespace(self.cloud_id)
        link = host_link(self.cloud_id)
        await run("ip", "netns", "add", fabric)
        await _batch(
            f"link add {link} address {mac_of(self.host_ip)} type veth peer name host0"
            f" netns {fabric}",
            f"addr add {self.host_ip}/24 dev {link}",
            f"link set {link} up",
        )
        await _batch(
            "link set lo up",
            f"link add br0 address {mac_of(self.fabric_ip)} type bridge",
            "link set host0 master br0 up",
            f"addr add {self.fabric_ip}/24 dev br0",
            f"addr add {METADATA_IP}/32 dev br0",
            "link set br0 up",
            namespace=fabric,
        )

    def stands(self) -> bool:
        """Whether a predecessor's bridge is there."""
        return self.fabric.exists() and Path(f"/sys/class/net/{host_link(self.cloud_id)}").exists()

    async def reopen(self) -> None:
        """Go on with a predecessor's bridge. Raises HostUnsuitable when another has its number."""
        assert self._wanted is not None
        self._take(self._wanted)

    def release(self) -> None:
        """Give the /24 back to the host, once `leftovers.remove` took the cables away."""
        if self._claim is not None:
            self._claim.close()
        self._claim = self._number = None
        self._free.clear()
        self._given.clear()

    def reserve_ip(self) -> str:
        """
        Give out the address that was given back longest ago.

        Raises:
            OutOfAddresses: when all 252 are in use.
        """
        if not self._free:
            raise OutOfAddresses(
                f"all {LAST_HOST - FIRST_HOST + 1} addresses of 198.18.{self.number}.0/24"
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

    async def attach(self, identifier: str, ip: str, *, guard: Guard | None = None) -> Path:
        """
        Make a namespace with this address on the bridge and give its path.

        Args:
            guard: Called with the namespace; nothing reaches it before the call has returned.
        """
        namespace = server_namespace(self.cloud_id, identifier)
        port = f"v{short(identifier)}"
        await run("ip", "netns", "add", namespace)
        cabling = asyncio.create_task(self._cable(namespace, port, ip))
        try:
            if guard is not None:
                await guard(self.namespace(identifier))
        finally:
            await cabling
        # The port last: the bridge then forwards from the first frame on.
        await _batch(f"link set {port} master br0 up", namespace=fabric_namespace(self.cloud_id))
        await asyncio.to_thread(in_namespace, self.namespace(identifier), lambda: _announce(ip))
        return self.namespace(identifier)

    async def _cable(self, namespace: str, port: str, ip: str) -> None:
        await _batch(
            f"link add {port} type veth peer name eth0 address {mac_of(ip)} netns {namespace}",
            namespace=fabric_namespace(self.cloud_id),
        )
        await _batch(
            "link set lo up",
            f"addr add {ip}/24 dev eth0",
            "link set eth0 up",
            f"route add {METADATA_IP} dev eth0",
            namespace=namespace,
        )

    def standing(self, identifier: str) -> Path | None:
        """Give the namespace that a predecessor attached, if there is one."""
        namespace = self.namespace(identifier)
        return namespace if namespace.exists() else None

    async def detach(self, identifier: str) -> None:
        """Remove the namespace and its cable; fine if they are gone."""
        namespace = server_namespace(self.cloud_id, identifier)
        if (NAMESPACES / namespace).exists():
            # The port goes at once; the namespace's end only when its last process is gone.
            port = f"v{short(identifier)}"
            links = await run("ip", "-n", fabric_namespace(self.cloud_id), "-o", "link")
            if f" {port}@" in links:
                await _batch(f"link del {port}", namespace=fabric_namespace(self.cloud_id))
            await run("ip", "netns", "del", namespace)

    def listen(self, port: int) -> socket.socket:
        """
        Give a socket that listens at the bridge's address, where servers reach it.

        Raises:
            OSError: when the port is taken there.
        """
        return in_namespace(self.fabric, lambda: _listener(self.fabric_ip, port))

    def metadata_sockets(self) -> list[socket.socket]:
        """Give the sockets of 169.254.169.254: on the bridge, with a route to it everywhere."""
        ports = (METADATA_PORT, PASSWORD_PORT)
        return in_namespace(self.fabric, lambda: [_listener(METADATA_IP, port) for port in ports])

    def served_port(self, port: int) -> int:
        """Give the port itself: a balancer has an address with all its ports."""
        return port

    async def _claim_number(self) -> None:
        if self._wanted is not None:
            self._take(self._wanted)
            return
        addresses = await run("ip", "-o", "-4", "addr") + await run("ip", "-o", "-4", "route")
        for number in range(256):
            if f" 198.18.{number}." in f" {addresses}".replace("\n", " "):
                continue
            claim = claim_name(f"exotide-network-{number}")
            if claim is not None:
                self._use(number, claim)
                return
        raise HostUnsuitable("all networks 198.18.0.0/24 to 198.18.255.0/24 are in use")

    def _take(self, number: int) -> None:
        claim = claim_name(f"exotide-network-{number}")
        if claim is None:
            raise HostUnsuitable(
                f"the network of this cloud, 198.18.{number}.0/24, is in use by another local "
                "cloud; end that one first: exotide cloud status"
            )
        self._use(number, claim)

    def _use(self, number: int, claim: IO[Any]) -> None:
        self._claim, self._number = claim, number
        self._free = deque(f"198.18.{number}.{host}" for host in range(FIRST_HOST, LAST_HOST + 1))


def in_namespace(namespace: Path, make: Callable[[], T]) -> T:
    """
    Call `make` in a thread of its own that has entered the network namespace.

    Raises:
        OSError: when the namespace cannot be entered, or what `make` raises.
    """

    def enter_and_make() -> T:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)  # os.setns exists from Python 3.12 on
            if libc.setns(descriptor, CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(namespace))
        finally:
            os.close(descriptor)
        return make()

    with ThreadPoolExecutor(1) as pool:  # the thread ends with its namespace
        return pool.submit(enter_and_make).result()


def _listener(ip: str, port: int) -> socket.socket:
    return socket.create_server((ip, port), backlog=1024)


def _announce(ip: str) -> None:
    """
    Broadcast who has the address now (a gratuitous ARP request).

    Others may be asking for it already, and they repeat their question only once a second.
    """
    mac, address = bytes.fromhex(mac_of(ip).replace(":", "")), socket.inet_aton(ip)
    ethernet = b"\xff" * 6 + mac + b"\x08\x06"
    request = bytes.fromhex("0001080006040001") + mac + address + bytes(6) + address
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(ethernet + request)


async def _batch(*lines: str, namespace: str | None = None) -> None:
    where = ("-n", namespace) if namespace else ()
    await run("ip", *where, "-batch", "-", stdin="\n".join(lines) + "\n")

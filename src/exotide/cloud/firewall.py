"""What may reach a server and what it may reach; plain data, with every source resolved."""

from __future__ import annotations

from dataclasses import dataclass

ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One kind of traffic with some networks."""

    protocol: str
    """tcp, udp, icmp, ah, esp, gre, ipip or all."""
    networks: tuple[str, ...]
    """IPv4 networks at the other end, sorted and without overlap; none means nothing matches."""
    ports: tuple[int, int] | None = None
    """First and last port at the receiver, for tcp and udp."""
    icmp_type: int | None = None
    """None: every type."""
    icmp_code: int | None = None
    """None: every code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """The filter of one server. Answers to what was let through always pass."""

    ingress: tuple[Traffic, ...] = ()
    """All else is dropped: with nothing here, nothing reaches the server."""
    egress: tuple[Traffic, ...] | None = None
    """None: the server reaches everything. Otherwise all else is dropped."""


OPEN = Firewall(ingress=(Traffic(protocol="all", networks=(ANYWHERE,)),))
"""Lets everything through."""

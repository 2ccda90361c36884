"""The filter of a server: one nftables table in its network namespace, replaced as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.cloud.firewall import Firewall, Traffic
from exotide.cloud.ports import METADATA_IP
from exotide.cloud.servers.commands import run
from exotide.cloud.servers.errors import CommandFailed
from exotide.cloud.servers.programs import find

NUMBERS: Final = {"icmp": 1, "ipip": 4, "gre": 47, "esp": 50, "ah": 51}
"""IP protocol numbers."""

TEMPLATE: Final = """\
table inet exotide {{}}
delete table inet exotide
table inet exotide {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
{ingress}
  }}
  chain output {{
    type filter hook output priority filter; policy {policy};
    oif lo accept
    ct state established,related accept
    ip daddr {metadata} accept
{egress}
  }}
}}
"""
"""nft carries this out as one transaction: no packet meets half of it."""


def render(firewall: Firewall) -> str:
    """Write the filter in nft's language. IPv6 is dropped: the servers' network has none."""
    return TEMPLATE.format(
        metadata=METADATA_IP,
        ingress=_lines("saddr", firewall.ingress),
        policy="accept" if firewall.egress is None else "drop",
        egress=_lines("daddr", firewall.egress or ()),
    )


def _lines(side: str, allowed: Sequence[Traffic]) -> str:
    return "\n".join(
        f"    ip {side} {{ {', '.join(each.networks)} }}{_match(each)} accept"
        for each in allowed
        if each.networks
    )


def _match(traffic: Traffic) -> str:
    if traffic.ports is not None:
        first, last = traffic.ports
        return f" {traffic.protocol} dport {first}-{last}"
    if traffic.protocol == "all":
        return ""
    words = "" if traffic.protocol != "icmp" else _icmp(traffic)
    return f" meta l4proto {NUMBERS[traffic.protocol]}{words}"


def _icmp(traffic: Traffic) -> str:
    kind = "" if traffic.icmp_type is None else f" icmp type {traffic.icmp_type}"
    return kind + ("" if traffic.icmp_code is None else f" icmp code {traffic.icmp_code}")


@dataclass(slots=True, kw_only=True, eq=False)
class _Filter:
    """What one server shall let through; the newest wish counts."""

    wanted: Firewall
    namespace: Path | None = None
    """None until the server has one that is filtered."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Firewalls:
    """The filters of all servers of one cloud; changes of one server are carried out in order."""

    def __init__(self) -> None:
        self._filters: dict[str, _Filter] = {}

    def plan(self, server_id: str, firewall: Firewall) -> None:
        """Say what a server that is about to start shall let through."""
        self._filters.setdefault(server_id, _Filter(wanted=firewall)).wanted = firewall

    def lower(self, server_id: str) -> None:
        """A filter is about to go with its namespace; what was wanted counts for the next one."""
        if (known := self._filters.get(server_id)) is not None:
            known.namespace = None

    def forget(self, server_id: str) -> None:
        """A server is gone for good."""
        self._filters.pop(server_id, None)

    async def raise_in(self, server_id: str, namespace: Path) -> None:
        """
        Filter in a namespace that was just made, before anything reaches it.

        Raises:
            CommandFailed: with nft's words.
        """
        known = self._filters.setdefault(server_id, _Filter(wanted=Firewall()))
        async with known.turn:
            await _load(namespace, known.wanted)
            known.namespace = namespace

    async def change(self, server_id: str, firewall: Firewall) -> None:
        """
        Filter by this from now on; only noted while the server has no namespace yet.

        Raises:
            CommandFailed: with nft's words; the former filter is still in force.
        """
        known = self._filters.get(server_id)
        if known is None:
            return
        known.wanted = firewall
        async with known.turn:
            if known.namespace is None:
                return
            try:
                await _load(known.namespace, known.wanted)
            except CommandFailed:
                if known.namespace is not None:  # otherwise the server is on its way out
                    raise


async def _load(namespace: Path, firewall: Firewall) -> None:
    inside = f"--net={namespace}"
    await run("nsenter", inside, find("nft"), "-f", "-", stdin=render(firewall))

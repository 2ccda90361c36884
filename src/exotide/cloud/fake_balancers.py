"""Load balancers for tests of the API; with `exotide.cloud.testing`, which has the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exotide.cloud.ports import CloudFault, ServiceSpec


class FakeBalancers:
    """
    Adapter of ports.Balancers: every member is healthy, except those in `unhealthy`.

    Args:
        lags: They know of members only what the last `check_all` has found.
    """

    def __init__(self, *, lags: bool = False) -> None:
        self.lags = lags
        self._found: dict[str, dict[str, bool]] = {}
        self.addresses: dict[str, str] = {}
        self.services: dict[str, dict[str, ServiceSpec]] = {}
        self.members: dict[str, list[str]] = {}
        """By service id."""
        self.unhealthy: set[str] = set()
        """Addresses."""
        self.awaited: list[str] = []
        """Addresses that somebody waited for until they were drained, in order."""
        self._failures: list[str] = []
        self._member_failures: list[str] = []

    def fail_next_call(self, reason: str = "no proxy") -> None:
        """Let the next creation or change of a balancer or service fail."""
        self._failures.append(reason)

    def fail_next_members(self, reason: str = "no answer") -> None:
        """Let the next setting of a service's members fail."""
        self._member_failures.append(reason)

    async def create(self, nlb_id: str, ip: str) -> None:
        await self._turn()
        self.addresses[nlb_id] = ip
        self.services[nlb_id] = {}

    async def adopt(self, nlb_id: str, ip: str, services: Sequence[ServiceSpec]) -> None:
        await self.create(nlb_id, ip)
        for service in services:
            await self.put_service(nlb_id, service)

    async def leave(self) -> None:
        """Nothing to do: the fake serves nobody."""

    async def delete(self, nlb_id: str) -> None:
        await asyncio.sleep(0)
        self.addresses.pop(nlb_id, None)
        for service_id in self.services.pop(nlb_id, {}):
            self.members.pop(service_id, None)

    async def close(self) -> None:
        for nlb_id in list(self.addresses):
            await self.delete(nlb_id)

    async def put_service(self, nlb_id: str, service: ServiceSpec) -> None:
        await self._turn()
        if nlb_id not in self.services:
            raise CloudFault(f"no such load balancer: {nlb_id}")
        self.services[nlb_id][service.id] = service
        self.members.setdefault(service.id, [])

    async def delete_service(self, nlb_id: str, service_id: str) -> None:
        await asyncio.sleep(0)
        self.services.get(nlb_id, {}).pop(service_id, None)
        self.members.pop(service_id, None)

    async def wait_drained(self, nlb_id: str, service_id: str, ip: str, *, within_s: float) -> bool:
        await asyncio.sleep(0)
        self._require(nlb_id, service_id)
        self.awaited.append(ip)
        return within_s >= 0 and ip not in self.members[service_id]

    async def set_members(self, nlb_id: str, service_id: str, ips: Sequence[str]) -> None:
        await asyncio.sleep(0)
        self._require(nlb_id, service_id)
        if self._member_failures:
            raise CloudFault(self._member_failures.pop(0))
        self.members[service_id] = list(ips)

    def health(self, nlb_id: str, service_id: str) -> dict[str, bool]:
        self._require(nlb_id, service_id)
        return dict(self._found.get(service_id, {})) if self.lags else self._check(service_id)

    def check_all(self) -> None:
        """Let balancers that lag find out who is a member now, and in what health."""
        self._found = {service_id: self._check(service_id) for service_id in self.members}

    def _check(self, service_id: str) -> dict[str, bool]:
        return {ip: ip not in self.unhealthy for ip in self.members[service_id]}

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self._failures:
            raise CloudFault(self._failures.pop(0))

    def _require(self, nlb_id: str, service_id: str) -> None:
        if service_id not in self.services.get(nlb_id, {}):
            raise CloudFault(f"no such service: {service_id} of {nlb_id}")

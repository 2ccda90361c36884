"""Load balancers: a namespace with an address each, one HAProxy process per service."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from exotide.cloud import balancer_adoption as adoption
from exotide.cloud import balancer_config
from exotide.cloud.balancer_config import Manner
from exotide.cloud.balancer_process import DRAIN_WITHIN_S, Place
from exotide.cloud.balancer_service import Service
from exotide.cloud.ports import ServiceSpec
from exotide.cloud.servers import cgroups
from exotide.cloud.servers.cgroups import Cgroups
from exotide.cloud.servers.errors import UnknownBalancer
from exotide.cloud.servers.network import fabric_namespace, short
from exotide.cloud.servers.programs import find
from exotide.cloud.servers.underlay import Net

log = structlog.get_logger(__name__)

WEIGHT = 400
"""The balancer is no server with a limit: it must not be what makes requests slow."""


@dataclass(slots=True, kw_only=True, eq=False)
class Balancer:
    """One load balancer's host."""

    ip: str
    namespace: Path | None
    folder: Path
    services: dict[str, Service] = field(default_factory=dict)


class HaproxyBalancers:
    """
    Adapter of ports.Balancers.

    Args:
        network: The servers' network, `ProcessServers.network`; open before the first balancer.
        speed: Divides the health checks' intervals, as it divides all others of the demo.
        drain_within_s: Connections to a member that left are cut after this time.
        groups: Gives what finds its processes: the `groups` of the servers' underlay.
        lasts: Whether balancers outlive this process, as servers.kept.KeptServers do.
        manner: How they learn of their members, and what they do for those that go.
    """

    def __init__(
        self,
        network: Net,
        run_dir: Path,
        cloud_id: str,
        speed: float = 1.0,
        *,
        drain_within_s: float = DRAIN_WITHIN_S,
        groups: Callable[[], Cgroups] = cgroups.detect,
        lasts: bool = False,
        manner: Manner = "attentive",
    ) -> None:
        self._network, self._folder, self._cloud_id = network, run_dir / cloud_id, cloud_id
        self._speed, self._drain_within_s = speed, drain_within_s
        self._balancers: dict[str, Balancer] = {}
        self._detect, self._lasts, self._manner = groups, lasts, manner
        self._lock = asyncio.Lock()

    @property
    def lags(self) -> bool:
        """Whether they go by their checks alone."""
        return self._manner == "plain"

    async def create(self, nlb_id: str, ip: str) -> None:
        """
        Make the balancer's own host at this address; no service yet.

        Raises:
            MissingProgram: when HAProxy is not installed.
            CommandFailed: when the host refuses.
        """
        async with self._lock:
            if nlb_id in self._balancers:
                return
            find("haproxy")
            group = self._group(nlb_id)
            self._groups.create(group)
            self._groups.weigh(group, WEIGHT)
            folder = self._folder / f"nlb-{short(nlb_id)}"
            folder.mkdir(parents=True, exist_ok=True)
            namespace = await self._network.attach(nlb_id, ip)
            self._balancers[nlb_id] = Balancer(ip=ip, namespace=namespace, folder=folder)

    async def delete(self, nlb_id: str) -> None:
        """Remove the balancer with all its services; fine if it is gone."""
        async with self._lock:
            balancer = self._balancers.pop(nlb_id, None)
            if balancer is None:
                return
            await asyncio.gather(*(service.stop() for service in balancer.services.values()))
            group = self._group(nlb_id)
            await asyncio.to_thread(cgroups.kill_all, self._groups, group)
            await self._network.detach(nlb_id)
            await asyncio.to_thread(cgroups.remove_all, self._groups, group)
            await asyncio.to_thread(shutil.rmtree, balancer.folder, ignore_errors=True)

    async def close(self) -> None:
        """Remove every balancer."""
        await asyncio.gather(*(self.delete(nlb_id) for nlb_id in list(self._balancers)))

    async def adopt(self, nlb_id: str, ip: str, services: Sequence[ServiceSpec]) -> None:
        """
        Bring a predecessor's balancer to exactly this; what is missing is made anew.

        Raises:
            CloudFault: As `create` and `put_service` do.
        """
        namespace = self._network.standing(nlb_id) if self._lasts else None
        if namespace is None:
            await self.create(nlb_id, ip)
        else:
            folder = self._folder / f"nlb-{short(nlb_id)}"
            self._balancers[nlb_id] = Balancer(ip=ip, namespace=namespace, folder=folder)
        balancer = self._balancers[nlb_id]
        pids = self._groups.pids(self._group(nlb_id))
        adoption.end_others(pids, balancer.folder, keep=[spec.id[:8] for spec in services])
        for spec in services:
            service = Service(spec, self._place(nlb_id, balancer))
            await service.adopt(pids)
            balancer.services[spec.id] = service

    async def leave(self) -> None:
        """Let the balancers serve on for a successor; those that cannot are removed."""
        if not self._lasts:
            await self.close()
            return
        for balancer in self._balancers.values():
            for service in balancer.services.values():
                await service.leave()
        self._balancers.clear()

    async def put_service(self, nlb_id: str, service: ServiceSpec) -> None:
        """
        Create the service or change it to this; members stay.

        Raises:
            UnknownBalancer: no such balancer.
            UnsupportedService: UDP.
            BalancerFailed: HAProxy refused; a service that was there stays as it was.
        """
        balancer_config.check_service(service)
        balancer = self._balancer(nlb_id)
        async with self._lock:
            present = balancer.services.get(service.id)
            if present is not None:
                await present.change(service)
                return
            made = Service(service, self._place(nlb_id, balancer))
            await made.start()
            balancer.services[service.id] = made

    async def delete_service(self, nlb_id: str, service_id: str) -> None:
        """End the service and its connections; fine if it is gone."""
        async with self._lock:
            balancer = self._balancers.get(nlb_id)
            service = balancer.services.pop(service_id, None) if balancer else None
            if service is not None:
                await service.stop()

    async def set_members(self, nlb_id: str, service_id: str, ips: Sequence[str]) -> None:
        """
        Bring the members to exactly these addresses.

        A new one gets traffic after its first good check; one that leaves is drained: it gets no
        new connection, and the call returns at once while requests in flight finish. A plain
        balancer does nothing about one that leaves, until its checks fail.

        Raises:
            UnknownBalancer: no such balancer or service.
        """
        await self._service(nlb_id, service_id).want(ips)

    async def wait_drained(self, nlb_id: str, service_id: str, ip: str, *, within_s: float) -> bool:
        """
        Wait until no connection to an address that left is open; True when that is so.

        Stop its server after this, and no request is lost, whatever the server does with TERM.
        """
        return await self._service(nlb_id, service_id).wait_drained(ip, within_s=within_s)

    def health(self, nlb_id: str, service_id: str) -> dict[str, bool]:
        """Last known health by member address, as ports.Balancers says."""
        return self._service(nlb_id, service_id).health()

    def haproxy_pid(self, nlb_id: str, service_id: str) -> int | None:
        """Process id of a service's HAProxy, for those who test its death."""
        return self._service(nlb_id, service_id).pid

    def _balancer(self, nlb_id: str) -> Balancer:
        try:
            return self._balancers[nlb_id]
        except KeyError:
            raise UnknownBalancer(f"load balancer {nlb_id} does not exist") from None

    def _service(self, nlb_id: str, service_id: str) -> Service:
        try:
            return self._balancer(nlb_id).services[service_id]
        except KeyError:
            raise UnknownBalancer(f"load balancer {nlb_id} has no service {service_id}") from None

    def _place(self, nlb_id: str, balancer: Balancer) -> Place:
        return Place(
            ip=balancer.ip,
            namespace=balancer.namespace,
            entrances=tuple(self._groups.entrances(self._group(nlb_id))),
            folder=balancer.folder,
            speed=self._speed,
            drain_within_s=self._drain_within_s,
            served_port=self._network.served_port,
            lasts=self._lasts,
            manner=self._manner,
        )

    def _group(self, nlb_id: str) -> str:
        return f"{fabric_namespace(self._cloud_id)}/{short(nlb_id)}"

    @property
    def _groups(self) -> Cgroups:
        return self._detect()

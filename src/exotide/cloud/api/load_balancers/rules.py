"""What may happen to a load balancer and its services; accepted at once, carried out after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from exotide.cloud.api.catalogue import SERVICES_PER_BALANCER
from exotide.cloud.api.errors import Busy, Conflict, QuotaExceeded
from exotide.cloud.api.instance_pools.model import Pool
from exotide.cloud.api.load_balancers.following import follow_one, set_members
from exotide.cloud.api.load_balancers.model import Check, LoadBalancer, Service
from exotide.cloud.api.security_groups.filtering import follow_membership
from exotide.cloud.api.states import BalancerState, PoolState, ServiceState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault

_log: Final = structlog.get_logger(__name__)

Answer = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A service as it was asked for."""

    name: str
    description: str
    port: int
    target_port: int
    protocol: str
    strategy: str
    check: Check


def create(
    world: World, zone: str, *, name: str, description: str, labels: dict[str, str]
) -> Answer:
    """Make a balancer without services; if it cannot be made, nothing is left."""
    _require_free_name(world, name)
    world.require_quota("network-load-balancer", 1)
    balancer = LoadBalancer(
        id=world.new_id(),
        zone=zone,
        name=name,
        ip=world.reserve_ip(),
        created_at=world.stamp(),
        description=description,
        labels=labels,
    )
    world.load_balancers[balancer.id] = balancer
    return _start(world, balancer, lambda: _create(world, balancer))


def update(
    world: World,
    balancer: LoadBalancer,
    *,
    name: str | None,
    description: str | None,
    labels: dict[str, str] | None,
) -> Answer:
    """Change what the balancer is called; None leaves a field as it is."""
    _require_running(balancer)
    if name is not None and name != balancer.name:
        _require_free_name(world, name)
        balancer.name = name
    if description is not None:
        balancer.description = description
    if labels is not None:
        balancer.labels = labels
    return _start(world, balancer)


def delete(world: World, balancer: LoadBalancer) -> Answer:
    """Remove a balancer with all its services."""
    _require_running(balancer)
    balancer.become(BalancerState.DELETING)
    return _start(world, balancer, lambda: _delete(world, balancer))


def add_service(world: World, balancer: LoadBalancer, pool: Pool, wanted: Wanted) -> Answer:
    """Open a port that leads to a pool; the operation refers to the balancer."""
    _require_running(balancer)
    if pool.state is PoolState.DESTROYING:
        raise Busy.of("instance pool", pool.id, pool.state)
    if len(balancer.services) >= SERVICES_PER_BALANCER:
        raise QuotaExceeded.of(
            "services per load balancer",
            limit=SERVICES_PER_BALANCER,
            usage=len(balancer.services),
            wanted=1,
        )
    _require_free_port(balancer, wanted, besides=None)
    service = Service(
        id=world.new_id(),
        name=wanted.name,
        pool_id=pool.id,
        port=wanted.port,
        target_port=wanted.target_port,
        protocol=wanted.protocol,
        strategy=wanted.strategy,
        check=wanted.check,
        description=wanted.description,
    )
    balancer.services[service.id] = service
    return _start(world, balancer, lambda: _open(world, balancer, service))


def update_service(
    world: World, balancer: LoadBalancer, service: Service, wanted: Wanted
) -> Answer:
    """Change everything of a service but its pool; traffic goes on."""
    _require_running(balancer)
    _require_service_running(service)
    _require_free_port(balancer, wanted, besides=service)
    service.become(ServiceState.UPDATING)
    before = _settings_of(service)
    _settle(service, wanted)
    return _start(world, balancer, lambda: _change(world, balancer, service, before))


def describe_service(
    world: World, balancer: LoadBalancer, service: Service, description: str
) -> Answer:
    """Change what is said about a service; nothing of it is touched."""
    _require_running(balancer)
    _require_service_running(service)
    service.description = description
    return _start(world, balancer)


def delete_service(world: World, balancer: LoadBalancer, service: Service) -> Answer:
    """Close a port; the operation refers to the balancer."""
    _require_running(balancer)
    _require_service_running(service)
    service.become(ServiceState.DELETING)
    return _start(world, balancer, lambda: _close(world, balancer, service))


def _settings_of(service: Service) -> Wanted:
    return Wanted(
        name=service.name,
        description=service.description,
        port=service.port,
        target_port=service.target_port,
        protocol=service.protocol,
        strategy=service.strategy,
        check=service.check,
    )


def _settle(service: Service, wanted: Wanted) -> None:
    service.name, service.description = wanted.name, wanted.description
    service.port, service.target_port = wanted.port, wanted.target_port
    service.protocol, service.strategy = wanted.protocol, wanted.strategy
    service.check = wanted.check


def unfinished(world: World, balancer: LoadBalancer) -> Sequence[Callable[[], Awaitable[None]]]:
    """Return what is left of the changes that a balancer was in when its cloud ended."""
    if balancer.state is BalancerState.DELETING:
        return [lambda: _delete(world, balancer)]
    works: list[Callable[[], Awaitable[None]]] = []
    if balancer.state is BalancerState.CREATING:
        works.append(partial(_create, world, balancer))
    for service in balancer.services.values():
        match service.state:
            case ServiceState.CREATING:
                works.append(partial(_open, world, balancer, service))
            case ServiceState.UPDATING:
                works.append(partial(_change, world, balancer, service, _settings_of(service)))
            case ServiceState.DELETING:
                works.append(partial(_close, world, balancer, service))
            case ServiceState.RUNNING:
                pass
    return works


def _require_running(balancer: LoadBalancer) -> None:
    if balancer.state is not BalancerState.RUNNING:
        raise Busy.of("load balancer", balancer.id, balancer.state)


def _require_service_running(service: Service) -> None:
    if service.state is not ServiceState.RUNNING:
        raise Busy.of("service", service.id, service.state)


def _require_free_name(world: World, name: str) -> None:
    if any(balancer.name == name for balancer in world.load_balancers.values()):
        raise Conflict(f"load balancer {name} already exists")


def _require_free_port(balancer: LoadBalancer, wanted: Wanted, *, besides: Service | None) -> None:
    for service in balancer.services.values():
        if service is besides:
            continue
        if service.name == wanted.name:
            raise Conflict(f"service {wanted.name} already exists on {balancer.name}")
        if (service.port, service.protocol) == (wanted.port, wanted.protocol):
            raise Conflict(f"port {wanted.port} is in use by service {service.name}")


def _start(
    world: World, balancer: LoadBalancer, work: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    return world.operations.start(
        zone=balancer.zone, kind="load-balancer", key=balancer.id, work=work
    )


async def _create(world: World, balancer: LoadBalancer) -> None:
    try:
        with _faults("create", balancer):
            await world.balancers.create(balancer.id, balancer.ip)
    except CloudFault:
        await _forget(world, balancer)
        raise
    await follow_membership(world)
    balancer.become(BalancerState.RUNNING)


async def _delete(world: World, balancer: LoadBalancer) -> None:
    for service in list(balancer.services.values()):
        service.exists_below = False
        async with service.turn:
            pass  # a member list on its way to the driver arrives before the end
    try:
        with _faults("delete", balancer):
            await world.balancers.delete(balancer.id)
    finally:
        await _forget(world, balancer)


async def _open(world: World, balancer: LoadBalancer, service: Service) -> None:
    """A balancer that is deleted meanwhile takes its services with it."""
    try:
        with _faults("open a service of", balancer):
            async with service.turn:
                await world.balancers.put_service(balancer.id, service.spec(world.pace.speed))
                service.exists_below = balancer.state is BalancerState.RUNNING
            await set_members(world, balancer, service)
    except CloudFault:
        service.exists_below = False
        balancer.services.pop(service.id, None)
        await _remove_half_made(world, balancer, service)
        raise
    service.become(ServiceState.RUNNING)


async def _remove_half_made(world: World, balancer: LoadBalancer, service: Service) -> None:
    try:
        with _faults("clean up a service of", balancer):
            await world.balancers.delete_service(balancer.id, service.id)
    except CloudFault as error:
        _log.warning("service_not_removed", service=service.id, error=str(error))


async def _change(world: World, balancer: LoadBalancer, service: Service, before: Wanted) -> None:
    """A service that the driver does not change is what it was before."""
    try:
        with _faults("change a service of", balancer):
            async with service.turn:
                await world.balancers.put_service(balancer.id, service.spec(world.pace.speed))
    except CloudFault:
        _settle(service, before)
        raise
    else:
        await follow_one(world, balancer, service)
    finally:
        service.become(ServiceState.RUNNING)


async def _close(world: World, balancer: LoadBalancer, service: Service) -> None:
    try:
        with _faults("close a service of", balancer):
            async with service.turn:
                service.exists_below = False
                await world.balancers.delete_service(balancer.id, service.id)
    finally:
        balancer.services.pop(service.id, None)


async def _forget(world: World, balancer: LoadBalancer) -> None:
    world.load_balancers.pop(balancer.id, None)
    await follow_membership(world)  # before a server gets the address
    world.servers.release_ip(balancer.ip)


@contextmanager
def _faults(what: str, balancer: LoadBalancer) -> Iterator[None]:
    """Make every error of the driver a CloudFault, so that nothing stays half-way."""
    try:
        yield
    except CloudFault:
        raise
    except Exception as error:
        _log.exception("driver_crashed", call=what, nlb=balancer.id)
        raise CloudFault(f"could not {what} load balancer {balancer.id}: {error}") from error

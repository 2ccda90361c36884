"""Section 1 of the contract: one pool behind one load balancer, which repairs itself."""

from __future__ import annotations

from typing import Final

from exotide.stack.rules import HEALTH_CHECKERS

from .errors import WebFault
from .model import Seen
from .scene import Scene, names
from .things import Balancer, Pool, Service

OWN_POOL: Final = "exotide-check-"
"""Begins the names of pools that the checks make."""
PORT: Final = 80


def one_pool(scene: Scene) -> Seen:
    """Find the pool."""
    pools = _pools(scene)
    if len(pools) != 1:
        return Seen(fine=False, final=True, text=f"{len(pools)} instance pools: {names(pools)}")
    scene.pool_id = pools[0].id
    return Seen(fine=True, text=f"{pools[0].name}, size {pools[0].size}")


def advise_one_pool(scene: Scene) -> str:
    """Tell whose the others may be."""
    pools = _pools(scene)
    left = [pool.name for pool in pools if pool.name.startswith(OWN_POOL)]
    if left:
        return "; ".join(
            f"{name} was left by a check that was killed: "
            f"exo compute instance-pool delete {name} --zone {scene.options.zone}"
            for name in left
        )
    return _too_many_or_none(scene, len(pools), "instance pool")


def one_balancer(scene: Scene) -> Seen:
    """Find the load balancer."""
    balancers = _balancers(scene)
    shown = "; ".join(f"{each.name} serves {_ports(each)}" for each in balancers)
    if len(balancers) != 1:
        text = f"{len(balancers)} load balancers: {shown or 'none'}"
        return Seen(fine=False, final=True, text=text)
    (found,) = balancers
    scene.balancer_id, scene.balancer_ip = found.id, found.ip
    fine = [service.port for service in found.services] == [PORT]
    return Seen(fine=fine, final=not fine, text=f"{shown} on {found.ip}")


def advise_one_balancer(scene: Scene) -> str:
    """Tell what to remove."""
    balancers = _balancers(scene)
    if len(balancers) == 1:
        return f"leave {balancers[0].name} exactly one service, on port {PORT}"
    return _too_many_or_none(scene, len(balancers), "load balancer")


def healthy(scene: Scene) -> Seen:
    """Compare the balancer's view of its backends with the pool's size."""
    size, health = scene.pool().size, _service(scene).health
    sick = sorted(ip for ip, fine in health.items() if not fine)
    text = f"{len(health) - len(sick)} of {size} healthy"
    if sick:
        text += f"; unhealthy: {', '.join(sick)}"
    return Seen(fine=len(health) == size > 0 and not sick, text=text)


def advise_healthy(scene: Scene) -> str:
    """Find out what keeps a backend from being healthy: its rules, or its application."""
    service, pool = _service(scene), scene.pool()
    if service.pool_id != pool.id:
        return f"the balancer's service feeds another pool, not {pool.name}; apply again"
    if not scene.account.lets_checks_in(pool.group_ids, service.target_port):
        return (
            f"no security group of pool {pool.name} opens {service.target_port}/tcp to "
            f"{HEALTH_CHECKERS}: add that rule"
        )
    sick = [ip for ip, fine in service.health.items() if not fine]
    if not sick:
        return f"members are missing: {scene.account.full() or 'exo compute instance list'}"
    return "; ".join(_advise_backend(scene, ip, service.target_port) for ip in sick)


def health_ok(scene: Scene) -> Seen:
    """Ask the application how it is."""
    page = scene.web.get(f"{scene.service_url}/health")
    fine = (page.status, page.text) == (200, "OK")
    return Seen(fine=fine, final=not fine, text=f"{page.status} {page.text[:60]!r} from {page.url}")


def advise_health_ok(scene: Scene) -> str:
    """Tell where to look."""
    url = f"{scene.service_url}/health"
    try:
        scene.web.get(url)
    except WebFault:
        return (
            f"nothing answers on {url}: has the load balancer a healthy backend? a local cloud "
            "without root serves port 80 on 8080: --http-port 8080 (see exotide cloud status)"
        )
    return (
        "the contract wants status 200 and the two letters OK, without a line end; "
        "is it the balancer's target port that the application listens on?"
    )


def delete_members(scene: Scene) -> None:
    """Delete all members through the API, as the contract's checker does."""
    scene.deleted = scene.pool().member_ids
    for server_id in scene.deleted:
        scene.account.delete_server(server_id)
    scene.note("deleted")


def others(scene: Scene) -> Seen:
    """See whether the pool has as many members as before, and none of those that were deleted."""
    pool = scene.pool()
    new = pool.member_ids - scene.deleted
    return Seen(
        fine=len(new) == pool.size and new == pool.member_ids,
        text=f"{len(new)} of {pool.size} members are new",
    )


def advise_others(scene: Scene) -> str:
    """Tell where to look."""
    return scene.account.full() or "exo compute instance-pool show tells its state"


def _pools(scene: Scene) -> list[Pool]:
    pools = scene.account.pools()
    return scene.mine(pools, pools=pools)


def _balancers(scene: Scene) -> list[Balancer]:
    return scene.mine(scene.account.balancers(), pools=scene.account.pools())


def _service(scene: Scene) -> Service:
    services = scene.account.balancer(scene.balancer_id).services
    return services[0] if services else Service(port=PORT, target_port=0, pool_id="")


def _ports(balancer: Balancer) -> str:
    ports = ", ".join(str(service.port) for service in balancer.services)
    return f"port {ports}" if ports else "no port"


def _too_many_or_none(scene: Scene, count: int, kind: str) -> str:
    if count:
        return "delete what is too much, or name the stack that is meant: --name exotide"
    of_name = f" of a stack named {scene.options.name}" if scene.options.name else ""
    return f"zone {scene.options.zone} has no {kind}{of_name}: terraform apply, or another --zone"


def _advise_backend(scene: Scene, ip: str, port: int) -> str:
    url = f"http://{ip}:{port}/health"
    try:
        page = scene.web.get(url)
        answer = f"answers {page.status} {page.text[:20]!r}"
    except WebFault:
        answer = "does not answer"
    return (
        f"backend {ip} is unhealthy; its security groups let the checks in; {url} {answer} here; "
        f"on it: systemctl status slowapp; journalctl -u slowapp; cloud-init status --long"
    )

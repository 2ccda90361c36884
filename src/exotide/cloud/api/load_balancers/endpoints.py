"""Operations on load balancers and their services: requests read, rules applied."""

from __future__ import annotations

from typing import Final

from exotide.cloud.api.errors import Invalid, NotFound
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.load_balancers import rules
from exotide.cloud.api.load_balancers.following import health
from exotide.cloud.api.load_balancers.model import Check, LoadBalancer, Service
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World

_PROTOCOLS: Final = ("tcp", "udp")
_STRATEGIES: Final = ("round-robin", "source-hash", "maglev-hash")
_MODES: Final = ("tcp", "http", "https")


def create_load_balancer(world: World, call: Call) -> dict[str, object]:
    """Make a load balancer; its name is its own in the whole organisation."""
    body = call.body
    body.choice("addressfamily", ("inet4",))
    return rules.create(
        world,
        call.zone,
        name=body.must("name", body.text("name")),
        description=body.text("description", least=0) or "",
        labels=body.labels() or {},
    )


def list_load_balancers(world: World, call: Call) -> dict[str, object]:
    """List the load balancers of a zone, with services and the health of members."""
    return {
        "load-balancers": [
            _view(world, balancer)
            for balancer in world.load_balancers.values()
            if balancer.zone == call.zone
        ]
    }


def get_load_balancer(world: World, call: Call) -> dict[str, object]:
    """Show one load balancer."""
    return _view(world, _balancer(world, call))


def update_load_balancer(world: World, call: Call) -> dict[str, object]:
    """Change name, description or labels."""
    return rules.update(
        world,
        _balancer(world, call),
        name=call.body.text("name"),
        description=call.body.text("description", least=0),
        labels=call.body.labels(),
    )


def reset_load_balancer_field(world: World, call: Call) -> dict[str, object]:
    """Empty the description or the labels."""
    balancer = _balancer(world, call)
    if call.one_of("field", ("description", "labels")) == "labels":
        return rules.update(world, balancer, name=None, description=None, labels={})
    return rules.update(world, balancer, name=None, description="", labels=None)


def delete_load_balancer(world: World, call: Call) -> dict[str, object]:
    """Remove a load balancer."""
    return rules.delete(world, _balancer(world, call))


def add_service(world: World, call: Call) -> dict[str, object]:
    """Add a service that leads to a pool of the same zone."""
    body = call.body
    balancer = _balancer(world, call)
    wanted = _read_service(body, None)
    pool_id = body.must("instance-pool", body.ref("instance-pool"))
    pool = world.pools.get(pool_id)
    if pool is None or pool.zone != call.zone:
        raise Invalid.field("instance-pool.id", f"an instance pool of zone {call.zone}", pool_id)
    return rules.add_service(world, balancer, pool, wanted)


def get_service(world: World, call: Call) -> dict[str, object]:
    """Show one service."""
    balancer = _balancer(world, call)
    service = _service(balancer, call)
    return service.view(health(world, balancer, service))


def update_service(world: World, call: Call) -> dict[str, object]:
    """Change a service; its pool cannot be changed."""
    balancer = _balancer(world, call)
    service = _service(balancer, call)
    return rules.update_service(world, balancer, service, _read_service(call.body, service))


def reset_service_field(world: World, call: Call) -> dict[str, object]:
    """Empty the description; nothing else of a service has a default to go back to."""
    balancer = _balancer(world, call)
    service = _service(balancer, call)
    call.one_of("field", ("description",))
    return rules.describe_service(world, balancer, service, "")


def delete_service(world: World, call: Call) -> dict[str, object]:
    """Remove a service."""
    balancer = _balancer(world, call)
    return rules.delete_service(world, balancer, _service(balancer, call))


def _balancer(world: World, call: Call) -> LoadBalancer:
    return world.load_balancer(call.zone, call.path["id"])


def _service(balancer: LoadBalancer, call: Call) -> Service:
    service = balancer.services.get(call.path["service-id"])
    if service is None:
        raise NotFound.of("service", call.path["service-id"])
    return service


def _view(world: World, balancer: LoadBalancer) -> dict[str, object]:
    return balancer.view(
        [service.view(health(world, balancer, service)) for service in balancer.services.values()]
    )


def _read_service(body: Fields, known: Service | None) -> rules.Wanted:
    """
    Read a create (nothing known) or an update, which leaves out what stays.

    Like the real API's, an update needs protocol and strategy all the same.
    """
    check = body.nested("healthcheck")
    description = body.text("description", least=0)
    return rules.Wanted(
        name=body.must("name", body.text("name") or (known.name if known else None)),
        description=description if description is not None else known.description if known else "",
        port=body.must("port", _port(body, "port") or (known.port if known else None)),
        target_port=body.must(
            "target-port", _port(body, "target-port") or (known.target_port if known else None)
        ),
        protocol=body.must("protocol", body.choice("protocol", _PROTOCOLS)),
        strategy=body.must("strategy", body.choice("strategy", _STRATEGIES)),
        check=body.must("healthcheck", _read_check(check, known.check if known else None)),
    )


def _read_check(check: Fields | None, known: Check | None) -> Check | None:
    if check is None:
        return known
    mode = check.must("mode", check.choice("mode", _MODES) or (known.mode if known else None))
    found = Check(
        mode=mode,
        port=check.must("port", _port(check, "port") or (known.port if known else None)),
        interval_s=check.integer("interval", least=5, most=300)
        or (known.interval_s if known else 10),
        timeout_s=check.integer("timeout", least=2, most=60) or (known.timeout_s if known else 2),
        retries=check.integer("retries", least=1, most=20) or (known.retries if known else 1),
        uri=check.text("uri") or (known.uri if known and mode != "tcp" else None),
        tls_sni=check.text("tls-sni") or (known.tls_sni if known and mode == "https" else None),
    )
    _require_consistent(check, found)
    return found


def _require_consistent(check: Fields, found: Check) -> None:
    if found.timeout_s > found.interval_s:
        raise Invalid.field(
            f"{check.prefix}interval", f"at least timeout ({found.timeout_s})", found.interval_s
        )
    if (found.uri is None) != (found.mode == "tcp"):
        raise Invalid.field(f"{check.prefix}uri", "a path for http and https only", found.uri)
    if found.uri is not None and (not found.uri.startswith("/") or not _plain(found.uri)):
        raise Invalid.field(f"{check.prefix}uri", "a path that starts with /", found.uri)
    if found.tls_sni is not None and found.mode != "https":
        raise Invalid.field(f"{check.prefix}tls-sni", "none unless mode is https", found.tls_sni)


def _plain(uri: str) -> bool:
    """Whether it may stand in a request line and in a balancer's configuration."""
    return uri.isascii() and uri.isprintable() and not set(uri) & set(" \"'\\#`")


def _port(fields: Fields, name: str) -> int | None:
    return fields.integer(name, least=1, most=65_535)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/load-balancer",
        operation="create-load-balancer",
        handler=create_load_balancer,
    ),
    Endpoint(
        method="GET",
        path="/load-balancer",
        operation="list-load-balancers",
        handler=list_load_balancers,
    ),
    Endpoint(
        method="GET",
        path="/load-balancer/{id}",
        operation="get-load-balancer",
        handler=get_load_balancer,
    ),
    Endpoint(
        method="PUT",
        path="/load-balancer/{id}",
        operation="update-load-balancer",
        handler=update_load_balancer,
    ),
    Endpoint(
        method="DELETE",
        path="/load-balancer/{id}",
        operation="delete-load-balancer",
        handler=delete_load_balancer,
    ),
    Endpoint(
        method="POST",
        path="/load-balancer/{id}/service",
        operation="add-service-to-load-balancer",
        handler=add_service,
    ),
    Endpoint(
        method="GET",
        path="/load-balancer/{id}/service/{service-id}",
        operation="get-load-balancer-service",
        handler=get_service,
    ),
    Endpoint(
        method="PUT",
        path="/load-balancer/{id}/service/{service-id}",
        operation="update-load-balancer-service",
        handler=update_service,
    ),
    Endpoint(
        method="DELETE",
        path="/load-balancer/{id}/service/{service-id}",
        operation="delete-load-balancer-service",
        handler=delete_service,
    ),
    Endpoint(
        method="DELETE",
        path="/load-balancer/{id}/{field}",
        operation="reset-load-balancer-field",
        handler=reset_load_balancer_field,
    ),
    Endpoint(
        method="DELETE",
        path="/load-balancer/{id}/service/{service-id}/{field}",
        operation="reset-load-balancer-service-field",
        handler=reset_service_field,
    ),
)

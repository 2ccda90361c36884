"""The names that addresses of instances resolve to; they end with their instance."""

from __future__ import annotations

import re
from typing import Final

from exotide.cloud.api.errors import Invalid, NotFound
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import require_not_destroying
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World

_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE | re.ASCII)


def set_domain_name(world: World, call: Call) -> dict[str, object]:
    """Set or change the name, kept as it is spelled; nothing here resolves it."""
    instance = world.instance(call.zone, call.path["id"])
    domain_name = _read(call.body)
    require_not_destroying(instance)
    instance.domain_name = domain_name
    return _done(world, instance)


def get_domain_name(world: World, call: Call) -> dict[str, object]:
    """Show the name, if there is one."""
    return {"domain-name": _named(world, call).domain_name}


def delete_domain_name(world: World, call: Call) -> dict[str, object]:
    """Remove the name."""
    instance = _named(world, call)
    instance.domain_name = None
    return _done(world, instance)


def _named(world: World, call: Call) -> Instance:
    instance = world.instance(call.zone, call.path["id"])
    if instance.domain_name is None:
        raise NotFound.of("reverse DNS record of instance", instance.id)
    return instance


def _read(body: Fields) -> str:
    name = body.must("domain-name", body.text("domain-name", most=253))
    if not _DOMAIN.fullmatch(name):
        raise Invalid.field("domain-name", "a domain name such as www.example.com", name)
    return name


def _done(world: World, instance: Instance) -> dict[str, object]:
    return world.operations.start(zone=instance.zone, kind="instance", key=instance.id)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/reverse-dns/instance/{id}",
        operation="update-reverse-dns-instance",
        handler=set_domain_name,
    ),
    Endpoint(
        method="GET",
        path="/reverse-dns/instance/{id}",
        operation="get-reverse-dns-instance",
        handler=get_domain_name,
    ),
    Endpoint(
        method="DELETE",
        path="/reverse-dns/instance/{id}",
        operation="delete-reverse-dns-instance",
        handler=delete_domain_name,
    ),
)

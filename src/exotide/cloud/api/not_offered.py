"""
What the real cloud has and this one has not: elastic IPs, private networks, deploy targets.

Lists are empty and every id is unknown, so that clients which look find nothing. Creating one is
refused: an address or a network that carries no traffic would only look as if it worked.
"""

from __future__ import annotations

from typing import NoReturn

from exotide.cloud.api.errors import Invalid, NotFound
from exotide.cloud.api.routing import Call, Endpoint, Handler
from exotide.cloud.api.world import World


def _nothing_of(kind: str) -> Handler:
    def list_nothing(_: World, __: Call) -> dict[str, object]:
        """List nothing."""
        return {f"{kind}s": []}

    return list_nothing


def _unknown(kind: str) -> Handler:
    def find_nothing(_: World, call: Call) -> NoReturn:
        """Answer 404, since there is none."""
        raise NotFound.of(kind.replace("-", " "), call.path["id"])

    return find_nothing


def _refused(kind: str) -> Handler:
    def create_nothing(_: World, __: Call) -> NoReturn:
        """Answer 400: not offered."""
        raise Invalid(
            f"{kind}: not offered by the local cloud; use the public addresses of instances and "
            "load balancers"
        )

    return create_nothing


def _of_one(kind: str) -> tuple[Endpoint, ...]:
    """Everything that addresses one elastic IP or private network by its id."""
    path = f"/{kind}/{{id}}"
    operations = (
        ("GET", path, f"get-{kind}"),
        ("PUT", path, f"update-{kind}"),
        ("DELETE", path, f"delete-{kind}"),
        ("DELETE", f"{path}/{{field}}", f"reset-{kind}-field"),
        ("PUT", f"{path}:attach", f"attach-instance-to-{kind}"),
        ("PUT", f"{path}:detach", f"detach-instance-from-{kind}"),
    )
    return tuple(
        Endpoint(method=method, path=where, operation=operation, handler=_unknown(kind))
        for method, where, operation in operations
    )


def _all_of(kind: str) -> tuple[Endpoint, ...]:
    path = f"/{kind}"
    return (
        Endpoint(method="GET", path=path, operation=f"list-{kind}s", handler=_nothing_of(kind)),
        Endpoint(method="POST", path=path, operation=f"create-{kind}", handler=_refused(kind)),
        *_of_one(kind),
    )


def _reverse_dns() -> tuple[Endpoint, ...]:
    operations = (("GET", "get"), ("POST", "update"), ("DELETE", "delete"))
    return tuple(
        Endpoint(
            method=method,
            path="/reverse-dns/elastic-ip/{id}",
            operation=f"{action}-reverse-dns-elastic-ip",
            handler=_unknown("elastic-ip"),
        )
        for method, action in operations
    )


ENDPOINTS = (
    *_all_of("elastic-ip"),
    *_reverse_dns(),
    *_all_of("private-network"),
    Endpoint(
        method="PUT",
        path="/private-network/{id}:update-ip",
        operation="update-private-network-instance-ip",
        handler=_unknown("private-network"),
    ),
    Endpoint(
        method="GET",
        path="/deploy-target",
        operation="list-deploy-targets",
        handler=_nothing_of("deploy-target"),
    ),
    Endpoint(
        method="GET",
        path="/deploy-target/{id}",
        operation="get-deploy-target",
        handler=_unknown("deploy-target"),
    ),
)

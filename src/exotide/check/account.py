"""Adapter of the port Account: the official SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from exotide.access.quota import full
from exotide.access.templates import choice, offered
from exotide.stack.api import Api, Json
from exotide.stack.errors import CloudUnavailable, NotFound, Refused
from exotide.stack.resources import POOL, STACK_LABEL, await_ready, listed, remove
from exotide.stack.rules import ANYWHERE, HEALTH_CHECKERS

from .things import Balancer, Pool, Server, Service

T = TypeVar("T")
SMALL: Final = ("standard", "micro")
DISK_GIB: Final = 10
_LEAVING: Final = {"destroying", "destroyed", "expunging"}
_ATTEMPTS: Final = 8
_REMOVALS: Final = 24
"""What costs money is given up only after a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExoscaleAccount:
    """One account in one zone; its patience is that of the API it is made with."""

    api: Api

    def pools(self) -> list[Pool]:
        with _understood("instance pools"):
            return [_pool(self._get("instance_pool", each)) for each in listed(self.api, POOL)]

    def pool(self, pool_id: str) -> Pool:
        with _understood("instance pool"):
            return _pool(self.api.call("get_instance_pool", id=pool_id))

    def balancers(self) -> list[Balancer]:
        with _understood("load balancers"):
            balancers = self.api.call("list_load_balancers")["load-balancers"]
            return [_balancer(self._get("load_balancer", each)) for each in balancers]

    def balancer(self, balancer_id: str) -> Balancer:
        with _understood("load balancer"):
            return _balancer(self.api.call("get_load_balancer", id=balancer_id))

    def servers(self) -> list[Server]:
        with _understood("instances"):
            instances = self.api.call("list_instances")["instances"]
            return [_server(each) for each in instances if each.get("state") not in _LEAVING]

    def lets_checks_in(self, group_ids: tuple[str, ...], port: int) -> bool:
        with _understood("security group"):
            groups = [self.api.call("get_security_group", id=each) for each in group_ids]
            rules = [rule for group in groups for rule in group.get("rules", ())]
            return any(_opens(rule, port) for rule in rules)

    def type_name(self, type_id: str) -> str:
        with _understood("instance type"):
            found = self.api.call("get_instance_type", id=type_id)
            return f"{found['family']}.{found['size']}"

    def full(self) -> str:
        return full(self.api)

    def delete_server(self, server_id: str) -> None:
        try:
            self._persist(lambda: self.api.call("delete_instance", id=server_id))
        except NotFound:
            return

    def make_pool(self, name: str, *, like: Pool) -> str:
        templates = offered(self.api)
        if like.template_id not in templates:
            raise Refused(
                f"the template of pool {like.name} is gone, so that it can make no member; set "
                f"the variable template to one that there is: {choice(templates)}",
                status=404,
            )
        with _understood("instance types"):
            types = self.api.call("list_instance_types")["instance-types"]
            small = next(each for each in types if (each["family"], each["size"]) == SMALL)
        self.api.change(
            "create_instance_pool",
            name=name,
            description="made by exotide check, which removes it",
            size=1,
            instance_type={"id": small["id"]},
            template={"id": like.template_id},
            disk_size=DISK_GIB,
            labels={STACK_LABEL: name},  # a stack of its own
        )
        with _understood("instance pools"):
            (made,) = [each["id"] for each in listed(self.api, POOL) if each["name"] == name]
        return str(await_ready(self.api, POOL, made)["id"])

    def remove_pools(self, name: str) -> None:
        def attempt() -> None:
            for pool in listed(self.api, POOL):
                if pool["name"] == name:
                    remove(self.api, POOL, pool["id"])

        self._persist(attempt, attempts=_REMOVALS)

    def _get(self, kind: str, shown: Json) -> Json:
        """Lists may leave out what only the resource itself shows."""
        return self.api.call(f"get_{kind}", id=shown["id"])

    def _persist(self, call: Callable[[], T], *, attempts: int = _ATTEMPTS) -> T:
        """Repeat what may be repeated, through faults of the API."""
        for attempt in range(1, attempts):
            try:
                return call()
            except CloudUnavailable:
                self.api.patience.pause(min(attempt, self.api.patience.longest_s))
        return call()


def _pool(shown: Json) -> Pool:
    return Pool(
        id=shown["id"],
        name=shown["name"],
        size=int(shown["size"]),
        member_ids=frozenset(member["id"] for member in shown.get("instances", ())),
        stack=_stack(shown),
        group_ids=tuple(group["id"] for group in shown.get("security-groups", ())),
        template_id=shown["template"]["id"],
        type_id=shown["instance-type"]["id"],
    )


def _balancer(shown: Json) -> Balancer:
    services = [each for each in shown.get("services", ()) if each.get("state") != "deleting"]
    return Balancer(
        id=shown["id"],
        name=shown["name"],
        ip=shown["ip"],
        services=tuple(_service(each) for each in services),
        stack=_stack(shown),
    )


def _service(shown: Json) -> Service:
    return Service(
        port=int(shown["port"]),
        target_port=int(shown["target-port"]),
        pool_id=shown["instance-pool"]["id"],
        health={
            each["public-ip"]: each.get("status") == "success"
            for each in shown.get("healthcheck-status", ())
        },
    )


def _server(shown: Json) -> Server:
    manager = shown.get("manager") or {}
    return Server(
        id=shown["id"],
        name=shown["name"],
        ip=shown.get("public-ip") or "",
        pool_id=manager.get("id", ""),
        stack=_stack(shown),
    )


def _stack(shown: Json) -> str:
    return str((shown.get("labels") or {}).get(STACK_LABEL, ""))


def _opens(rule: Json, port: int) -> bool:
    group: Any = rule.get("security-group") or {}
    source = rule.get("network") == ANYWHERE or group.get("name") == HEALTH_CHECKERS
    return (
        source
        and rule.get("flow-direction") == "ingress"
        and rule.get("protocol") == "tcp"
        and rule.get("start-port", 0) <= port <= rule.get("end-port", 0)
    )


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn an answer of another shape than expected into a fault of the API."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise CloudUnavailable(f"{what}: the answer is not as expected: {error!r}") from error

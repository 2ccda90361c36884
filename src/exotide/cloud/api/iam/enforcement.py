"""Whether a key may carry out a call: the organisation's policy and its role's must both allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from exotide.cloud.api.errors import Forbidden
from exotide.cloud.api.iam.model import Reading, Role
from exotide.cloud.api.iam.policy import Policy
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World

RESET: Final = "reset-iam-organization-policy"
"""The way out of a policy that locks everybody out: a permission, so no policy can forbid it."""

_CLASSES: Final = {
    "api-key": "iam",
    "iam-organization-policy": "iam",
    "iam-role": "iam",
    "organization": "organization",
}
_DEEPEST: Final = 16
"""Nesting of parameters that expressions can see; no operation has as much."""
_FREE_KEYS: Final = frozenset({"labels"})
"""Parameters whose names are the caller's own; they are left as they are."""


class _Named(Protocol):
    """Any resource."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


def service_class(endpoint: Endpoint) -> str:
    """Return the class under which policies have an operation."""
    return _CLASSES.get(_kind(endpoint), "compute")


def authorize(world: World, key: str, endpoint: Endpoint, call: Call) -> None:
    """
    Let a call of this key pass, or refuse it.

    Raises:
        Forbidden: Naming the operation and the key, and what would permit it.
    """
    role = world.iam.role_of(key)
    if endpoint.operation == RESET:
        if role is not None and RESET not in role.permissions:
            raise Forbidden(
                f"Forbidden by role policy for iam - {RESET} by {_caller(world, key)}: "
                f"role {role.name} needs the permission {RESET}"
            )
        return
    asked = _Asked(world=world, key=key, endpoint=endpoint, call=call)
    asked.require(world.iam.organization, layer="organization")
    if role is not None:
        asked.require(role.policy, layer="role", role=role)


@dataclass(kw_only=True)
class _Asked:
    """One call that a key wants to make."""

    world: World
    key: str
    endpoint: Endpoint
    call: Call

    def require(self, policy: Policy, *, layer: str, role: Role | None = None) -> None:
        """Refuse the call unless a policy allows it."""
        if policy.allows_everything:
            return
        service, operation = service_class(self.endpoint), self.endpoint.operation
        why = policy.refusal(
            service, lambda: self.bindings, failing_refuses=self._reads(Reading.FAILING_REFUSES)
        )
        if why is not None:
            owner = "the organisation" if role is None else f"role {role.name}"
            raise Forbidden(
                f"Forbidden by {layer} policy for {service} - {why}. {operation} by "
                f"{_caller(self.world, self.key)} needs a rule of {owner} that allows it, "
                f"such as: operation == '{operation}'"
            )

    @cached_property
    def bindings(self) -> Mapping[str, object]:
        """What expressions may use, as the real API names it."""
        return {
            "api_key": self.key,
            "now": self.world.stamp(),
            "operation": self.endpoint.operation,
            "parameters": self._parameters(),
            "resources": self._resources(),
            "service": service_class(self.endpoint),
            "source_ip": self.call.source_ip,
            "zone": self.call.zone,
        }

    def _reads(self, reading: Reading) -> bool:
        return reading in self.world.iam.readings

    def _parameters(self) -> dict[str, object]:
        path = {} if self._reads(Reading.NO_PATH_PARAMETERS) else self.call.path
        return _parameters(self.call, path)

    def _resources(self) -> dict[str, dict[str, str]]:
        """Give the resource that the path names, by id and name."""
        if self._reads(Reading.NO_RESOURCES):
            return {}
        world, kind = self.world, _kind(self.endpoint)
        known: Mapping[str, Mapping[str, _Named]] = {
            "instance": world.instances,
            "instance-pool": world.pools,
            "load-balancer": world.load_balancers,
            "security-group": world.security_groups,
        }
        found = known.get(kind, {}).get(self.call.path.get("id", ""))
        return {} if found is None else {_snake(kind): {"id": found.id, "name": found.name}}


def _parameters(call: Call, path: Mapping[str, str]) -> dict[str, object]:
    """
    Path, query and body as one; names in snake case, as the real API's policies have them.

    The path goes before the query and that before the body, as handlers read them: an unused
    field of the same name must not hide what the call is really about.
    """
    given = _renamed(call.body.values) | _renamed(dict(call.query)) | _renamed(path)
    return {name: value for name, value in given.items() if value not in (None, "")}


def _renamed(values: Mapping[str, object], depth: int = _DEEPEST) -> dict[str, object]:
    """The API has no name with an underscore: whoever sends one means to mislead a policy."""
    return {
        _snake(_whole(name)): _kept(value) if name in _FREE_KEYS else _plain(value, depth)
        for name, value in values.items()
        if "_" not in name
    }


def _kept(labels: object) -> object:
    if not isinstance(labels, dict):
        return None
    return {_whole(name): _plain(value, 0) for name, value in labels.items()}


def _plain(value: object, depth: int) -> object:
    if isinstance(value, str):
        return _whole(value)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return _renamed(value, depth - 1)


def _whole(text: str) -> str:
    """The runtime reads texts up to a NUL; without one it sees all, and no more than was sent."""
    return text.replace("\0", "\ufffd")


def _snake(name: str) -> str:
    return name.replace("-", "_")


def _kind(endpoint: Endpoint) -> str:
    return endpoint.path.removeprefix("/").partition("/")[0].partition(":")[0]


def _caller(world: World, key: str) -> str:
    bound = world.iam.keys.get(key)
    return f"key {key}" if bound is None else f"key {bound.name} ({key})"

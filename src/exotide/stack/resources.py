"""Finding, awaiting and removing resources by name: what makes create and destroy repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .api import Api, Json
from .errors import AccessDenied, Ambiguous, NotFound, OperationFailed, Refused
from .settings import StackSettings

READY: Final = "running"
_SETTLING: Final = {
    "creating",
    "starting",
    "updating",
    "scaling-up",
    "scaling-down",
    "migrating",
    "rebooting",
}
_LEAVING: Final = {"deleting", "destroying", "destroyed", "expunging"}
STACK_LABEL: Final = "stack"
POOL_LABEL: Final = "pool"
AGENTS_LABEL: Final = "agents"
"""On a monitoring server that was given a key for its agents: which one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the API names the operations of one kind of resource."""

    label: str
    plural_key: str
    list_operation: str
    get_operation: str
    delete_operation: str
    id_key: str = "id"
    """Which field of a resource its operations take as id."""


SECURITY_GROUP: Final = Kind(
    label="security group",
    plural_key="security-groups",
    list_operation="list_security_groups",
    get_operation="get_security_group",
    delete_operation="delete_security_group",
)
POOL: Final = Kind(
    label="instance pool",
    plural_key="instance-pools",
    list_operation="list_instance_pools",
    get_operation="get_instance_pool",
    delete_operation="delete_instance_pool",
)
BALANCER: Final = Kind(
    label="load balancer",
    plural_key="load-balancers",
    list_operation="list_load_balancers",
    get_operation="get_load_balancer",
    delete_operation="delete_load_balancer",
)
INSTANCE: Final = Kind(
    label="instance",
    plural_key="instances",
    list_operation="list_instances",
    get_operation="get_instance",
    delete_operation="delete_instance",
)
ROLE: Final = Kind(
    label="IAM role",
    plural_key="iam-roles",
    list_operation="list_iam_roles",
    get_operation="get_iam_role",
    delete_operation="delete_iam_role",
)
KEY: Final = Kind(
    label="API key",
    plural_key="api-keys",
    list_operation="list_api_keys",
    get_operation="get_api_key",
    delete_operation="delete_api_key",
    id_key="key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that exists in the cloud and belongs to a stack."""

    kind: Kind
    name: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind.label} {self.name} ({self.id})"


def listed(api: Api, kind: Kind) -> list[Json]:
    """
    Everything of one kind, as the list shows it.

    A key that may not see roles and keys has not made any either: to it, there are none.
    """
    try:
        return list(api.call(kind.list_operation).get(kind.plural_key, []))
    except AccessDenied:
        if kind in (ROLE, KEY):
            return []
        raise


def get(api: Api, kind: Kind, resource_id: str) -> Json:
    """One resource in full."""
    return api.call(kind.get_operation, id=resource_id)


def find(api: Api, kind: Kind, name: str) -> Json | None:
    """
    The one resource of this name, in full; one that is on its way out is waited for first.

    Raises:
        Ambiguous: if there are two.
    """
    named = [item for item in listed(api, kind) if item["name"] == name]
    for item in named:
        if item.get("state") in _LEAVING:
            await_gone(api, kind, item["id"])
    staying = [item["id"] for item in named if item.get("state") not in _LEAVING]
    if len(staying) > 1:
        raise Ambiguous(
            f"{kind.label} {name} exists {len(staying)} times, destroy the stack first, "
            f"got: {', '.join(staying)}"
        )
    return get(api, kind, staying[0]) if staying else None


def await_ready(api: Api, kind: Kind, resource_id: str) -> Json:
    """
    Wait until a resource runs.

    Raises:
        OperationFailed: if it came to rest in another state.
    """
    seen: Json = {}

    def look() -> Json | None:
        seen.update(get(api, kind, resource_id))
        if seen["state"] in _SETTLING:
            return None
        if seen["state"] != READY:
            raise OperationFailed(
                f"{kind.label} {seen['name']} does not run; destroy the stack and create it again, "
                f"state: {seen['state']}"
            )
        return dict(seen)

    return api.patience.until(
        look, what=f"start of {kind.label} {resource_id}", state=lambda: str(seen.get("state"))
    )


def await_gone(api: Api, kind: Kind, resource_id: str) -> None:
    """Wait until the cloud no longer knows a resource."""
    state = "unknown"

    def look() -> bool | None:
        nonlocal state
        try:
            state = str(get(api, kind, resource_id).get("state", "there"))
        except NotFound:
            return True
        return True if state == "destroyed" else None

    api.patience.until(look, what=f"end of {kind.label} {resource_id}", state=lambda: state)


def remove(api: Api, kind: Kind, resource_id: str) -> None:
    """
    Delete a resource and wait until it is gone; one that is gone already is fine.

    A refusal because it is busy or in use (409, 412) is waited out.
    """
    refusal = "none"

    def attempt() -> bool | None:
        nonlocal refusal
        try:
            api.change(kind.delete_operation, id=resource_id)
        except NotFound:
            return True
        except Refused as error:
            if error.status not in {409, 412}:
                raise
            refusal = str(error)
            return None
        return True

    api.patience.until(
        attempt, what=f"deletion of {kind.label} {resource_id}", state=lambda: refusal
    )
    await_gone(api, kind, resource_id)


def inventory(api: Api, settings: StackSettings) -> tuple[Resource, ...]:
    """
    Everything of the stack that exists, in the order in which it can be removed.

    The monitoring server comes first, so that its autoscaler does not work against the removal,
    and then the agents' keys; keys let go of their roles, a balancer of its pool, servers of their
    groups, and a group of the groups in its rules.
    """
    servers = (settings.monitoring_name,)
    groups = (settings.members_name, settings.monitoring_name)
    roles = _named(api, ROLE, (settings.autoscaler_name, settings.discovery_name))
    return (
        *_named(api, INSTANCE, servers),
        *(key for role in roles for key in keys_of(api, role.id)),
        *roles,
        *_named(api, BALANCER, (settings.name,)),
        *_named(api, POOL, (settings.name,)),
        *_stray_members(api, settings),
        *_named(api, SECURITY_GROUP, groups),
    )


def keys_of(api: Api, role_id: str) -> list[Resource]:
    """All API keys of a role, whoever made them: while there is one, the role cannot go."""
    return [
        Resource(kind=KEY, name=item["name"], id=item[KEY.id_key])
        for item in listed(api, KEY)
        if item.get("role-id") == role_id
    ]


def _named(api: Api, kind: Kind, names: tuple[str, ...]) -> list[Resource]:
    found = [
        Resource(kind=kind, name=item["name"], id=item["id"])
        for item in listed(api, kind)
        if item["name"] in names and item.get("state") != "destroyed"
    ]
    return sorted(found, key=lambda resource: names.index(resource.name))


def _stray_members(api: Api, settings: StackSettings) -> list[Resource]:
    """Members that a deleted pool has left behind; those of a living pool go with it."""
    pools = {item["id"] for item in listed(api, POOL)}
    return [
        Resource(kind=INSTANCE, name=item["name"], id=item["id"])
        for item in listed(api, INSTANCE)
        if item.get("labels", {}).get(STACK_LABEL) == settings.name
        and item["name"] != settings.monitoring_name
        and item.get("state") not in _LEAVING
        and item.get("manager", {}).get("id") not in pools
    ]

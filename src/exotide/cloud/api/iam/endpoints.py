"""Roles, API keys and the organisation's policy over the API."""

from __future__ import annotations

import secrets
from typing import Final

from exotide.cloud.api.errors import Conflict, InUse, Invalid, NotFound
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.iam.model import ApiKey, Role
from exotide.cloud.api.iam.policy import DENY, Policy, read_policy
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World

LONGEST_ROLE_NAME: Final = 191
_PERMISSIONS: Final = ("bypass-governance-retention", "reset-iam-organization-policy")


def create_role(world: World, call: Call) -> dict[str, object]:
    """Make a role; one without a policy may do nothing until it gets one."""
    body = call.body
    name = body.must("name", body.text("name", most=LONGEST_ROLE_NAME))
    editable = body.boolean("editable")
    policy = body.nested("policy")
    role = Role(
        id=world.new_id(),
        name=name,
        policy=Policy(default=DENY) if policy is None else read_policy(policy),
        description=body.text("description", least=0),
        editable=editable is not False,
        labels=body.labels() or {},
        permissions=_permissions(body) or (),
    )
    if any(known.name == name for known in world.iam.roles.values()):
        raise Conflict(f"IAM role {name} already exists")
    world.iam.roles[role.id] = role
    return _done(world, call, role)


def list_roles(world: World, _: Call) -> dict[str, object]:
    """List all roles."""
    return {"iam-roles": [role.view() for role in world.iam.roles.values()]}


def get_role(world: World, call: Call) -> dict[str, object]:
    """Show one role."""
    return _role(world, call).view()


def update_role(world: World, call: Call) -> dict[str, object]:
    """Change description, labels or permissions; what is absent stays."""
    role = _editable(_role(world, call))
    description = call.body.text("description", least=0)
    labels = call.body.labels()
    permissions = _permissions(call.body)
    role.description = role.description if description is None else description
    role.labels = role.labels if labels is None else labels
    role.permissions = role.permissions if permissions is None else permissions
    return _done(world, call, role)


def update_role_policy(world: World, call: Call) -> dict[str, object]:
    """Replace the policy; the next request of every key of the role is judged by it."""
    role = _editable(_role(world, call))
    role.policy = read_policy(call.body)
    return _done(world, call, role)


def delete_role(world: World, call: Call) -> dict[str, object]:
    """Remove a role that no key is bound to."""
    role = _role(world, call)
    users = [key.name for key in world.iam.keys.values() if key.role_id == role.id]
    if users:
        raise InUse(f"IAM role {role.name} is in use by key {users[0]}; delete the key first")
    del world.iam.roles[role.id]
    return _done(world, call, role)


def create_key(world: World, call: Call) -> dict[str, object]:
    """Make a key; this answer is the only one that ever has its secret."""
    name = call.body.must("name", call.body.text("name"))
    role_id = call.body.must("role-id", call.body.uuid("role-id"))
    if role_id not in world.iam.roles:
        raise Invalid.field("role-id", "the id of an IAM role", role_id)
    key = ApiKey(key=f"EXO{secrets.token_hex(12)}", name=name, role_id=role_id)
    secret = secrets.token_urlsafe(32)
    world.secrets[key.key] = secret
    world.iam.keys[key.key] = key
    return key.view() | {"secret": secret}


def list_keys(world: World, _: Call) -> dict[str, object]:
    """List the keys that are bound to roles."""
    return {"api-keys": [key.view() for key in world.iam.keys.values()]}


def get_key(world: World, call: Call) -> dict[str, object]:
    """Show one key."""
    return _key(world, call).view()


def delete_key(world: World, call: Call) -> dict[str, object]:
    """Revoke a key: its next request is refused."""
    key = _key(world, call)
    del world.iam.keys[key.key]
    del world.secrets[key.key]
    return world.operations.start(zone=call.zone, kind="api-key", key=world.new_id())


def get_organization_policy(world: World, _: Call) -> dict[str, object]:
    """Show the policy that every key is subject to."""
    return world.iam.organization.view()


def update_organization_policy(world: World, call: Call) -> dict[str, object]:
    """Replace the policy that every key is subject to."""
    return _organization(world, call, read_policy(call.body))


def reset_organization_policy(world: World, call: Call) -> dict[str, object]:
    """Allow everything that roles allow."""
    return _organization(world, call, Policy())


def _organization(world: World, call: Call, policy: Policy) -> dict[str, object]:
    world.iam.organization = policy
    return world.operations.start(
        zone=call.zone, kind="iam-organization-policy", key=world.new_id()
    )


def _done(world: World, call: Call, role: Role) -> dict[str, object]:
    return world.operations.start(zone=call.zone, kind="iam-role", key=role.id)


def _role(world: World, call: Call) -> Role:
    role = world.iam.roles.get(call.path["id"])
    if role is None:
        raise NotFound.of("IAM role", call.path["id"])
    return role


def _editable(role: Role) -> Role:
    if not role.editable:
        raise Conflict(f"IAM role {role.name} is not editable; make another one instead")
    return role


def _key(world: World, call: Call) -> ApiKey:
    key = world.iam.keys.get(call.path["id"])
    if key is None:
        raise NotFound.of("API key", call.path["id"])
    return key


def _permissions(body: Fields) -> tuple[str, ...] | None:
    permissions = body.texts("permissions")
    if permissions is not None and not set(permissions) <= set(_PERMISSIONS):
        expected = f"a list of {', '.join(_PERMISSIONS)}"
        raise Invalid.field("permissions", expected, list(permissions))
    return None if permissions is None else tuple(dict.fromkeys(permissions))


ENDPOINTS = (
    Endpoint(method="POST", path="/iam-role", operation="create-iam-role", handler=create_role),
    Endpoint(method="GET", path="/iam-role", operation="list-iam-roles", handler=list_roles),
    Endpoint(method="GET", path="/iam-role/{id}", operation="get-iam-role", handler=get_role),
    Endpoint(method="PUT", path="/iam-role/{id}", operation="update-iam-role", handler=update_role),
    Endpoint(
        method="PUT",
        path="/iam-role/{id}:policy",
        operation="update-iam-role-policy",
        handler=update_role_policy,
    ),
    Endpoint(
        method="DELETE", path="/iam-role/{id}", operation="delete-iam-role", handler=delete_role
    ),
    Endpoint(method="POST", path="/api-key", operation="create-api-key", handler=create_key),
    Endpoint(method="GET", path="/api-key", operation="list-api-keys", handler=list_keys),
    Endpoint(method="GET", path="/api-key/{id}", operation="get-api-key", handler=get_key),
    Endpoint(method="DELETE", path="/api-key/{id}", operation="delete-api-key", handler=delete_key),
    Endpoint(
        method="GET",
        path="/iam-organization-policy",
        operation="get-iam-organization-policy",
        handler=get_organization_policy,
    ),
    Endpoint(
        method="PUT",
        path="/iam-organization-policy",
        operation="update-iam-organization-policy",
        handler=update_organization_policy,
    ),
    Endpoint(
        method="POST",
        path="/iam-organization-policy:reset",
        operation="reset-iam-organization-policy",
        handler=reset_organization_policy,
    ),
)

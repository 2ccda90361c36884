"""What belongs to the organisation as a whole: SSH keys, quotas, and the operations it started."""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from typing import Final

from exotide.cloud.api.catalogue import ORGANISATION_ID
from exotide.cloud.api.errors import Conflict, Invalid, NotFound
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import SshKey, World

_KEY_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")


def get_operation(world: World, call: Call) -> dict[str, object]:
    """Show how far an operation is."""
    return world.operations.get(call.zone, call.path["id"]).view()


def get_organization(_: World, __: Call) -> dict[str, object]:
    """Show whose cloud this is; it has no address and pays nothing."""
    return {"id": ORGANISATION_ID, "name": "exotide local cloud"}


def list_quotas(world: World, _: Call) -> dict[str, object]:
    """List all limits with their usage."""
    return {"quotas": [_quota(world, resource) for resource in world.quotas]}


def get_quota(world: World, call: Call) -> dict[str, object]:
    """Show one limit."""
    if call.path["entity"] not in world.quotas:
        raise NotFound.of("quota", call.path["entity"])
    return _quota(world, call.path["entity"])


def _quota(world: World, resource: str) -> dict[str, object]:
    return {"resource": resource, "usage": world.usage(resource), "limit": world.limit(resource)}


def register_ssh_key(world: World, call: Call) -> dict[str, object]:
    """Keep a public key; it can be read at once."""
    name = call.body.must("name", call.body.text("name"))
    if not _KEY_NAME.fullmatch(name):
        raise Invalid.field(
            "name", "letters, digits, '.', '_' or '-', a letter or digit first", name
        )
    public = call.body.must("public-key", call.body.text("public-key", most=16_384))
    if name in world.ssh_keys:
        raise Conflict(f"ssh key {name} already exists")
    world.ssh_keys[name] = SshKey(
        name=name, fingerprint=_fingerprint(public), public_key=public.strip()
    )
    return world.operations.start(zone=call.zone, kind="ssh-key", key=world.new_id())


def list_ssh_keys(world: World, _: Call) -> dict[str, object]:
    """List all keys."""
    return {"ssh-keys": [key.view() for key in world.ssh_keys.values()]}


def get_ssh_key(world: World, call: Call) -> dict[str, object]:
    """Show one key."""
    return _ssh_key(world, call).view()


def delete_ssh_key(world: World, call: Call) -> dict[str, object]:
    """Forget a key; instances made with it still report it."""
    del world.ssh_keys[_ssh_key(world, call).name]
    return world.operations.start(zone=call.zone, kind="ssh-key", key=world.new_id())


def _ssh_key(world: World, call: Call) -> SshKey:
    key = world.ssh_keys.get(call.path["name"])
    if key is None:
        raise NotFound.of("ssh key", call.path["name"])
    return key


def _fingerprint(public: str) -> str:
    parts = public.split()
    try:
        blob = b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error, ValueError) as error:
        raise Invalid.field("public-key", "an OpenSSH public key: 'type base64'", public) from error
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")


ENDPOINTS = (
    Endpoint(
        method="GET", path="/operation/{id}", operation="get-operation", handler=get_operation
    ),
    Endpoint(
        method="GET", path="/organization", operation="get-organization", handler=get_organization
    ),
    Endpoint(method="GET", path="/quota", operation="list-quotas", handler=list_quotas),
    Endpoint(method="GET", path="/quota/{entity}", operation="get-quota", handler=get_quota),
    Endpoint(
        method="POST", path="/ssh-key", operation="register-ssh-key", handler=register_ssh_key
    ),
    Endpoint(method="GET", path="/ssh-key", operation="list-ssh-keys", handler=list_ssh_keys),
    Endpoint(method="GET", path="/ssh-key/{name}", operation="get-ssh-key", handler=get_ssh_key),
    Endpoint(
        method="DELETE", path="/ssh-key/{name}", operation="delete-ssh-key", handler=delete_ssh_key
    ),
)

"""Keys that are good for one agent's work on one pool, as a stack makes them."""

from __future__ import annotations

from typing import Any


def key_for(client: Any, policy: dict[str, Any]) -> dict[str, str]:
    """Make a role with this policy and a key of it; the owner's client does so."""
    name = f"agent-{len(client.list_iam_roles()['iam-roles'])}"
    role = client.create_iam_role(name=name, policy=policy)["reference"]["id"]
    made: dict[str, str] = client.create_api_key(name=name, role_id=role)
    return made

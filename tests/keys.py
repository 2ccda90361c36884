"""Keys that may do less, as the environment of a shell has them."""

from __future__ import annotations

import secrets
from typing import Any, Final

LIMITED: Final = "limited-"
"""Begins the names of their roles."""


def key_for(client: Any, services: dict[str, Any], *, default: str = "deny") -> dict[str, str]:
    """Make a key whose role has these services; an owner's key makes it."""
    policy = {"default-service-strategy": default, "services": services}
    name = f"{LIMITED}{secrets.token_hex(4)}"
    role = client.create_iam_role(name=name, policy=policy)["reference"]["id"]
    made = client.create_api_key(name=name, role_id=role)
    return {"TF_VAR_exoscale_key": made["key"], "TF_VAR_exoscale_secret": made["secret"]}


def limited_key(client: Any, *, without: str) -> dict[str, str]:
    """Make a key that may do everything but one operation of compute."""
    rules = [
        {"action": "deny", "expression": f"operation == '{without}'"},
        {"action": "allow", "expression": "true"},
    ]
    return key_for(client, {"compute": {"type": "rules", "rules": rules}}, default="allow")

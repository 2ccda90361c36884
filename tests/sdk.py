"""What several folders of tests do with the official SDK."""

from __future__ import annotations

import time
from typing import Any


def done(client: Any, operation: dict[str, Any], within_s: float = 60.0) -> str:
    """
    Wait until an operation has succeeded; give the id of what it is about.

    Looks at 20 Hz: the SDK's own `wait` looks once, and then every 3 s.
    """
    deadline_s = time.monotonic() + within_s
    while operation["state"] == "pending":
        assert time.monotonic() < deadline_s, operation
        time.sleep(0.05)
        operation = client.get_operation(id=operation["id"])
    assert operation["state"] == "success", operation
    return str(operation["reference"]["id"])


def key_for(client: Any, policy: dict[str, Any]) -> dict[str, str]:
    """Make a role with this policy and a key of it; the owner's client does so."""
    name = f"agent-{len(client.list_iam_roles()['iam-roles'])}"
    role = client.create_iam_role(name=name, policy=policy)["reference"]["id"]
    made: dict[str, str] = client.create_api_key(name=name, role_id=role)
    return made

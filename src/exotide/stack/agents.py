"""
The agents' own access: for each a role that allows what it does, and a key of that role.

With a key that is given for them, nothing of it is made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from .api import Api, Json
from .errors import AccessDenied, OperationFailed
from .model import Action, Progress, Step
from .policies import autoscaler_policy, discovery_policy
from .resources import AGENTS_LABEL, KEY, ROLE, find, keys_of, remove
from .settings import StackSettings
from .userdata import AgentKey, AgentKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Makes roles and keys for the agents of one pool, unless the settings have a key for them."""

    api: Api
    settings: StackSettings
    pool_id: str
    progress: Progress

    def make_roles(self) -> None:
        """Make both roles; the policy of one that is there is brought up to date."""
        if self.settings.agents_key:
            return
        pool_id = self.pool_id if self.settings.agents_one_pool else None
        self._role(
            self.settings.autoscaler_name,
            autoscaler_policy(pool_id, max_size=self.settings.max_size),
        )
        self._role(self.settings.discovery_name, discovery_policy(pool_id))

    @property
    def labels(self) -> dict[str, str]:
        """What a server is marked with that was told these keys; nothing of it is secret."""
        if not self.settings.agents_key:
            return {}
        told = f"{self.settings.agents_key} {self.settings.agents_secret}".encode()
        return {AGENTS_LABEL: hashlib.sha256(told).hexdigest()[:12]}

    def suit(self, server: Json) -> bool:
        """Whether the agents on a server from before have keys that they still shall use."""
        if server.get("labels", {}).get(AGENTS_LABEL) != self.labels.get(AGENTS_LABEL):
            return False
        return bool(self.settings.agents_key) or all(
            keys_of(self.api, self._role_id(name)) for name in self._names()
        )

    def make_keys(self) -> AgentKeys:
        """
        Give the keys for a new server: the given one for both agents, or one made for each.

        Earlier ones are revoked: their secrets cannot be read again, so nobody needs them.
        """
        if self.settings.agents_key:
            given = AgentKey(key=self.settings.agents_key, secret=self.settings.agents_secret)
            return AgentKeys(autoscaler=given, discovery=given)
        for name in self._names():
            for key in keys_of(self.api, self._role_id(name)):
                remove(self.api, KEY, key.id)
        autoscaler, discovery = (self._key(name) for name in self._names())
        return AgentKeys(autoscaler=autoscaler, discovery=discovery)

    def _names(self) -> tuple[str, str]:
        return self.settings.autoscaler_name, self.settings.discovery_name

    def _role(self, name: str, policy: dict[str, Any]) -> None:
        found = find(self.api, ROLE, name)
        if found is None:
            self.api.change(
                "create_iam_role", name=name, description="made by exotide", policy=policy
            )
            self._tell(Action.CREATED, ROLE.label, name, self._role_id(name))
            return
        if found["policy"] != policy:
            arguments = {key.replace("-", "_"): value for key, value in policy.items()}
            self.api.change("update_iam_role_policy", id=found["id"], **arguments)
        self._tell(Action.FOUND, ROLE.label, name, found["id"])

    def _role_id(self, name: str) -> str:
        role: Json | None = find(self.api, ROLE, name)
        if role is None:
            raise OperationFailed(f"{ROLE.label} {name} was made, but is not there; try again")
        return str(role["id"])

    def _key(self, name: str) -> AgentKey:
        made = self.api.call("create_api_key", name=name, role_id=self._role_id(name))
        self._tell(Action.CREATED, KEY.label, name, made["key"])
        return AgentKey(key=made["key"], secret=made["secret"])

    def _tell(self, action: Action, kind: str, name: str, resource_id: str) -> None:
        self.progress(Step(action=action, kind=kind, name=name, id=resource_id))


def require_right(api: Api, settings: StackSettings) -> None:
    """
    Make sure, before anything costs money, that the agents can be given keys.

    Raises:
        AccessDenied: The stack's key lacks `iam`, and there is no other key for the agents.
    """
    if settings.agents_key:
        return
    try:
        api.call(ROLE.list_operation)
    except AccessDenied as error:
        raise AccessDenied(
            "the key may not make keys for the agents: use one with the right iam, or set "
            f"agents_key and agents_secret to a key with the right compute ({error})"
        ) from error

"""Roles, API keys and the organisation's policy: all of it belongs to every zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from exotide.cloud.api.iam.policy import Policy


@dataclass(slots=True, kw_only=True)
class Role:
    id: str
    name: str
    policy: Policy
    description: str | None = None
    editable: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    permissions: tuple[str, ...] = ()

    def view(self) -> dict[str, object]:
        """Return the role as the API shows it."""
        shown: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "editable": self.editable,
            "labels": dict(self.labels),
            "permissions": list(self.permissions),
            "policy": self.policy.view(),
        }
        return shown | ({"description": self.description} if self.description else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that is bound to a role; its secret is with the cloud's other secrets."""

    key: str
    name: str
    role_id: str

    def view(self) -> dict[str, object]:
        """Return the key as the API shows it: without the secret."""
        return {"key": self.key, "name": self.name, "role-id": self.role_id}


class Reading(StrEnum):
    """What the real cloud's documentation leaves open, as a policy may meet it there."""

    NO_PATH_PARAMETERS = "no-path-parameters"
    """`parameters` holds what query and body say, but nothing of the path."""
    NO_RESOURCES = "no-resources"
    """`resources` holds nothing."""
    FAILING_REFUSES = "failing-refuses"
    """A rule that cannot be evaluated refuses the request, instead of being passed over."""


@dataclass(slots=True, kw_only=True)
class Iam:
    """Who may do what. A valid key that is not in `keys` is the owner's: it has no role."""

    roles: dict[str, Role] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    """By the key itself."""
    organization: Policy = field(default_factory=Policy)
    readings: frozenset[Reading] = frozenset()
    """Those by which requests are judged."""

    def role_of(self, key: str) -> Role | None:
        """Return the role of a valid key; None for the owner's."""
        bound = self.keys.get(key)
        return None if bound is None else self.roles[bound.role_id]

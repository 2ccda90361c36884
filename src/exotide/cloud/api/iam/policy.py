"""
Policies: which operations of which service class are allowed.

The class of an operation decides first: its entry says allow, deny, or rules; a class without an
entry follows the default. Of rules, the first whose expression is true decides; one that cannot be
evaluated is passed over; if none is true the request is refused, whatever the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from exotide.cloud.api.errors import Invalid
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.iam.expressions import BadExpression, check, is_true

ALLOW: Final = "allow"
DENY: Final = "deny"
RULES: Final = "rules"

Bindings = Callable[[], Mapping[str, object]]
"""Gives what expressions may use; called only if there are rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    action: str
    """`allow` or `deny`."""
    expression: str
    resources: tuple[str, ...] | None = None
    """Deprecated by the real API: kept and shown, without effect."""

    def view(self) -> dict[str, object]:
        """Return the rule as it was sent."""
        shown: dict[str, object] = {"action": self.action, "expression": self.expression}
        return shown if self.resources is None else shown | {"resources": list(self.resources)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePolicy:
    type: str
    """`allow`, `deny` or `rules`."""
    rules: tuple[Rule, ...] | None = None
    """None: not sent."""

    def view(self) -> dict[str, object]:
        """Return the entry as it was sent."""
        if self.rules is None:
            return {"type": self.type}
        return {"type": self.type, "rules": [rule.view() for rule in self.rules]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    default: str = ALLOW
    """`allow` or `deny`: for classes that have no entry."""
    services: Mapping[str, ServicePolicy] = field(default_factory=dict)
    """By service class."""

    def view(self) -> dict[str, object]:
        """Return the policy as the API shows it."""
        return {
            "default-service-strategy": self.default,
            "services": {name: entry.view() for name, entry in self.services.items()},
        }

    @property
    def allows_everything(self) -> bool:
        """Whether no request needs to be looked at."""
        return self.default == ALLOW and not self.services

    def refusal(
        self, service: str, bindings: Bindings, *, failing_refuses: bool = False
    ) -> str | None:
        """
        Return why a request of this service class is refused, or None if it is allowed.

        Args:
            failing_refuses: Whether a rule that cannot be evaluated decides.
        """
        entry = self.services.get(service)
        if entry is None:
            return None if self.default == ALLOW else "The default strategy is deny"
        if entry.type == RULES:
            return _refusal_by_rules(entry.rules or (), bindings(), failing_refuses)
        return None if entry.type == ALLOW else "The service class is denied"


def _refusal_by_rules(
    rules: tuple[Rule, ...], bindings: Mapping[str, object], failing_refuses: bool
) -> str | None:
    skipped = []
    for index, rule in enumerate(rules):
        truth = is_true(rule.expression, bindings)
        if truth:
            return None if rule.action == ALLOW else f"A deny rule matched. Rule index: {index}"
        if truth is None and failing_refuses:
            return f"A rule could not be evaluated. Rule index: {index}"
        if truth is None:
            skipped.append(str(index))
    if not skipped:
        return "No rule matched"
    return f"No rule matched; could not be evaluated: rule {', '.join(skipped)}"


def read_policy(body: Fields) -> Policy:
    """
    Read a policy from a request.

    Raises:
        Invalid: Naming the service and the index of the rule that is wrong.
    """
    name = "default-service-strategy"
    default = body.must(name, body.choice(name, (ALLOW, DENY)))
    services = body.must("services", body.nested("services"))
    return Policy(
        default=default,
        services={key: _read_service(services, key) for key in services.values},
    )


def _read_service(services: Fields, name: str) -> ServicePolicy:
    entry = services.must(name, services.nested(name))
    kind = entry.must("type", entry.choice("type", (ALLOW, DENY, RULES)))
    rules = entry.objects("rules")
    if kind == RULES:
        entry.must("rules", rules)
    return ServicePolicy(
        type=kind, rules=None if rules is None else tuple(_read_rule(rule) for rule in rules)
    )


def _read_rule(rule: Fields) -> Rule:
    expression = rule.must("expression", rule.text("expression", most=10_000))
    try:
        check(expression)
    except BadExpression as error:
        raise Invalid.field(
            f"{rule.prefix}expression", f"a CEL expression ({error})", expression
        ) from error
    return Rule(
        action=rule.must("action", rule.choice("action", (ALLOW, DENY))),
        expression=expression,
        resources=rule.texts("resources"),
    )

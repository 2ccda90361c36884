"""The policy language: who decides, in which order, and that no text or value breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.api.errors import Invalid
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.iam.expressions import BadExpression, check, is_true
from exotide.cloud.api.iam.policy import Policy, Rule, ServicePolicy, read_policy

ASKED: Mapping[str, object] = {
    "operation": "scale-instance-pool",
    "parameters": {"id": "b1", "size": 3, "labels": {"role": "web"}, "wide": True},
    "service": "compute",
    "zone": "at-vie-1",
    "source_ip": "192.0.2.7",
    "api_key": "EXOone",
    "now": "2026-11-24T12:00:00Z",
    "resources": {"instance_pool": {"id": "b1", "name": "web"}},
}
ACTIONS = st.sampled_from(["allow", "deny"])
TRUTHS = {"true": True, "false": False, "parameters.nope == 1": None, "'text'": None, "null": None}
RULES = st.builds(Rule, action=ACTIONS, expression=st.sampled_from(sorted(TRUTHS)))
ENTRIES = st.one_of(
    st.builds(ServicePolicy, type=ACTIONS),
    st.builds(ServicePolicy, type=st.just("rules"), rules=st.lists(RULES).map(tuple)),
)
POLICIES = st.builds(
    Policy,
    default=ACTIONS,
    services=st.dictionaries(st.sampled_from(["compute", "iam", "sos"]), ENTRIES),
)
WHOLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
PIECES = ["operation", "parameters", ".id", "==", "in", "[", "]", "(", ")", "'a'", "1", "&&", "!"]


@pytest.mark.parametrize(
    "expression",
    [
        "operation == 'scale-instance-pool'",
        'operation in ["get-instance-pool", "scale-instance-pool"]',
        "operation.startsWith('scale-') && !(operation == 'get-quota')",
        "parameters.id == 'b1' && parameters.size <= 3",
        "parameters.labels.role == 'web' || parameters.nope == 1",
        "has(parameters.size) && !has(parameters.nope)",
        "parameters.has('size') && !parameters.has('nope')",
        "operation.matches('^scale-.*') && operation.contains('pool')",
        "resources.instance_pool.name == 'web'",
        "zone == 'at-vie-1' && source_ip == '192.0.2.7' && api_key == 'EXOone'",
        "timestamp(now) > timestamp('2026-01-01T00:00:00Z') && service == 'compute'",
        "parameters.wide",
    ],
)
def test_what_the_documentation_of_the_real_cloud_uses_is_understood(expression: str) -> None:
    assert is_true(expression, ASKED) is True
    assert is_true(f"!({expression})", ASKED) is False


@pytest.mark.parametrize(
    "expression",
    ["parameters.nope == 1", "1", "null", "'a' < 1", "unknown == 1", "nope(1)", "1 / 0 == 1"],
)
def test_what_cannot_be_decided_is_neither_true_nor_false(expression: str) -> None:
    check(expression)
    assert is_true(expression, ASKED) is None


@given(policy=POLICIES, service=st.sampled_from(["compute", "iam", "sos", "dns"]))
def test_the_first_true_rule_decides_and_without_one_the_request_is_refused(
    policy: Policy, service: str
) -> None:
    entry = policy.services.get(service)
    if entry is None:
        allowed = policy.default == "allow"
    elif entry.type == "rules":
        verdicts = [rule.action for rule in entry.rules or () if TRUTHS[rule.expression]]
        allowed = verdicts[:1] == ["allow"]
    else:
        allowed = entry.type == "allow"
    assert (policy.refusal(service, lambda: ASKED) is None) == allowed


@given(rules=st.lists(RULES).map(tuple))
def test_where_a_failing_rule_refuses_those_before_it_decide_as_ever(
    rules: tuple[Rule, ...],
) -> None:
    policy = Policy(default="allow", services={"compute": ServicePolicy(type="rules", rules=rules)})
    decided = [rule for rule in rules if TRUTHS[rule.expression] is not False][:1]
    allowed = [TRUTHS[rule.expression] is True and rule.action == "allow" for rule in decided]
    refusal = policy.refusal("compute", lambda: ASKED, failing_refuses=True)
    assert (refusal is None) == (allowed == [True])


@given(policy=POLICIES)
def test_a_policy_reads_back_as_it_was_sent(policy: Policy) -> None:
    assert read_policy(Fields(policy.view())) == policy


@given(id_=WHOLE, listed=st.lists(WHOLE))
def test_texts_are_compared_exactly(id_: str, listed: list[str]) -> None:
    expression = f"parameters.id in [{', '.join(map(_quoted, listed))}]"
    assert is_true(expression, {"parameters": {"id": id_}}) == (id_ in listed)


@given(
    size=st.integers(min_value=-(2**63), max_value=2**63 - 1),
    limit=st.integers(min_value=-(2**62), max_value=2**62),
)
def test_numbers_are_compared_as_numbers(size: int, limit: int) -> None:
    asked = {"parameters": {"size": size}}
    assert is_true(f"parameters.size < {limit}", asked) == (size < limit)
    assert is_true(f"parameters.size == {limit}", asked) == (size == limit)


@given(a=st.sampled_from([True, False, None]), b=st.sampled_from([True, False, None]))
def test_and_and_or_decide_as_soon_as_one_side_does(a: bool | None, b: bool | None) -> None:
    words = {True: "true", False: "false", None: "parameters.nope"}
    both = False if False in {a, b} else None if None in {a, b} else True
    either = True if True in {a, b} else None if None in {a, b} else False
    assert is_true(f"{words[a]} && {words[b]}", ASKED) is both
    assert is_true(f"{words[a]} || {words[b]}", ASKED) is either


@given(text=st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join), value=JSON)
def test_no_text_and_no_value_does_more_than_be_refused(text: str, value: Any) -> None:
    with suppress(BadExpression):
        check(text)
    assert is_true(text, {"parameters": value, "operation": value}) in {True, False, None}


@pytest.mark.parametrize("text", ["(" * 5_000 + "true" + ")" * 5_000, "[" * 50_000, "a" + ".b" * 9])
def test_deep_nesting_does_not_end_the_cloud(text: str) -> None:
    assert is_true(text, ASKED) is None


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({}, "default-service-strategy: missing"),
        ({"default-service-strategy": "maybe"}, "default-service-strategy: expected one of"),
        ({"default-service-strategy": "deny"}, "services: missing"),
        (_ := {"default-service-strategy": "deny", "services": {"sos": {}}}, "services.sos.type"),
        (_ | {"services": {"sos": 1}}, "services.sos: expected an object, got: 1"),
        (_ | {"services": {"sos": {"type": "rules"}}}, "services.sos.rules: missing"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_by_the_name_of_the_field(
    policy: dict[str, object], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        read_policy(Fields(policy))


def test_a_bad_expression_is_refused_by_service_and_index_with_the_place_of_the_fault() -> None:
    rules = [{"action": "allow", "expression": "true"}, {"action": "deny", "expression": "true &&"}]
    services = {"compute": {"type": "rules", "rules": rules}}
    with pytest.raises(Invalid, match=r"services\.compute\.rules\[1\]\.expression: .*1:8: Syntax"):
        read_policy(Fields({"default-service-strategy": "deny", "services": services}))


def _quoted(text: str) -> str:
    """Write a text as CEL does, every character by its number."""
    return "'" + "".join(f"\\U{ord(char):08x}" for char in text) + "'"

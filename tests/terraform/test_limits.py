"""The root module's variables and arithmetic, without the provider: its two files alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.cost.prices import (
    DISK_PER_GIB_HOUR,
    INSTANCE_PER_HOUR,
    LOAD_BALANCER_PER_HOUR,
    stack_prices,
)
from exotide.stack.policies import autoscaler_policy, discovery_policy

from .conftest import ROOT

KEYS = {"exoscale_key": "EXO0123456789abcdef", "exoscale_secret": "secret-0123456789"}
KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKdF2hm0UKXGQpSLXW7bE0Yq1o0vQ1bX7nq7wYl3a9uE"
SHOWN = ("max_size", "price_per_hour", "base_per_hour", "member_per_hour", "destroy_after")
TYPES = sorted(INSTANCE_PER_HOUR)
Evaluate = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
HOURS = 730


def linked(folder: Path, *files: str, outputs: Mapping[str, str]) -> None:
    """Make a module of some of a module's files, with outputs that show what is inside."""
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / Path(file).name).symlink_to(ROOT / file)
    shown = {name: {"value": f"${{{each}}}", "sensitive": True} for name, each in outputs.items()}
    if shown:
        (folder / "shown.tf.json").write_text(json.dumps({"output": shown}))


@pytest.fixture(scope="session")
def evaluate(terraform: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Apply variables.tf and limits.tf with several sets of variables at once."""
    outputs = {name: f"local.{name}" for name in SHOWN}

    def evaluated(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("limits")
        linked(folder / "limits", "variables.tf", "limits.tf", outputs=outputs)
        names = [f"case{number}" for number in range(len(cases))]
        modules = {
            name: {"source": "./limits", **KEYS, **case}
            for name, case in zip(names, cases, strict=True)
        }
        shown = {name: {"value": f"${{module.{name}}}", "sensitive": True} for name in names}
        (folder / "main.tf.json").write_text(json.dumps({"module": modules, "output": shown}))
        terraform(folder, "init", "-no-color")
        terraform(folder, "apply", "-auto-approve", "-no-color")
        answer = json.loads(terraform(folder, "output", "-json"))
        return [answer[name]["value"] for name in names]

    return evaluated


@pytest.fixture(scope="session")
def refusal(
    terraform: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Plan with these variables; gives what is said when that is refused, else nothing."""
    folder = tmp_path_factory.mktemp("refused")
    linked(folder, "variables.tf", "limits.tf", outputs={})
    terraform(folder, "init", "-no-color")

    def said(**variables: str) -> str:
        try:
            terraform(folder, "plan", "-no-color", **(KEYS | variables))
        except AssertionError as error:
            return " ".join(re.sub(r"[│╷╵]", " ", str(error)).split())
        return ""

    return said


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("exoscale_key", ["", "EXO", "exo0123", "EXO 123"]),
        ("name", ["", "Web", "1web", "w" * 21, "web_1"]),
        ("zone", ["", "vienna", "AT-VIE-1", "at-vie-100"]),
        ("template", ["", "  "]),
        ("member_instance_type", ["micro", "standard.", "Standard.Micro"]),
        ("monitoring_instance_type", ["small", ".small"]),
        ("disk_gib", ["9", "401", "10.5"]),
        ("min_size", ["0", "1.5", "-1"]),
        ("max_size", ["0", "1001", "2.5"]),
        ("alerting", ["", "prometheus", "Grafana"]),
        ("grafana_version", ["", "12", "12.4", "latest", "12.4.x", "12.4.1 && true"]),
        ("operator_cidr", ["", "192.0.2.7", "192.0.2.7/24", "192.0.2.0/33", "all"]),
        ("ssh_public_key", ["AAAA", "ssh-ed25519", f"{KEY_LINE} a\nb", "-----BEGIN KEY-----"]),
        ("interval_s", ["0", "86401"]),
        ("cooldown_s", ["-1", "86401"]),
        ("intent_ttl_s", ["0", "86401"]),
        ("budget_eur_per_month", ["-1"]),
        ("time_to_live_h", ["-1", "8761"]),
        ("slowapp_environment", ['{"1A":"x"}', '{"A B":"x"}', '{"A":"x\\ny"}', '{"A":"\\u0007"}']),
        ("agents_api_endpoint", ["api.example", "ftp://x/v2", "http://x/a b", 'http://x/"']),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_the_name_of_its_variable(
    refusal: Callable[..., str], variable: str, values: list[str]
) -> None:
    for value in values:
        said = refusal(**{variable: value})
        assert re.search(rf"{variable} (must|needs) ", said), (value, said)


@pytest.mark.parametrize("value", ["", "short", "with blank inside"])
def test_a_secret_that_cannot_work_is_refused_and_never_shown(
    refusal: Callable[..., str], value: str
) -> None:
    said = refusal(exoscale_secret=value)
    assert "exoscale_secret must be" in said
    assert not value or value not in said


AGENTS = {"agents_key": "EXO0123456789", "agents_secret": "secret-of-the-agents"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"agents_key": AGENTS["agents_key"]}, "agents_key and agents_secret belong together"),
        (
            {"agents_secret": AGENTS["agents_secret"]},
            "agents_key and agents_secret belong together",
        ),
        (AGENTS | {"agents_key": "my key"}, "agents_key must be an API key"),
        (
            AGENTS | {"agents_secret": "with blanks"},
            "agents_secret must be the secret of agents_key",
        ),
        (AGENTS | {"agents_secret": "short"}, "agents_secret must be the secret of agents_key"),
    ],
)
def test_a_key_for_the_agents_is_a_whole_one_or_none_and_no_secret_is_shown(
    refusal: Callable[..., str], variables: dict[str, str], words: str
) -> None:
    said = refusal(**variables)
    assert words in said
    for name, value in variables.items():
        assert name != "agents_secret" or value not in said


def test_every_validated_variable_has_such_a_test() -> None:
    text = (ROOT / "variables.tf").read_text()
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    validated = {name for name, body in blocks if "validation {" in body}
    marks = test_a_value_that_cannot_work_is_refused_by_the_name_of_its_variable.pytestmark
    assert validated == {name for name, _ in marks[0].args[1]}
    assert {name for name, body in blocks if "default" not in body} == set(KEYS)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"min_size": "3", "max_size": "2"}, r"max_size \(2\) must be at least min_size \(3\)"),
        ({"budget_eur_per_month": "49"}, r"does not pay for min_size \(1\): at least 50 is needed"),
        ({"budget_eur_per_month": "99", "member_instance_type": "gpu.small"},
         r"needs a known price of gpu.small and standard.small; known: cpu.extra-large"),
    ],
)  # fmt: skip
def test_limits_that_cannot_hold_are_refused_with_what_would(
    refusal: Callable[..., str], variables: dict[str, str], words: str
) -> None:
    assert re.search(words, refusal(**variables))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ssh_public_key": f"{KEY_LINE} me@host\n"},
        {"ssh_public_key": "sk-ssh-ed25519@openssh.com AAAAGnNr"},
        AGENTS,
        {"operator_cidr": "2001:db8::/32"},
        {"operator_cidr": "192.0.2.7/32"},
        {"slowapp_environment": '{"A":"ü \\" $ \\\\ \\t ` # \'"}'},
        {"agents_api_endpoint": "http://198.18.0.1:8480/v2"},
        {"budget_eur_per_month": "50", "max_size": "1000"},
    ],
)
def test_what_is_right_is_taken(refusal: Callable[..., str], variables: dict[str, str]) -> None:
    assert refusal(**variables) == ""


def test_null_means_the_default(evaluate: Evaluate) -> None:
    (plain, nulls) = evaluate([{}, {"max_size": None, "disk_gib": None, "time_to_live_h": None}])
    assert nulls == plain
    assert plain["destroy_after"] == ""


def test_the_prices_are_those_of_the_price_table(evaluate: Evaluate) -> None:
    (shown,) = evaluate([{}])
    prices = stack_prices()
    assert shown["price_per_hour"] == INSTANCE_PER_HOUR
    assert shown["base_per_hour"] == pytest.approx(prices.base)
    assert shown["member_per_hour"] == pytest.approx(prices.member)


def per_hour(case: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """Base and member, by the price table, exactly."""
    disk = Decimal(str(DISK_PER_GIB_HOUR)) * case["disk_gib"]
    member, monitoring = (
        Decimal(str(INSTANCE_PER_HOUR[case[f"{role}_instance_type"]])) + disk
        for role in ("member", "monitoring")
    )
    return Decimal(str(LOAD_BALANCER_PER_HOUR)) + monitoring, member


@st.composite
def budgets(draw: st.DrawFn) -> dict[str, Any]:
    """Variables with a budget that pays for min_size; often exactly for some size."""
    case: dict[str, Any] = {
        "member_instance_type": draw(st.sampled_from(TYPES)),
        "monitoring_instance_type": draw(st.sampled_from(TYPES)),
        "disk_gib": draw(st.integers(10, 400)),
        "min_size": draw(st.integers(1, 5)),
    }
    case["max_size"] = draw(st.integers(case["min_size"], 40))
    base, member = per_hour(case)
    size = draw(st.integers(case["min_size"], 50))
    more = draw(st.sampled_from([Decimal(0), member / 3, member - Decimal("0.0001")]))
    paid = ((base + size * member + more) * HOURS).quantize(Decimal("0.00001"))
    return case | {"budget_eur_per_month": float(paid)}


@settings(max_examples=3, deadline=None)
@given(cases=st.lists(budgets(), min_size=15, max_size=25))
def test_a_budget_lowers_the_largest_size_to_what_it_pays_for(
    evaluate: Evaluate, cases: list[dict[str, Any]]
) -> None:
    for case, shown in zip(cases, evaluate(cases), strict=True):
        base, member = per_hour(case)
        budget = Decimal(str(case["budget_eur_per_month"]))
        sizes = ((budget / HOURS - base) / member + Decimal("0.000001")).quantize(
            Decimal(1), rounding=ROUND_FLOOR
        )
        assert shown["max_size"] == min(case["max_size"], int(sizes)), case
        assert (base + shown["max_size"] * member) * HOURS <= budget + Decimal("0.01")


@pytest.mark.parametrize("one_pool", [True, False])
def test_the_keys_policies_are_those_of_stacks_that_the_sdk_makes(
    terraform: Callable[..., str], tmp_path: Path, *, one_pool: bool
) -> None:
    files = ("terraform/access/variables.tf", "terraform/access/policies.tf")
    linked(tmp_path / "access", *files, outputs={"policies": "local.policies"})
    folder, given_variables = tmp_path / "access", {"name": "web", "pool_id": "POOL"}
    given_variables |= {"one_pool": str(one_pool).lower(), "max_size": "5"}
    terraform(folder, "init", "-no-color")
    terraform(folder, "apply", "-auto-approve", "-no-color", **given_variables)
    shown = json.loads(terraform(folder, "output", "-json"))["policies"]["value"]
    policies = {
        agent: {name.replace("_", "-"): each for name, each in policy.items()}
        for agent, policy in shown.items()
    }
    pool_id = "POOL" if one_pool else None
    assert policies == {
        "servicediscovery": discovery_policy(pool_id),
        "autoscaler": autoscaler_policy(pool_id, max_size=5),
    }


def test_every_file_has_terraform_s_own_format(terraform: Callable[..., str]) -> None:
    terraform(ROOT, "fmt", "-check", "-recursive", os.fspath(ROOT))

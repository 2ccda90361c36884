"""Settings that cannot work are refused before anything is called."""

from __future__ import annotations

from typing import Any

import pytest

from exotide.stack import StackSettings
from exotide.stack.errors import SettingsError

KEY: dict[str, Any] = {"key": "EXOkey", "secret": "hidden-secret"}


def test_key_and_secret_are_enough() -> None:
    settings = StackSettings(**KEY)
    assert settings.api_url == "https://api-at-vie-1.exoscale.com/v2"
    assert settings.agent_api_url == settings.api_url


def test_the_endpoint_is_used_verbatim_and_the_servers_may_have_their_own() -> None:
    settings = StackSettings(
        **KEY,
        endpoint="http://127.0.0.1:4000/z/at-vie-1/v2",
        agent_endpoint="http://198.18.3.1:4000/z/at-vie-1/v2",
    )
    assert settings.api_url == "http://127.0.0.1:4000/z/at-vie-1/v2"
    assert settings.agent_api_url == "http://198.18.3.1:4000/z/at-vie-1/v2"


def test_all_problems_are_listed_at_once_with_name_and_value() -> None:
    with pytest.raises(SettingsError) as caught:
        StackSettings(key="", secret="", name="Bad Name", min_size=3, max_size=2, speed=0)
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "key",
        "secret",
        "name",
        "max_size",
        "speed",
    ]
    assert "max_size         must be at least min_size (3), got: 2" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "127.0.0.1:4000/v2"),
        ("endpoint", "ftp://host/v2"),
        ("agent_endpoint", "http:///v2"),
        ("member_type", "micro"),
        ("operator_cidr", "10.0.0.1/8"),
        ("disk_gib", 9),
        ("min_size", 0),
        ("speed", float("nan")),
        ("speed", float("inf")),
        ("interval_s", -1),
        ("cooldown_s", -1),
        ("drain_s", -1),
        ("drain_s", 3601),
        ("template", " "),
        ("zone", ""),
        ("agents_key", "EXOalone"),
        ("agents_secret", "alone"),
        ("slowapp_env", {"LOAD SECONDS": "3"}),
        ("slowapp_env", {"LOAD_SECONDS": "3\nEVIL=1"}),
    ],
)
def test_a_value_that_cannot_work_is_named(field: str, value: object) -> None:
    settings: dict[str, Any] = {**KEY, field: value}
    with pytest.raises(SettingsError, match=field):
        StackSettings(**settings)


@pytest.mark.parametrize("field", ["secret", "agents_secret", "webhook_token"])
def test_a_secret_is_never_shown(field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        StackSettings(**{**KEY, field: "pass\nword"})
    assert "word" not in str(caught.value)
    agents = {"agents_key": "EXOagents"} if field == "agents_secret" else {}
    shown = repr(StackSettings(**{**KEY, **agents, field: "pass-word"}))
    assert "pass-word" not in shown
    assert "hidden-secret" not in shown

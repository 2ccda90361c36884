from __future__ import annotations

from pathlib import Path

import pytest
from exotide_autoscaler.domain import Policy
from exotide_autoscaler.errors import SettingsError
from exotide_autoscaler.settings import read_settings
from hypothesis import given
from hypothesis import strategies as st

CONTRACT = {
    "EXOSCALE_KEY": "EXOkey",
    "EXOSCALE_SECRET": "very-secret",
    "EXOSCALE_ZONE": "at-vie-1",
    "EXOSCALE_ZONE_ID": "70e5f8b1-0b2c-4457-a5e0-88bcf1f3db68",
    "EXOSCALE_INSTANCEPOOL_ID": "6e1a1ac6-9d93-43ae-a250-43392d8a90d4",
    "LISTEN_PORT": "8090",
    "TARGET_PORT": "9100",
}


def problems(**changes: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as raised:
        read_settings({**CONTRACT, **changes})
    return dict(raised.value.problems)


def test_nothing_but_the_contract_s_variables_is_needed() -> None:
    settings = read_settings(CONTRACT)
    assert settings.endpoint == "https://api-at-vie-1.exoscale.com/v2"
    assert settings.listen_port == 8090
    assert settings.policy == Policy()
    assert settings.journal is None
    assert settings.default_journal == Path("/srv/autoscaler/journal.sqlite")


def test_everything_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({})
    names = [name for name, _ in raised.value.problems]
    assert names == [
        "EXOSCALE_ZONE",
        "EXOSCALE_KEY",
        "EXOSCALE_SECRET",
        "EXOSCALE_INSTANCEPOOL_ID",
    ]
    assert str(raised.value).startswith("4 settings are missing or wrong\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_PORT", "0"),
        ("LISTEN_PORT", "65536"),
        ("LISTEN_PORT", "http"),
        ("EXOTIDE_METRICS_PORT", "-1"),
        ("EXOTIDE_INTERVAL_S", "0"),
        ("EXOTIDE_INTERVAL_S", "nan"),
        ("EXOTIDE_COOLDOWN_S", "-1"),
        ("EXOTIDE_INTENT_TTL_S", "inf"),
        ("EXOTIDE_MIN_SIZE", "0"),
        ("EXOTIDE_MAX_SIZE", "2.5"),
        ("EXOTIDE_LOG_LEVEL", "loud"),
        ("EXOTIDE_SETTLE_S", "900"),
        ("EXOTIDE_SETTLE_S", "soon"),
        ("EXOTIDE_ALERT_HOLDS_S", "-1"),
        ("EXOTIDE_ENFORCE_LIMITS", "maybe"),
        ("EXOTIDE_STRICT_BODIES", "2"),
        ("EXOSCALE_ZONE", "evil.example/"),
        ("EXOSCALE_INSTANCEPOOL_ID", "../instance"),
        ("EXOSCALE_API_ENDPOINT", "ftp://host/v2"),
        ("EXOSCALE_API_ENDPOINT", "http://host:port/v2"),
        ("EXOTIDE_WEBHOOK_TOKEN", "line\nbreak"),
    ],
)
def test_a_wrong_value_is_told_with_its_name(name: str, value: str) -> None:
    assert list(problems(**{name: value})) == [name]


def test_limits_that_contradict_each_other_are_told() -> None:
    found = problems(EXOTIDE_MIN_SIZE="3", EXOTIDE_MAX_SIZE="2")
    assert found == {"EXOTIDE_MAX_SIZE": "must be at least EXOTIDE_MIN_SIZE (3), got: 2"}
    assert list(problems(EXOTIDE_METRICS_PORT="8090")) == ["EXOTIDE_METRICS_PORT"]


def test_only_limits_that_somebody_set_hold_without_a_webhook() -> None:
    policy = read_settings({**CONTRACT, "EXOTIDE_MAX_SIZE": "10"}).policy
    assert (policy.holds_min, policy.holds_max) == (False, True)
    off = {"EXOTIDE_MIN_SIZE": "2", "EXOTIDE_ENFORCE_LIMITS": "0"}
    policy = read_settings({**CONTRACT, **off}).policy
    assert (policy.holds_min, policy.holds_max) == (False, False)


@given(st.floats(0.1, 86_400))
def test_a_pool_has_always_less_time_to_settle_than_a_request_to_live(ttl_s: float) -> None:
    policy = read_settings({**CONTRACT, "EXOTIDE_INTENT_TTL_S": str(ttl_s)}).policy
    assert policy.settle_s < policy.request_ttl_s
    assert policy.settle_s <= 600


def test_the_other_names_of_the_key_and_an_own_endpoint_work_without_a_zone() -> None:
    environ = {
        "EXOSCALE_API_KEY": "EXOkey",
        "EXOSCALE_API_SECRET": "very-secret",
        "EXOSCALE_API_ENDPOINT": "http://198.18.0.1:8080/z/at-vie-1/v2",
        "EXOSCALE_INSTANCEPOOL_ID": CONTRACT["EXOSCALE_INSTANCEPOOL_ID"],
        "STATE_DIRECTORY": "/var/lib/exotide-autoscaler",
    }
    settings = read_settings(environ)
    assert settings.endpoint == "http://198.18.0.1:8080/z/at-vie-1/v2"
    assert settings.default_journal == Path("/var/lib/exotide-autoscaler/journal.sqlite")


def test_secrets_are_never_shown() -> None:
    settings = read_settings({**CONTRACT, "EXOTIDE_WEBHOOK_TOKEN": "hook-token"})
    assert "very-secret" not in repr(settings)
    assert "hook-token" not in repr(settings)

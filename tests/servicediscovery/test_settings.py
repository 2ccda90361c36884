"""Settings: every problem at once, and no secret in any message."""

from __future__ import annotations

import pytest
from exotide_servicediscovery.errors import SettingsError
from exotide_servicediscovery.settings import read_settings

CONTRACT = {
    "EXOSCALE_KEY": "EXOkey",
    "EXOSCALE_SECRET": "hidden",
    "EXOSCALE_ZONE": "at-vie-1",
    "EXOSCALE_ZONE_ID": "4da1b188-dcd6-4ff5-b7fd-bde984055548",
    "EXOSCALE_INSTANCEPOOL_ID": "6E1A1AC6-9d93-43ae-a250-43392d8a90d4",
    "LISTEN_PORT": "8090",
    "TARGET_PORT": "9100",
}


def problems(**environ: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read_settings({**CONTRACT, **environ})
    return dict(caught.value.problems)


def test_the_contracts_variables_are_enough() -> None:
    settings = read_settings(CONTRACT)
    assert settings.endpoint == "https://api-at-vie-1.exoscale.com/v2"
    assert settings.pool_id == "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
    assert (settings.target_port, settings.refresh_s) == (9100, 10)
    assert str(settings.targets_file) == "/srv/service-discovery/config.json"
    assert (settings.metrics_address, settings.metrics_port) == ("0.0.0.0", 9177)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match="5 settings are missing or wrong") as caught:
        read_settings({})
    for name in (
        "EXOSCALE_KEY",
        "EXOSCALE_SECRET",
        "EXOSCALE_ZONE",
        "EXOSCALE_INSTANCEPOOL_ID",
        "TARGET_PORT",
    ):
        assert f"\n  {name} " in str(caught.value)


def test_the_other_names_of_key_and_secret_work() -> None:
    environ = {
        **CONTRACT,
        "EXOSCALE_KEY": "",
        "EXOSCALE_SECRET": "",
        "EXOSCALE_API_KEY": "EXOother",
        "EXOSCALE_API_SECRET": "other",
    }
    settings = read_settings(environ)
    assert (settings.key, settings.secret) == ("EXOother", "other")


def test_metrics_listen_where_everything_listens_unless_told_otherwise() -> None:
    listen = {"EXOTIDE_LISTEN_ADDRESS": "127.0.0.1"}
    assert read_settings({**CONTRACT, **listen}).metrics_address == "127.0.0.1"
    both = {**listen, "EXOTIDE_METRICS_ADDRESS": "::1"}
    assert read_settings({**CONTRACT, **both}).metrics_address == "::1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("TARGET_PORT", "0", id="port-0"),
        pytest.param("TARGET_PORT", "65536", id="port-too-big"),
        pytest.param("TARGET_PORT", "9100.5", id="port-fraction"),
        pytest.param("TARGET_PORT", "http", id="port-name"),
        pytest.param("EXOTIDE_REFRESH_S", "0", id="refresh-0"),
        pytest.param("EXOTIDE_REFRESH_S", "nan", id="refresh-nan"),
        pytest.param("EXOTIDE_REFRESH_S", "10s", id="refresh-unit"),
        pytest.param("EXOTIDE_METRICS_PORT", "-1", id="metrics-port"),
        pytest.param("EXOTIDE_TARGETS_FILE", "config.json", id="relative-file"),
        pytest.param("EXOSCALE_INSTANCEPOOL_ID", "web", id="pool-name"),
        pytest.param("EXOSCALE_ZONE", "evil.example/", id="zone"),
        pytest.param("EXOSCALE_API_ENDPOINT", "api.exoscale.com", id="no-scheme"),
        pytest.param("EXOSCALE_API_ENDPOINT", "ftp://x/v2", id="ftp"),
        pytest.param("EXOSCALE_API_ENDPOINT", "http://[::1", id="no-url"),
        pytest.param("EXOSCALE_API_ENDPOINT", "http://x:99999/v2", id="no-port"),
        pytest.param("EXOSCALE_API_ENDPOINT", "http://u:p@x/v2", id="with-password"),
        pytest.param("EXOSCALE_KEY", "EXO key", id="key-with-blank"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    assert set(problems(**{name: value})) >= {name}


def test_an_endpoint_is_used_as_it_is() -> None:
    environ = {**CONTRACT, "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:8000/z/at-vie-1/v2"}
    assert read_settings(environ).endpoint == "http://127.0.0.1:8000/z/at-vie-1/v2"


def test_a_secret_is_in_no_message_and_no_representation() -> None:
    assert "hid den" not in str(problems(EXOSCALE_SECRET="hid den"))
    assert "hidden" not in repr(read_settings(CONTRACT))

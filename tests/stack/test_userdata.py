"""What the servers find when they boot."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import yaml

from exotide.stack import StackError, StackSettings
from exotide.stack.alerting import monitoring_files
from exotide.stack.userdata import (
    AgentKey,
    AgentKeys,
    member_user_data,
    monitoring_user_data,
)

SETTINGS = StackSettings(key="EXOkey", secret="hidden", endpoint="http://198.18.0.1:4000/v2")

KEYS = AgentKeys(
    autoscaler=AgentKey(key="EXOscaler", secret="scaling"),
    discovery=AgentKey(key="EXOdiscovery", secret="looking"),
)


def files(user_data: str) -> dict[str, dict[str, Any]]:
    text = base64.b64decode(user_data).decode()
    assert text.startswith("#cloud-config\n")
    return {item["path"]: item for item in yaml.safe_load(text)["write_files"]}


def env(item: dict[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in item["content"].splitlines())


def monitoring(**changes: Any) -> dict[str, dict[str, Any]]:
    settings = {"key": "EXOkey", "secret": "hidden", **changes}
    return files(monitoring_user_data(StackSettings(**settings), pool_id="the-pool", keys=KEYS))


def test_the_monitoring_server_gets_every_file_below_srv() -> None:
    found = monitoring()
    assert all(path.startswith("/srv/") for path in found)
    for name, text in monitoring_files().items():
        assert found[f"/srv/{name}"]["content"] == text


def test_only_root_may_read_what_holds_a_secret() -> None:
    found = monitoring(webhook_token="t0ken")
    secret = {path for path, item in found.items() if item["permissions"] == "0600"}
    assert secret == {
        "/srv/alertmanager/webhook.token",
        "/srv/service-discovery/agent.env",
        "/srv/autoscaler/agent.env",
    }
    for path, item in found.items():
        words = set(re.split(r"[\s=]", item["content"]))
        assert path in secret or not {"t0ken", "scaling", "looking"} & words
        assert "hidden" not in words


def test_alertmanager_and_autoscaler_share_a_token_that_nobody_chose() -> None:
    first, second = monitoring(), monitoring()
    token = first["/srv/alertmanager/webhook.token"]["content"]
    assert env(first["/srv/autoscaler/agent.env"])["EXOTIDE_WEBHOOK_TOKEN"] == token
    assert len(token) >= 32
    assert second["/srv/alertmanager/webhook.token"]["content"] != token


def test_a_given_token_is_used() -> None:
    assert monitoring(webhook_token="t0ken")["/srv/alertmanager/webhook.token"]["content"] == (
        "t0ken"
    )


def test_each_agent_has_its_own_key_and_reaches_the_pool_at_the_servers_endpoint() -> None:
    found = monitoring(endpoint="http://127.0.0.1:1/v2", agent_endpoint="http://198.18.0.1:1/v2")
    keys = {"service-discovery": KEYS.discovery, "autoscaler": KEYS.autoscaler}
    for agent, key in keys.items():
        settings = env(found[f"/srv/{agent}/agent.env"])
        assert settings["EXOSCALE_INSTANCEPOOL_ID"] == "the-pool"
        assert settings["EXOSCALE_API_ENDPOINT"] == "http://198.18.0.1:1/v2"
        assert settings["EXOSCALE_KEY"] == key.key
        assert settings["EXOSCALE_SECRET"] == key.secret
        assert settings["TARGET_PORT"] == "9100"


@pytest.mark.parametrize(
    ("speed", "interval", "ttl", "refresh"),
    [(1, "60", "900", "10"), (6, "10", "150", "1.66667")],
)
def test_the_agents_clocks_run_at_the_stacks_speed(
    speed: float, interval: str, ttl: str, refresh: str
) -> None:
    found = monitoring(speed=speed)
    autoscaler = env(found["/srv/autoscaler/agent.env"])
    assert autoscaler["EXOTIDE_INTERVAL_S"] == interval
    assert autoscaler["EXOTIDE_INTENT_TTL_S"] == ttl
    assert env(found["/srv/service-discovery/agent.env"])["EXOTIDE_REFRESH_S"] == refresh


def test_webhooks_are_taken_only_from_the_server_itself() -> None:
    autoscaler = env(monitoring()["/srv/autoscaler/agent.env"])
    assert autoscaler["EXOTIDE_LISTEN_ADDRESS"] == "127.0.0.1"
    assert autoscaler["EXOTIDE_METRICS_ADDRESS"] == "0.0.0.0"
    assert (autoscaler["LISTEN_PORT"], autoscaler["EXOTIDE_METRICS_PORT"]) == ("8090", "8091")


def test_a_member_gets_the_slow_apps_environment() -> None:
    settings = StackSettings(key="EXOkey", secret="x", slowapp_env={"LOAD_SECONDS": "2"})
    (path,) = found = files(member_user_data(settings))
    assert path == "/srv/slowapp/slowapp.env"
    assert env(found[path]) == {"DRAIN_SECONDS": "20", "LOAD_SECONDS": "2"}


@pytest.mark.parametrize(
    ("more", "drain"),
    [
        ({}, "20"),
        ({"speed": 6}, "3.33333"),
        ({"speed": 10, "drain_s": 5}, "0.5"),
        ({"speed": 6, "slowapp_env": {"DRAIN_SECONDS": "7"}}, "7"),
    ],
)
def test_a_member_drains_at_the_stacks_speed_unless_told_otherwise(
    more: dict[str, Any], drain: str
) -> None:
    settings = StackSettings(key="EXOkey", secret="x", **more)
    (content,) = files(member_user_data(settings)).values()
    assert env(content)["DRAIN_SECONDS"] == drain


@pytest.mark.parametrize("speed", [1, 6])
def test_user_data_leaves_half_of_the_apis_room_for_what_comes(speed: float) -> None:
    settings = StackSettings(key="EXOkey", secret="x" * 43, speed=speed)
    assert len(monitoring_user_data(settings, pool_id="the-pool", keys=KEYS)) <= 32_768 / 2


def test_user_data_that_the_api_would_refuse_is_refused_here() -> None:
    settings = StackSettings(key="EXOkey", secret="x", slowapp_env={"LONG": "x" * 25_000})
    with pytest.raises(StackError, match=r"at most 32768 .* got: 33"):
        member_user_data(settings)

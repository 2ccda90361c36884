"""Cloud-config for the stack's servers: configuration only, every file below /srv."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import yaml

from .alerting import monitoring_files
from .errors import StackError
from .settings import StackSettings

USER_DATA_LIMIT: Final = 32_768
"""Characters of base64 that the API takes."""
EXPORTER_PORT: Final = 9100
APP_PORT: Final = 8080
WEBHOOK_PORT: Final = 8090
STATUS_PORT: Final = 8091
DISCOVERY_PORT: Final = 8092
PROMETHEUS_PORT: Final = 9090
ALERT_HOLDS_S: Final = 330.0
"""A bit more than the five minutes between two webhooks of an alert that still fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKey:
    """An API key that one agent on the monitoring server carries."""

    key: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys:
    """The keys of both agents."""

    autoscaler: AgentKey
    discovery: AgentKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFile:
    """One file of a server."""

    path: str
    """Below /srv."""
    content: str
    permissions: str = "0644"


class StackText(Protocol):
    """Writes user-data as the API takes it: base64 of text or of gzip."""

    def member(self) -> str:
        """User-data of the pool's members."""

    def monitoring(self, *, pool_id: str, keys: AgentKeys) -> str:
        """User-data of the monitoring server of a pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerText:
    """Adapter of StackText: what servers of the local cloud need that are processes."""

    settings: StackSettings

    def member(self) -> str:
        return member_user_data(self.settings)

    def monitoring(self, *, pool_id: str, keys: AgentKeys) -> str:
        return monitoring_user_data(self.settings, pool_id=pool_id, keys=keys)


def member_user_data(settings: StackSettings) -> str:
    """User-data of the pool's members, as the API takes it."""
    drain_s = _seconds(settings.drain_s / settings.speed)
    env = {"DRAIN_SECONDS": drain_s, **settings.slowapp_env}
    return _encoded([_secretive("slowapp/slowapp.env", env_lines(env))])


def monitoring_user_data(settings: StackSettings, *, pool_id: str, keys: AgentKeys) -> str:
    """
    User-data of the monitoring server, as the API takes it.

    Raises:
        StackError: if it is larger than the API allows.
    """
    token = settings.webhook_token or secrets.token_urlsafe(32)
    files = monitoring_files(speed=settings.speed, folder=settings.monitoring_folder)
    return _encoded(
        [
            *(ServerFile(path=path, content=text) for path, text in files.items()),
            _secretive("alertmanager/webhook.token", token),
            _secretive(
                "service-discovery/agent.env",
                env_lines(discovery_env(settings, pool_id=pool_id, key=keys.discovery)),
            ),
            _secretive(
                "autoscaler/agent.env",
                env_lines(
                    autoscaler_env(settings, pool_id=pool_id, key=keys.autoscaler, token=token)
                ),
            ),
        ]
    )


def discovery_env(settings: StackSettings, *, pool_id: str, key: AgentKey) -> dict[str, str]:
    """Environment of the service discovery."""
    return _agent_env(settings, pool_id=pool_id, key=key) | {
        "EXOTIDE_REFRESH_S": _seconds(settings.refresh_s / settings.speed),
        "EXOTIDE_TARGETS_FILE": "/srv/service-discovery/config.json",
        "EXOTIDE_METRICS_PORT": str(DISCOVERY_PORT),
        "EXOTIDE_METRICS_ADDRESS": "127.0.0.1",
    }


def autoscaler_env(
    settings: StackSettings, *, pool_id: str, key: AgentKey, token: str
) -> dict[str, str]:
    """Environment of the autoscaler: webhooks only from this server, status for the operator."""
    return _agent_env(settings, pool_id=pool_id, key=key) | {
        "LISTEN_PORT": str(WEBHOOK_PORT),
        "EXOTIDE_LISTEN_ADDRESS": "127.0.0.1",
        "EXOTIDE_METRICS_PORT": str(STATUS_PORT),
        "EXOTIDE_METRICS_ADDRESS": "0.0.0.0",
        "EXOTIDE_INTERVAL_S": _seconds(settings.interval_s / settings.speed),
        "EXOTIDE_COOLDOWN_S": _seconds(settings.cooldown_s / settings.speed),
        "EXOTIDE_INTENT_TTL_S": _seconds(settings.intent_ttl_s / settings.speed),
        "EXOTIDE_ALERT_HOLDS_S": _seconds(ALERT_HOLDS_S / settings.speed),
        "EXOTIDE_MIN_SIZE": str(settings.min_size),
        "EXOTIDE_MAX_SIZE": str(settings.max_size),
        "EXOTIDE_JOURNAL": "/srv/autoscaler/journal.sqlite",
        "EXOTIDE_WEBHOOK_TOKEN": token,
    }


def env_lines(values: Mapping[str, str]) -> str:
    """Write KEY=value lines."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def cloud_config(files: list[ServerFile]) -> str:
    """Write a cloud-config that puts these files below /srv."""
    writes = [
        {
            "path": f"/srv/{file.path}",
            "permissions": file.permissions,
            "owner": "root:root",
            "content": file.content,
        }
        for file in files
    ]
    body = yaml.safe_dump({"write_files": writes}, sort_keys=False, allow_unicode=True)
    return f"#cloud-config\n{body}"


def _agent_env(settings: StackSettings, *, pool_id: str, key: AgentKey) -> dict[str, str]:
    return {
        "EXOSCALE_KEY": key.key,
        "EXOSCALE_SECRET": key.secret,
        "EXOSCALE_ZONE": settings.zone,
        "EXOSCALE_API_ENDPOINT": settings.agent_api_url,
        "EXOSCALE_INSTANCEPOOL_ID": pool_id,
        "TARGET_PORT": str(EXPORTER_PORT),
    }


def _secretive(path: str, content: str) -> ServerFile:
    return ServerFile(path=path, content=content, permissions="0600")


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.6g}"


def _encoded(files: list[ServerFile]) -> str:
    text = base64.b64encode(cloud_config(files).encode()).decode("ascii")
    if len(text) > USER_DATA_LIMIT:
        raise StackError(
            f"user-data must be at most {USER_DATA_LIMIT} characters of base64, got: {len(text)}"
        )
    return text

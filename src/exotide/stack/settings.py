"""What a stack is made of."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .errors import SettingsError

DEFAULT_ZONE: Final = "at-vie-1"
ZONE: Final = re.compile(r"[a-z]{2}-[a-z]{2,4}-[0-9]{1,2}")
"""What Exoscale's zones look like: ch-dk-2, at-vie-1. The name becomes part of a host's."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,19}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPE: Final = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """
    Describes one stack on one endpoint. Times in seconds at speed 1.

    Raises:
        SettingsError: listing every value that cannot work.
    """

    key: str
    """API key that creates the stack; it stays here, and reaches no server."""
    secret: str = field(repr=False)
    agents_key: str = ""
    """API key that both agents use. Empty: each gets its own, for which `key` needs iam."""
    agents_secret: str = field(default="", repr=False)
    agents_one_pool: bool = True
    """Whether keys that are made are good for the stack's pool alone."""
    endpoint: str = ""
    """Base URL with its path, used verbatim. Empty: the real cloud's, by zone."""
    agent_endpoint: str = ""
    """The endpoint as the servers reach it. Empty: the same as `endpoint`."""
    http_port: int = 80
    """Where the balancer's port 80 is reached; a local cloud without root serves it elsewhere."""
    zone: str = DEFAULT_ZONE
    name: str = "exotide"
    """Begins the name of each resource, and is how they are found again."""
    member_type: str = "standard.micro"
    monitoring_type: str = "standard.small"
    template: str = "Linux Debian 12 (Bookworm) 64-bit"
    disk_gib: int = 10
    min_size: int = 1
    """The pool starts with this size, too."""
    max_size: int = 10
    interval_s: float = 60.0
    """Time between two passes of the autoscaler."""
    cooldown_s: float = 0.0
    intent_ttl_s: float = 900.0
    refresh_s: float = 10.0
    """Time between two looks of the service discovery at the pool."""
    speed: float = 1.0
    """Divides every interval: the agents', the alerts' and the repeats'."""
    drain_s: float = 20.0
    """How long a member that stops serves on with a failing health check; divided by the speed."""
    slowapp_env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the slow app on each member, such as LOAD_SECONDS."""
    webhook_token: str = field(default="", repr=False)
    """What Alertmanager shows to the autoscaler. Empty: a random one for each monitoring server."""
    operator_cidr: str = "0.0.0.0/0"
    """Who may open Prometheus and the autoscaler's status."""
    monitoring_folder: Path | None = None
    """Where the monitoring files at speed 1 are. None: those that come with the kit."""

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise SettingsError(problems)

    @property
    def api_url(self) -> str:
        """Where the kit calls the API."""
        return (self.endpoint or f"https://api-{self.zone}.exoscale.com/v2").rstrip("/")

    @property
    def agent_api_url(self) -> str:
        """Where the agents on the monitoring server call the API."""
        return (self.agent_endpoint or self.api_url).rstrip("/")

    @property
    def members_name(self) -> str:
        """Name of the members' security group."""
        return f"{self.name}-members"

    @property
    def monitoring_name(self) -> str:
        """Name of the monitoring server and of its security group."""
        return f"{self.name}-monitoring"

    @property
    def autoscaler_name(self) -> str:
        """Name of the autoscaler's IAM role and of its API key."""
        return f"{self.name}-autoscaler"

    @property
    def discovery_name(self) -> str:
        """Name of the service discovery's IAM role and of its API key."""
        return f"{self.name}-service-discovery"


def _problems(settings: StackSettings) -> list[str]:
    return [*_text_problems(settings), *_number_problems(settings), *_env_problems(settings)]


def _text_problems(settings: StackSettings) -> list[str]:
    checks = [
        (_one_line(settings.key), "key", "must be one line; set EXOSCALE_KEY"),
        (_one_line(settings.secret), "secret", "must be one line; set EXOSCALE_SECRET"),
        (
            bool(settings.agents_key) == bool(settings.agents_secret),
            "agents_key",
            "belongs to agents_secret: set both, or neither for keys that the stack makes",
        ),
        (
            not settings.agents_key or _one_line(settings.agents_key),
            "agents_key",
            "must be one line",
        ),
        (
            not settings.agents_secret or _one_line(settings.agents_secret),
            "agents_secret",
            "must be one line",
        ),
        (_NAME.fullmatch(settings.name), "name", f"must match {_NAME.pattern}"),
        (ZONE.fullmatch(settings.zone), "zone", "must look like at-vie-1 or ch-dk-2"),
        (settings.template.strip(), "template", "not set; a name of the zone's templates"),
        (_url(settings.endpoint), "endpoint", "must be a URL such as https://HOST/v2"),
        (_url(settings.agent_endpoint), "agent_endpoint", "must be a URL such as http://HOST/v2"),
        (_TYPE.fullmatch(settings.member_type), "member_type", "must be FAMILY.SIZE"),
        (_TYPE.fullmatch(settings.monitoring_type), "monitoring_type", "must be FAMILY.SIZE"),
        (_cidr(settings.operator_cidr), "operator_cidr", "must be a network such as 192.0.2.0/24"),
        (
            not settings.webhook_token
            or (_one_line(settings.webhook_token) and settings.webhook_token.isascii()),
            "webhook_token",
            "must be printable ASCII, as it goes into a header",
        ),
    ]
    return [_line(settings, name, problem) for fine, name, problem in checks if not fine]


def _number_problems(settings: StackSettings) -> list[str]:
    checks = [
        (1 <= settings.http_port <= 65_535, "http_port", "must be from 1 to 65535"),
        (settings.disk_gib >= 10, "disk_gib", "must be at least 10"),
        (settings.min_size >= 1, "min_size", "must be at least 1"),
        (
            settings.max_size >= settings.min_size,
            "max_size",
            f"must be at least min_size ({settings.min_size})",
        ),
        (_positive(settings.interval_s), "interval_s", "must be above 0"),
        (_positive(settings.intent_ttl_s), "intent_ttl_s", "must be above 0"),
        (_positive(settings.refresh_s), "refresh_s", "must be above 0"),
        (_positive(settings.speed), "speed", "must be above 0"),
        (0 <= settings.drain_s <= 3600, "drain_s", "must be from 0 to 3600"),
        (
            settings.cooldown_s == 0 or _positive(settings.cooldown_s),
            "cooldown_s",
            "must be at least 0",
        ),
    ]
    return [_line(settings, name, problem) for fine, name, problem in checks if not fine]


def _env_problems(settings: StackSettings) -> list[str]:
    return [
        f"{'slowapp_env':<16} needs NAME=one line, got: {name}={value}"
        for name, value in settings.slowapp_env.items()
        if not _VARIABLE.fullmatch(name) or (value and not _one_line(value))
    ]


def _line(settings: StackSettings, name: str, problem: str) -> str:
    shown = (
        ""
        if name in {"secret", "agents_secret", "webhook_token"}
        else f", got: {getattr(settings, name)!r}"
    )
    return f"{name:<16} {problem}{shown}"


def _one_line(text: str) -> bool:
    return bool(text) and text == text.strip() and text.isprintable()


def _url(text: str) -> bool:
    parts = urlsplit(text)
    return not text or (
        parts.scheme in {"http", "https"} and bool(parts.hostname) and _one_line(text)
    )


def _cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _positive(number: float) -> bool:
    return math.isfinite(number) and number > 0

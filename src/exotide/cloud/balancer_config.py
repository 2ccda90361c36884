"""HAProxy's configuration for one service; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from exotide.cloud.ports import HealthCheck, ServiceSpec
from exotide.cloud.servers.errors import UnsupportedService

Manner = Literal["attentive", "plain"]
"""
attentive: told of each change of its pool, it lets who leaves finish, and hides from clients that a
member does not answer. plain: nobody tells it anything, so it goes by its checks alone.
"""
LISTENER: Final = "EXOTIDE_LISTENER"
"""Variable that tells HAProxy the number of its listening socket."""
LOOK_AGAIN_MS: Final = 100
"""Pause between two checks of a member that does not answer: a newcomer is noticed at once."""
LEAST_INTERVAL_MS: Final = 100
BALANCE: Final = {
    # Members come and go at run time, which HAProxy's static hashes do not allow.
    "round-robin": ("balance roundrobin",),
    "source-hash": ("balance source", "hash-type consistent"),
    "maglev-hash": ("balance source", "hash-type consistent"),
}

TEMPLATE: Final = """\
global
    stats socket {socket} mode 600 level admin
    stats timeout 1h
    maxconn 4000
    nbthread 1
    hard-stop-after 60s
    spread-checks 0

defaults
    mode tcp
    timeout connect 3s
    timeout client 10m
    timeout server 10m
    timeout check {timeout_ms}ms
    option clitcpka
    option srvtcpka
{retries}

frontend service
    # {port}
    bind fd@"${{{listener}}}"
    default_backend members

backend members
{lines}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One member as HAProxy names it."""

    name: str
    """Unique for each join, so that an address may come back while its old self is drained."""
    ip: str


def check_service(service: ServiceSpec) -> None:
    """Raise UnsupportedService for what HAProxy in TCP mode cannot do."""
    if service.protocol != "tcp":
        raise UnsupportedService(
            f"service {service.name}: the local balancer does protocol tcp only, "
            f"got: {service.protocol}"
        )
    if service.strategy not in BALANCE:
        raise UnsupportedService(
            f"service {service.name}: strategy must be one of {', '.join(BALANCE)}, "
            f"got: {service.strategy}"
        )
    if service.healthcheck.mode not in {"tcp", "http", "https"}:
        raise UnsupportedService(
            f"service {service.name}: healthcheck.mode must be tcp, http or https, "
            f"got: {service.healthcheck.mode}"
        )


def render(
    service: ServiceSpec,
    *,
    socket: Path,
    members: Sequence[Line],
    speed: float,
    manner: Manner = "attentive",
) -> str:
    """Write the configuration of one service with the members that have traffic already."""
    lines = [*BALANCE[service.strategy], *_http_check(service.healthcheck)]
    lines += [
        f"server {member.name} {member.ip}:{service.target_port} "
        + check_words(service, speed, manner)
        for member in members
    ]
    return TEMPLATE.format(
        socket=socket,
        timeout_ms=max(1, round(service.healthcheck.timeout_s * 1000)),
        listener=LISTENER,
        port=service.port,
        retries="    retries 0" if manner == "plain" else "    option redispatch 1\n    retries 3",
        lines="\n".join(f"    {line}" for line in lines),
    )


def check_words(service: ServiceSpec, speed: float, manner: Manner = "attentive") -> str:
    """
    Say how a member is checked; the interval runs on the demo's clock.

    The real API's documentation does not say what it counts as a retry: a plain balancer takes the
    reading that is harder on clients, and looks no sooner at a member that failed.
    """
    check = service.healthcheck
    interval_ms = max(LEAST_INTERVAL_MS, round(check.interval_s / speed * 1000))
    fall, again_ms = max(1, check.retries), min(interval_ms, LOOK_AGAIN_MS)
    if manner == "plain":
        fall, again_ms = check.retries + 1, interval_ms
    tls = " check-ssl verify none" if check.mode == "https" else ""
    return (
        f"check port {check.port} inter {interval_ms}ms downinter {again_ms}ms "
        f"fall {fall} rise 1{tls}"
    )


def _http_check(check: HealthCheck) -> tuple[str, ...]:
    if check.mode == "tcp":
        return ()
    return (f"option httpchk GET {check.uri or '/'}", "http-check expect status 200")

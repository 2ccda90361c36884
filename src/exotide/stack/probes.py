"""Whether the stack works, seen from outside: the balancer's health checks, Prometheus' targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx2

from .api import Api, Json, connect
from .model import Stack
from .resources import BALANCER, POOL, get
from .settings import StackSettings
from .userdata import EXPORTER_PORT
from .waiting import Patience

READY_LIMIT_S: Final = 300.0
"""The contract's patience for healthy backends and for scraped members."""
_QUICK: Final = Patience(longest_s=1.0, limit_s=READY_LIMIT_S)
_TIMEOUT_S: Final = 5.0


def wait_healthy(
    settings: StackSettings, stack: Stack, *, patience: Patience = _QUICK
) -> tuple[str, ...]:
    """
    Wait until the balancer calls every member of the pool healthy; gives their addresses.

    Raises:
        TookTooLong: with the health last seen.
        Interrupted: if patience.stop is set.
    """
    seen: dict[str, bool] = {}
    with connect(settings, patience) as api:

        def look() -> tuple[str, ...] | None:
            seen.clear()
            seen.update(_health(api, stack))
            wanted = get(api, POOL, stack.pool_id)["size"]
            healthy = len(seen) == wanted and all(seen.values())
            return tuple(sorted(seen)) if healthy else None

        return patience.until(look, what="health of all backends", state=lambda: _shown(seen))


def wait_prometheus(
    settings: StackSettings, stack: Stack, *, patience: Patience = _QUICK
) -> tuple[str, ...]:
    """
    Wait until Prometheus has `up` = 1 for every member and for no other; gives the targets.

    Raises:
        TookTooLong: with the targets last seen.
        Interrupted: if patience.stop is set.
    """
    seen: dict[str, bool] = {}
    with connect(settings, patience) as api:

        def look() -> tuple[str, ...] | None:
            seen.clear()
            seen.update(_targets(stack))
            members = {f"{ip}:{EXPORTER_PORT}" for ip in member_ips(api, stack)}
            wanted = get(api, POOL, stack.pool_id)["size"]
            scraped = len(members) == wanted and set(seen) == members and all(seen.values())
            return tuple(sorted(seen)) if scraped else None

        return patience.until(look, what="Prometheus scraping", state=lambda: _shown(seen))


def member_ips(api: Api, stack: Stack) -> list[str]:
    """Addresses of the pool's members, as the API knows them."""
    members = api.call("list_instances", manager_id=stack.pool_id, manager_type="instance-pool")
    return sorted(item["public-ip"] for item in members["instances"] if item.get("public-ip"))


def _health(api: Api, stack: Stack) -> dict[str, bool]:
    services: list[Json] = get(api, BALANCER, stack.nlb_id).get("services", [])
    return {
        status["public-ip"]: status["status"] == "success"
        for service in services
        if service["id"] == stack.service_id
        for status in service.get("healthcheck-status", [])
    }


def _targets(stack: Stack) -> dict[str, bool]:
    """Nothing while Prometheus does not answer: it may still be starting."""
    query = {"query": 'up{job="members"}'}
    try:
        answer = httpx2.get(
            f"{stack.prometheus_url}/api/v1/query", params=query, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        result = answer.json()["data"]["result"]
    except (httpx2.HTTPError, ValueError, KeyError):
        return {}
    return {item["metric"]["instance"]: item["value"][1] == "1" for item in result}


def _shown(seen: Mapping[str, bool]) -> str:
    return ", ".join(f"{name} {'up' if fine else 'down'}" for name, fine in seen.items()) or "none"

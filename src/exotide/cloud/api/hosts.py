"""
Which zone a request is for, and where answers say that zones are.

Direct mode: `http://HOST:PORT/v2` is the default zone, `http://HOST:PORT/z/<zone>/v2` any zone.
Proxy mode: `https://<anything>-<zone>.exoscale.com/v2`, and `https://api.exoscale.com/v2` for the
default zone, as on the real cloud.
"""

from __future__ import annotations

import re
from typing import Final

from exotide.cloud.api.catalogue import ZONES
from exotide.cloud.api.errors import NotFound

_PROXIED: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.exoscale\.com\.?(?::443)?", re.IGNORECASE)
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


def zone_of_host(host: str, default_zone: str) -> str:
    """
    Return the zone that a host name in a tunnel stands for.

    Raises:
        NotFound: The name is not one of the API's.
    """
    match = _PROXIED.fullmatch(host)
    name = match["name"].lower() if match else ""
    if name == "api":
        return default_zone
    for zone in ZONES:
        if name.endswith(f"-{zone}"):
            return zone
    raise NotFound(f"no such host here: {host}; the API is at api-<zone>.exoscale.com")


def zone_endpoint(zone: str, *, scheme: str, host: str, server: tuple[str, int | None]) -> str:
    """
    Return a zone's base URL, reachable for whoever sent the request.

    Args:
        zone: Of the catalogue.
        scheme: https in a tunnel, http else.
        host: The header of the request; may hold anything.
        server: Address and port that the request came in on.
    """
    if scheme == "https":
        return f"https://api-{zone}.exoscale.com/v2"
    place = host if _HOST.fullmatch(host) else f"{server[0]}:{server[1]}"
    return f"http://{place}/z/{zone}/v2"

"""Zones: where each one's API is found."""

from __future__ import annotations

from exotide.cloud.api.catalogue import ZONES
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World


def list_zones(_: World, call: Call) -> dict[str, object]:
    """List all zones, with endpoints that the client can reach; no signature is needed."""
    return {
        "zones": [
            {
                "name": zone,
                "api-endpoint": call.endpoint_of(zone),
                "sos-endpoint": f"https://sos-{zone}.exo.io",
            }
            for zone in ZONES
        ]
    }


ENDPOINTS = (
    Endpoint(method="GET", path="/zone", operation="list-zones", handler=list_zones, public=True),
)

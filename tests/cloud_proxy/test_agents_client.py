"""The agents reach the local cloud by the real one's address, as every official tool does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from exotide_autoscaler.client import Client
from exotide_autoscaler.errors import CloudUnavailable, PoolNotFound

from exotide.cloud.proxy.environment import environment
from exotide.cloud.proxy.tls import Tls
from exotide.cloud.testing import RunningCloud

REAL = "https://api-at-vie-1.exoscale.com/v2"


def read(cloud: RunningCloud, environ: dict[str, str], *, endpoint: str = REAL) -> Any:
    async def whole() -> Any:
        access = cloud.access
        client = Client(access.key, access.secret, endpoint=endpoint, timeout_s=10, environ=environ)
        try:
            first = await client.read("list-load-balancers", "/load-balancer")
            assert await client.read("list-load-balancers", "/load-balancer") == first
            with pytest.raises(PoolNotFound):
                await client.change(
                    "scale-instance-pool",
                    "/instance-pool/6e1a1ac6-9d93-43ae-a250-43392d8a90d4:scale",
                    {"size": 2},
                )
            return first
        finally:
            await client.close()

    return asyncio.run(whole())


def test_the_variables_of_proxy_mode_lead_the_agents_to_the_local_cloud(
    cloud: RunningCloud, tls: Tls
) -> None:
    environ = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
    assert read(cloud, environ) == {"load-balancers": []}


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_one_variable_for_the_authority_is_enough(cloud: RunningCloud, tls: Tls, name: str) -> None:
    proxy = f"http://127.0.0.1:{cloud.access.port}"
    environ = {"HTTPS_PROXY": proxy, name: str(tls.ca_file)}
    assert read(cloud, environ) == {"load-balancers": []}


def test_without_the_authority_nothing_is_said_to_a_server_that_claims_to_be_exoscale(
    cloud: RunningCloud,
) -> None:
    environ = {"HTTPS_PROXY": f"http://127.0.0.1:{cloud.access.port}"}
    with pytest.raises(CloudUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        read(cloud, environ)


def test_the_proxy_lets_the_agents_reach_nobody_else(cloud: RunningCloud, tls: Tls) -> None:
    environ = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
    with pytest.raises(CloudUnavailable, match="the proxy answered 403"):
        read(cloud, environ, endpoint="https://example.com/v2")


def test_in_direct_mode_the_same_shell_goes_by_no_proxy(cloud: RunningCloud, tls: Tls) -> None:
    environ = environment(cloud.access, ca_file=tls.ca_file, mode="proxy")
    assert read(cloud, environ, endpoint=cloud.access.endpoint) == {"load-balancers": []}

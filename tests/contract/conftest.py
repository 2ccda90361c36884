"""
The clouds that keep one contract: ours on fakes and on real processes, and the real Exoscale.

The real one is asked only with `pytest tests/contract --exoscale` and a key in EXOSCALE_API_KEY and
EXOSCALE_API_SECRET (EXOSCALE_ZONE, default at-vie-1). It costs money; how much is printed first.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import structlog
from exoscale.api.v2 import Client

from exotide.cloud import drivers
from exotide.cloud.api.world import Pace
from exotide.cloud.balancer_config import Manner
from exotide.cloud.drivers import Name, Wanted
from exotide.cloud.testing import RunningCloud, running_cloud

from .site import DISK_GIB, Site

CREDENTIALS: Final = ("EXOSCALE_API_KEY", "EXOSCALE_API_SECRET")
SSH: Final = 22
NODE_EXPORTER: Final = 9100
CLOUDS: Final = [
    "fake",
    pytest.param("processes", marks=pytest.mark.root),
    "loopback",
    "exoscale",
]


@pytest.fixture(scope="session", params=CLOUDS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with _site(request.param, request.config) as site:
        try:
            yield site
        finally:
            site.clean()
        assert site.left() == []
        site.client.http_client.close()
    structlog.reset_defaults()


@contextmanager
def _site(cloud: str, config: pytest.Config) -> Iterator[Site]:
    if cloud == "exoscale":
        yield from _real(config)
    elif cloud == "fake":
        with running_cloud() as running:
            yield _emulated(running, poll_s=0.01)
    else:
        if cloud == "processes" and os.geteuid() != 0:
            pytest.skip("NOT TESTED: servers with namespaces need root; run as root")
        with _machines("processes" if cloud == "processes" else "loopback") as running:
            yield _emulated(running, poll_s=0.1)


@contextmanager
def _machines(driver: Name) -> Iterator[RunningCloud]:
    """A cloud of real processes in this one; its folder has a short path for Unix sockets."""
    run_dir = Path(tempfile.mkdtemp(prefix="exo-"))
    # One with each manner: what the real balancer does is not public.
    balancer: Manner = "plain" if driver == "processes" else "attentive"
    wanted = Wanted(cloud_id=uuid.uuid4().hex[:6], run_dir=run_dir, balancer=balancer)
    made = drivers.make(driver, wanted)
    pace = Pace(speed=6, stop_grace_s=1)
    try:
        with running_cloud(servers=made.servers, balancers=made.balancers, pace=pace) as running:
            yield running
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _emulated(running: RunningCloud, *, poll_s: float) -> Site:
    access = running.access
    return Site(
        client=Client(access.key, access.secret, url=running.url),
        zone=access.zone,
        open_port=NODE_EXPORTER,
        poll_s=poll_s,
        patience_s=60,
        cloud=running,
    )


def _real(config: pytest.Config) -> Iterator[Site]:
    if not config.getoption("--exoscale"):
        pytest.skip("NOT TESTED against the real Exoscale: that needs --exoscale and a key")
    key, secret = (os.environ[name] for name in CREDENTIALS)
    zone = os.environ.get("EXOSCALE_ZONE", "at-vie-1")
    yield Site(
        client=Client(key, secret, zone=zone),
        zone=zone,
        open_port=SSH,
        poll_s=3,
        patience_s=600,
    )


@pytest.fixture(scope="session")
def group(site: Site) -> str:
    """A security group that lets the load balancer's checks in."""
    client = site.client
    key = site.done(client.create_security_group(name=f"{site.prefix}-group"))
    site.done(
        client.add_rule_to_security_group(
            id=key,
            flow_direction="ingress",
            protocol="tcp",
            network="0.0.0.0/0",
            start_port=site.open_port,
            end_port=site.open_port,
        )
    )
    return key


@pytest.fixture(scope="session")
def only_pool(site: Site, group: str) -> str:
    """One pool for all tests, since servers cost time and, on the real cloud, money."""
    return site.done(
        site.client.create_instance_pool(
            name=f"{site.prefix}-pool",
            instance_prefix=site.prefix,
            size=1,
            security_groups=[{"id": group}],
            description=f"contract, {DISK_GIB} GiB",
            **site.plan(),
        )
    )


@pytest.fixture
def pool(site: Site, only_pool: str) -> str:
    """The pool with exactly one member."""
    if len(site.members(only_pool)) != 1:
        site.scale(only_pool, 1)
    return only_pool


@pytest.fixture(scope="session")
def balancer(site: Site) -> str:
    return site.done(site.client.create_load_balancer(name=f"{site.prefix}-nlb"))

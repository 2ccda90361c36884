"""One stack for all tests of this folder; it is destroyed, and nothing may be left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from exotide.stack import destroy
from tests.terraform.conftest import render, terraform

from .deployed import PATIENCE, Deployed, Render, Rendered, settings_for, variables_for
from .site import clouds, eventually, traces

__all__ = ["render", "terraform"]

TIMES: Final = pytest.StashKey[list[str]]()
LISTS: Final = {
    "instances": "list_instances",
    "instance-pools": "list_instance_pools",
    "load-balancers": "list_load_balancers",
    "security-groups": "list_security_groups",
    "iam-roles": "list_iam_roles",
    "api-keys": "list_api_keys",
}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TIMES] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("NOT TESTED: machines need root; run as root")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell how long each part of the whole took."""
    if lines := config.stash[TIMES]:
        terminalreporter.section("a stack on machines: wall times")
        for line in lines:
            terminalreporter.line(line)


def grafana_package() -> Path:
    """The package file of Grafana that this machine was given for the tests."""
    named = os.environ.get("EXOTIDE_GRAFANA_DEB", "")
    if not named:
        pytest.skip("NOT TESTED: Grafana on machines; set EXOTIDE_GRAFANA_DEB to a package file")
    return Path(named)


@pytest.fixture(scope="package", params=["alertmanager", "grafana"])
def deployed(
    request: pytest.FixtureRequest, render: Render, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The stack, as soon as everything answers."""
    alerting = str(request.param)
    more = ("--machine-packages", str(grafana_package())) if alerting == "grafana" else ()
    with clouds() as begin:
        # Members have a real systemd here, so they are all that keeps requests from being lost.
        cloud = begin("--speed", "20", "--balancer", "plain", *more)
        folder = tmp_path_factory.mktemp(alerting)
        text = Rendered(
            render=render, variables=variables_for(cloud, alerting=alerting, folder=folder)
        )
        made = Deployed(cloud=cloud, alerting=alerting, settings=settings_for(cloud), text=text)
        with made.timed("create until all members are healthy"):
            made.create()
            made.await_healthy()
        with made.timed("from then until Prometheus has all members"):
            made.await_scraped()
        yield made
        with made.timed("destroy"):
            destroy(made.settings, patience=PATIENCE)
        request.config.stash[TIMES] += [
            f"{alerting}: {what}: {took_s:.1f} s" for what, took_s in made.took_s.items()
        ]
        nothing_is_left(made)


def nothing_is_left(made: Deployed) -> None:
    client, cloud_id = made.cloud.client, made.cloud.cloud_id
    left = {kind: getattr(client, listing)()[kind] for kind, listing in LISTS.items()}
    assert not any(left.values()), f"destroy left {left}"
    for server in (made.stack.monitoring_id, made.stack.nlb_id):
        assert traces(server[:8]) == []
    made.cloud.end()
    eventually(lambda: traces(cloud_id) == [] or None, within_s=5, what="the end of all traces")

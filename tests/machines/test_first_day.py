"""
The first day on a cloud that is not as we expect, on Debian 13.

Its policies know the pool by no name of ours, and Grafana's repository cannot be had. One story,
told once, since a stack costs half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from exotide.stack import create, destroy

from .conftest import nothing_is_left
from .deployed import PATIENCE, Deployed, Render, Rendered, settings_for, variables_for
from .grafana import HOST, grafana_repository
from .mirror import Day, mirrored
from .site import clouds, eventually, fetch
from .test_faults import eventually_answers, reboot, shown

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

WANTED, OFFERED = "12.4.12", "12.4.13"
READINGS = ("--iam", "no-path-parameters", "--iam", "no-resources")
FIRST = "/gpg-full.key"
"""What is asked of Grafana's repository first."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was seen, in order."""

    release: str
    served: str | None
    """By the load balancer, while the monitoring server could not read its second half."""
    refused: dict[str, Any]
    scraped: tuple[str, ...]
    """Members in Prometheus, while Grafana could not be had."""
    cloud_init: str
    without: dict[str, Any]
    page: httpx2.Response
    """At Grafana's port."""
    status: httpx2.Response
    """At the autoscaler's."""
    failed_units: str
    version: str
    health: str | None
    tries: int
    rebooted: dict[str, Any]
    grafana_s_restarts: str


@pytest.fixture(scope="module")
def story(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("first-day")
    repository = grafana_repository(folder / "grafana", version=OFFERED)
    with clouds() as begin:
        cloud = begin("--speed", "20", "--machine-release", "trixie", *READINGS)
        variables = variables_for(cloud, alerting="grafana", folder=folder / "bundle")
        text = Rendered(
            render=render,
            variables=variables | {"grafana_version": WANTED},
            edit_monitoring=lambda text: repository.believed(text, cloud),
        )
        site = Deployed(cloud=cloud, alerting="grafana", settings=settings_for(cloud), text=text)
        days = [Day.MISSING] * 1000
        mirror_of = mirrored(
            cloud, repository.served, first=FIRST, days=days, port=443, tls=repository.tls
        )
        with mirror_of as mirror:
            site.create()
            site.await_healthy()
            url = site.stack.autoscaler_url
            refused = eventually(
                lambda: shown(url) if shown(url).get("error") else None,
                within_s=60,
                what="the missing right on the page",
            )
            served = fetch(f"{site.stack.url}/health")
            site.settings = replace(site.settings, agents_one_pool=False)
            create(site.settings, text=text, patience=PATIENCE)
            scraped = site.await_scraped()
            without = eventually(
                lambda: site.bootstrap() if site.bootstrap().get("error") else None,
                within_s=60,
                what="Grafana's absence in the state",
            )
            server, grafana = site.monitoring, f"http://{site.stack.monitoring_ip}:3000"
            errors = server.finished()["errors"]
            assert errors == [], errors
            seen: dict[str, Any] = {
                "release": server.says("cat", "/etc/debian_version"),
                "cloud_init": server.says("cloud-init", "status", "--long"),
                "page": eventually_answers(grafana),
                "status": eventually_answers(url),
                "failed_units": server.says("systemctl", "--failed", "--no-legend"),
            }
            mirror.days = days[: mirror.begun]
            site.await_bootstrap()
            health = fetch(f"{grafana}/api/health")
            tries = mirror.begun
        reboot(server)
        site.await_bootstrap()
        eventually(lambda: fetch(f"{grafana}/api/health"), within_s=30, what="Grafana")
        restarts = ("systemctl", "show", "--value", "--property=NRestarts", "grafana-server")
        yield Story(
            served=served,
            refused=refused,
            scraped=scraped,
            without=without,
            health=health,
            tries=tries,
            version=server.says("dpkg-query", "--show", "--showformat=${Version}", "grafana"),
            rebooted=site.bootstrap(),
            grafana_s_restarts=server.says(*restarts).strip(),
            **seen,
        )
        destroy(site.settings, patience=PATIENCE)
        nothing_is_left(site)


def test_debian_13_boots_the_same_user_data(story: Story) -> None:
    assert story.release.startswith("13")
    assert "status: done" in story.cloud_init
    assert story.failed_units == ""


def test_a_refused_read_names_the_missing_right_and_the_service_serves_meanwhile(
    story: Story,
) -> None:
    assert story.served == "OK"
    assert story.refused["now"] == "unpack the bundle"
    assert "no key of the agents has the right get-instance-pool" in story.refused["error"]
    assert "agents_one_pool = false" in story.refused["error"]
    assert "again in" in story.refused["error"]


def test_once_the_right_is_given_everything_works_but_grafana(story: Story) -> None:
    assert len(story.scraped) == 1
    assert story.without["now"] == "install Grafana"
    assert story.without["done"] == story.without["steps"][:-1]
    assert story.status.status_code == 200
    for words in ("<h1>Autoscaler", "install Grafana: ", "alerting = &quot;alertmanager&quot;"):
        assert words in story.status.text


def test_grafana_s_port_says_what_is_wrong_and_names_the_way_out(story: Story) -> None:
    assert story.page.status_code == 503
    for words in (f"{HOST}/gpg.key: HTTP Error 404", "alerting = &quot;alertmanager&quot;"):
        assert words in story.page.text


def test_grafana_is_installed_as_soon_as_it_can_be_had_by_a_key_of_the_right_fingerprint(
    story: Story,
) -> None:
    assert story.tries > 1
    assert story.version == OFFERED, "the version that was wanted is gone; a later patch is taken"
    assert story.health == '{"database": "ok"}\n'


def test_after_a_reboot_grafana_finds_its_port_free(story: Story) -> None:
    assert story.rebooted["done"] == story.rebooted["steps"]
    assert story.grafana_s_restarts == "0"

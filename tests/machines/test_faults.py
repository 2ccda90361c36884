"""What goes wrong with servers: mirrors, reboots, lost servers, rotated keys, failed steps."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client

from exotide.cloud.servers.machines.rootfs import CACHE, WHEELS
from exotide.cloud.servers.machines.servers import default_recipe
from exotide.stack.userdata import AgentKeys

from .deployed import Deployed, Render, Requests, as_it_is, text_of, variables_for
from .mirror import BEGINNING, Day, Mirror, mirrored, repository
from .site import Machine, clouds, eventually, fetch

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
with_alertmanager = pytest.mark.parametrize("deployed", ["alertmanager"], indirect=True)

EXPORTER = "prometheus-node-exporter"
ALERTMANAGER = "prometheus-alertmanager"
UNITS = (
    *("exotide-autoscaler", "exotide-servicediscovery", "exotide-bootstrap"),
    *("prometheus", ALERTMANAGER, EXPORTER),
)


def changed(text: str, **more: list[Any]) -> str:
    """Add to lists of a cloud-config: write_files at the end, commands at the beginning."""
    config = yaml.safe_load(text)
    for key, items in more.items():
        had = config.get(key, [])
        config[key] = had + items if key == "write_files" else items + had
    return f"#cloud-config\n{yaml.safe_dump(config)}"


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """How the monitoring server was lost, rebuilt with faults, and repaired."""

    size: int
    """What the pool was scaled to while nobody watched."""
    size_when_failed: int
    answers: list[str]
    """Of the service, all the time."""
    retrying: dict[str, Any]
    """The state on the page while a step was being tried again."""
    page: httpx2.Response
    state: httpx2.Response
    cloud_init: str
    journal: str
    mirrors_asked: tuple[int, int]
    """How often apt and pip began."""
    old: AgentKeys
    new: AgentKeys


@pytest.fixture(scope="module")
def rebuilt(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Rebuilt:
    """One loss of the server for all tests of it, since each costs half a minute."""
    deployed.await_bootstrap()
    cloud, old, root = deployed.cloud, deployed.text.keys, rootfs()
    packages = repository(root, tmp_path_factory.mktemp("apt"), ALERTMANAGER)
    requests = Requests(url=f"{deployed.stack.url}/health")
    assert old is not None
    with (
        requests.running(),
        mirrored(cloud, packages, first=BEGINNING, days=(Day.PAGE, Day.LATER)) as apt,
        mirrored(cloud, root / WHEELS, first="/", days=(Day.MISSING,)) as wheels,
        deployed.timed("monitoring server lost, rebuilt by failing mirrors, a failed step mended"),
    ):
        deployed.monitoring.delete()
        deployed.scale(2)
        deployed.text.edit_monitoring = lambda text: troubled(text, apt, wheels)
        deployed.create()
        deployed.text.edit_monitoring = as_it_is
        server, url = deployed.monitoring, deployed.stack.autoscaler_url
        retrying = eventually(
            lambda: shown(url) if shown(url)["error"] else None,
            within_s=60,
            what="a retry on the page",
        )
        errors = server.finished()["errors"]
        assert len(errors) == 1, errors
        size_when_failed = deployed.size()
        page, state = (eventually_answers(f"{url}/{path}") for path in ("", "state.json"))
        cloud_init = server.run("cloud-init", "status", "--long").stdout
        journal = server.says("journalctl", "--no-pager", "--unit=exotide-bootstrap")
        server.says("systemctl", "unmask", "prometheus")
        server.says("systemctl", "restart", "exotide-bootstrap")  # it would start by itself in 60 s
        deployed.await_bootstrap()
        deployed.await_scraped()
    new = deployed.text.keys
    assert new is not None
    return Rebuilt(
        size=2,
        size_when_failed=size_when_failed,
        retrying=retrying,
        answers=requests.answers,
        page=page,
        state=state,
        cloud_init=cloud_init,
        journal=journal,
        mirrors_asked=(apt.begun, wheels.begun),
        old=old,
        new=new,
    )


def rootfs() -> Path:
    """The root file system of all machines, which holds what mirrors have."""
    return CACHE / f"debian-{default_recipe().digest}"


def troubled(text: str, apt: Mirror, wheels: Mirror) -> str:
    """A package is missing, mirrors fail at first, and a unit cannot be started."""
    host = wheels.server_address[0]
    pip = f"[global]\nno-index = true\nfind-links = {wheels.url}/\ntrusted-host = {host!s}\n"
    return without_package(
        changed(
            text,
            bootcmd=[["cloud-init-per", "instance", "mask", "systemctl", "mask", "prometheus"]],
            write_files=[{"path": "/etc/pip.conf", "content": pip}],
        ),
        ALERTMANAGER,
        apt,
    )


def without_package(text: str, package: str, mirror: Mirror) -> str:
    """A package is not there yet, and has to come from this mirror."""
    source = f"deb [trusted=yes] {mirror.url} ./"
    return changed(
        text,
        write_files=[{"path": "/etc/apt/sources.list", "content": source}],
        runcmd=[
            ["rm", "--recursive", "--force", "/etc/apt/sources.list.d"],
            ["dpkg", "--purge", package],
        ],
    )


def shown(url: str) -> dict[str, Any]:
    """The state that the page tells."""
    try:
        answer = httpx2.get(f"{url}/state.json", trust_env=False, timeout=5)
    except httpx2.HTTPError:
        return {"error": None}
    return dict(answer.json())


def eventually_answers(url: str) -> httpx2.Response:
    def look() -> httpx2.Response | None:
        try:
            return httpx2.get(url, trust_env=False, timeout=5)
        except httpx2.HTTPError:
            return None

    return eventually(look, within_s=10, what=f"an answer of {url}")


@with_alertmanager
def test_the_pool_serves_and_keeps_its_size_while_nobody_watches(rebuilt: Rebuilt) -> None:
    assert len(rebuilt.answers) > 50
    assert set(rebuilt.answers) == {"200 OK"}
    assert rebuilt.size_when_failed == rebuilt.size


@with_alertmanager
def test_mirrors_that_fail_are_asked_again_and_the_page_says_so(
    deployed: Deployed, rebuilt: Rebuilt
) -> None:
    assert rebuilt.mirrors_asked[0] == 3
    assert rebuilt.mirrors_asked[1] > 1
    retries = re.findall(r": (install [a-z ]+): .*; again in (\d) s", rebuilt.journal)
    assert retries == [
        ("install packages", "2"),
        ("install packages", "4"),
        ("install the agents", "2"),
    ]
    assert rebuilt.retrying["now"] == "install packages"
    assert re.search(r"again in [24] s$", rebuilt.retrying["error"])
    arguments = deployed.monitoring.says("cat", f"/etc/default/{ALERTMANAGER}")
    assert "/srv/alertmanager/alertmanager.yml" in arguments, "the package took its own file"


@with_alertmanager
def test_a_failed_step_is_on_the_page_in_the_journal_and_in_cloud_init_s_status(
    rebuilt: Rebuilt,
) -> None:
    state = json.loads(rebuilt.state.text)
    assert (rebuilt.state.status_code, rebuilt.page.status_code) == (503, 503)
    assert (state["now"], state["finished"]) == ("start the services", False)
    assert "prometheus.service is masked" in state["error"]
    assert "<li>[now] start the services - FAILED: systemctl ended with 1" in rebuilt.page.text
    assert "<li>[done] install the agents</li>" in rebuilt.page.text
    assert "bootstrap failed: start the services: systemctl ended with 1" in rebuilt.journal
    assert "status: error" in rebuilt.cloud_init


@with_alertmanager
def test_keys_are_new_with_each_monitoring_server_and_the_old_ones_are_refused(
    deployed: Deployed, rebuilt: Rebuilt
) -> None:
    pool_id = deployed.stack.pool_id
    for old, new in (
        (rebuilt.old.autoscaler, rebuilt.new.autoscaler),
        (rebuilt.old.discovery, rebuilt.new.discovery),
    ):
        assert old.key != new.key
        with pytest.raises(ExoscaleAPIAuthException):
            Client(old.key, old.secret, url=deployed.cloud.url).get_instance_pool(id=pool_id)
        Client(new.key, new.secret, url=deployed.cloud.url).get_instance_pool(id=pool_id)


@with_alertmanager
def test_the_new_autoscaler_adopts_the_size_that_it_finds_and_goes_on_by_single_steps(
    deployed: Deployed, rebuilt: Rebuilt
) -> None:
    deployed.await_size(1, within_s=90)
    decisions = deployed.decisions()
    assert decisions[0]["size"] == rebuilt.size
    changes = [(each["size"], each["wanted"]) for each in decisions if each["reason"] == "alert"]
    assert changes == [(2, 1)]


@with_alertmanager
def test_a_reboot_of_the_monitoring_server_brings_everything_back_and_keeps_the_journal(
    deployed: Deployed,
) -> None:
    deployed.await_bootstrap()
    deployed.await_size(1, within_s=90)
    deployed.await_scraped()
    server, before = deployed.monitoring, deployed.decisions()
    made = server.says("stat", "-c", "%y", "/opt/exotide/venv/requirements.sha256")
    with deployed.timed("reboot of the monitoring server until it has fresh samples"):
        reboot(server)
        rebooted_at = time.time()
        deployed.await_bootstrap()
        fresh = f'timestamp(up{{job="members"}}) > {rebooted_at}'
        eventually(lambda: deployed.query(fresh) or None, within_s=30, what="a fresh sample")
    assert server.finished()["errors"] == []
    for unit in UNITS:
        server.says("systemctl", "is-active", unit)
    assert server.says("systemctl", "--failed", "--no-legend") == ""
    after = eventually(lambda: deployed.decisions() or None, within_s=10, what="the decisions")
    assert before
    assert after[: len(before)] == before
    assert {each["size"] for each in after[len(before) :]} <= {1}
    assert server.says("stat", "-c", "%y", "/opt/exotide/venv/requirements.sha256") == made


@with_alertmanager
def test_a_reboot_of_a_member_brings_the_application_back(deployed: Deployed) -> None:
    deployed.await_size(1, within_s=90)
    (member,) = deployed.members()
    with deployed.timed("reboot of a member until it is healthy"):
        reboot(member)
        eventually(
            lambda: fetch(f"{deployed.stack.url}/health"), within_s=60, what="the application"
        )
        deployed.await_healthy()
    deployed.await_scraped()
    for unit in ("slowapp", EXPORTER):
        member.says("systemctl", "is-active", unit)
    assert member.says("systemctl", "--failed", "--no-legend") == ""
    assert [each.id for each in deployed.members()] == [member.id]


def reboot(machine: Machine) -> None:
    first = machine.pid_1()
    machine.cloud.change("reboot_instance", id=machine.id)
    eventually(lambda: machine.pid_1() not in {None, first} or None, within_s=30, what="PID 1")


@with_alertmanager
def test_a_pool_whose_members_are_all_deleted_is_healthy_again(deployed: Deployed) -> None:
    client, dead = deployed.cloud.client, {each.id for each in deployed.members()}
    with deployed.timed("all members deleted until all are healthy"):
        for member in dead:
            client.delete_instance(id=member)
        eventually(
            lambda: not dead & {each.id for each in deployed.members()} or None,
            within_s=60,
            what="other members",
        )
        deployed.await_healthy()
    deployed.await_scraped()
    assert fetch(f"{deployed.stack.url}/health") == "OK"


LOCKER = """\
import fcntl, time
names = "apt/lists/lock", "dpkg/lock-frontend", "dpkg/lock"
files = [open(f"/var/lib/{name}", "w") for name in names]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
open("/run/locked", "w").close()
time.sleep(10)
"""
"""The image's own upgrades, which hold all of apt's locks."""
TROUBLE = f"""\
rm --recursive --force /etc/apt/sources.list.d
dpkg --purge {EXPORTER}
# Power was lost while another package was configured.
dpkg-query --status gpg | sed 's/^Status: .*/Status: install ok unpacked/' >/tmp/half
mv /tmp/half /var/lib/dpkg/updates/0000
mount -t tmpfs -o size=4k tmpfs /var/cache/apt/archives
systemd-run --quiet --no-block --property=DefaultDependencies=no python3 -c '{LOCKER}'
until [ -e /run/locked ]; do sleep 0.05; done
"""


def test_a_member_serves_at_once_and_installs_its_exporter_whatever_is_in_the_way(
    render: Render, tmp_path: Path
) -> None:
    with clouds() as begin:
        cloud = begin()
        variables = variables_for(cloud, alerting="alertmanager", folder=tmp_path / "bundle")
        packages = repository(rootfs(), tmp_path / "apt", EXPORTER)
        with mirrored(cloud, packages, first=BEGINNING, days=()) as mirror:
            text = text_of(render(variables)["member"])
            member = cloud.create("member", troubled_member(text, mirror))
            url = f"http://{member.ip}"
            eventually(lambda: fetch(f"{url}:8080/health"), within_s=30, what="the application")
            assert mirror.begun == 0
            assert member.finished()["errors"] == []
            told(member, "Could not get lock /var/lib/apt/lists/lock")
            told(member, "You don't have enough free space")
            mirror.days = (*[Day.FINE] * mirror.begun, Day.CORRUPT, Day.PAGE)
            member.says("umount", "/var/cache/apt/archives")
            metrics = eventually(lambda: fetch(f"{url}:9100/metrics"), within_s=120, what="metrics")
            assert mirror.begun == len(mirror.days) + 1
        assert "node_cpu_seconds_total" in metrics
        told(member, "Hash Sum mismatch")
        for unit in ("slowapp", EXPORTER):
            member.says("systemctl", "is-active", unit)
            member.says("systemctl", "is-enabled", unit)
        eventually(
            lambda: (
                member.run("systemctl", "is-active", "exporter-setup").stdout == "inactive\n"
                or None
            ),
            within_s=10,
            what="the end of the installation",
        )
        assert member.says("dpkg", "--audit") == ""
        assert member.says("systemctl", "--failed", "--no-legend") == ""


def troubled_member(text: str, mirror: Mirror) -> str:
    source = f"deb [trusted=yes] {mirror.url} ./"
    return changed(
        text,
        write_files=[{"path": "/etc/apt/sources.list", "content": source}],
        bootcmd=[["cloud-init-per", "instance", "trouble", "sh", "-c", TROUBLE]],
    )


def told(member: Machine, words: str) -> None:
    """Wait until the installation of the exporter has said so."""
    journal = ("journalctl", "--no-pager", "--unit=exporter-setup")
    eventually(lambda: words in member.says(*journal) or None, within_s=60, what=words)

"""The images at work: the acceptance contract's promises about containers, on a local cloud."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import OUTSIDE, Images, Site, Visit
from .podman import Container, Podman

NOTHING = "0" * 16
READ_ONLY = ("--read-only", "--read-only-tmpfs=false")
"""As docker means it: podman would let a container write to /tmp."""
HARDENED = (*READ_ONLY, "--cap-drop=ALL", "--security-opt=no-new-privileges")
AUTOSCALER = f"http://{OUTSIDE}:8090"


def eventually(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Containers work in real time: look ten times a second."""
    ends_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {within_s:g} s"
        time.sleep(0.1)


def ends_well(container: Container, within_s: float) -> None:
    code, took_s = container.stop()
    assert code == 0, container.logs()
    assert took_s < within_s


# The autoscaler. Each container is asked once, since the second change waits for a minute.


def test_up_grows_the_pool_by_one(podman: Podman, images: Images, site: Site, visit: Visit) -> None:
    site.resize(1)
    with podman.container(images["autoscaler"], env=site.contract(site.autoscaler)) as container:
        container.await_health()
        assert visit("GET", f"{AUTOSCALER}/up")[0] == 200
        eventually(lambda: site.pool()["size"] == 2)
        program = container.program("exotide-autoscaler")
        assert program["Pid"] == "1"
        assert program["Uid"].split() == ["10001"] * 4
        assert program["CapEff"] == NOTHING
        ends_well(container, within_s=30)


def test_down_shrinks_the_pool_by_one_also_under_an_init(
    podman: Podman, images: Images, site: Site, visit: Visit
) -> None:
    site.resize(2)
    env = site.contract(site.autoscaler) | {"LISTEN_PORT": "8091"}
    with podman.container(images["autoscaler"], "--init", env=env) as container:
        container.await_health()
        assert visit("POST", f"http://{OUTSIDE}:8091/down")[0] == 200
        eventually(lambda: site.pool()["size"] == 1)
        assert container.program("bin/exotide-autoscaler")["Pid"] != "1"
        ends_well(container, within_s=30)


def test_at_one_instance_down_is_ignored_also_in_a_container_that_may_nothing(
    podman: Podman, images: Images, site: Site, visit: Visit
) -> None:
    site.resize(1)
    env = site.contract(site.autoscaler)
    with podman.container(images["autoscaler"], *HARDENED, env=env) as container:
        container.await_health()
        assert visit("GET", f"{AUTOSCALER}/down")[0] == 200

        def decided() -> list[Any]:
            decisions = json.loads(visit("GET", f"{AUTOSCALER}/decisions")[1])["decisions"]
            return [each for each in decisions if each["intent"] == "down"]

        eventually(decided)
        assert {each["reason"] for each in decided()} == {"at-limit"}
        assert site.pool()["size"] == 1
        ends_well(container, within_s=30)


def test_what_was_acknowledged_is_done_by_the_next_container_on_the_same_volume(
    podman: Podman, images: Images, site: Site, visit: Visit
) -> None:
    site.resize(1)
    volume = "--volume=journal:/srv/autoscaler"
    env = site.contract(site.autoscaler) | {"EXOTIDE_INTERVAL_S": "1"}
    nowhere = env | {"EXOSCALE_API_ENDPOINT": "http://127.0.0.1:9/v2"}
    with podman.container(images["autoscaler"], volume, env=nowhere) as container:
        container.await_health()
        assert visit("GET", f"{AUTOSCALER}/up")[0] == 200
        ends_well(container, within_s=30)
    with podman.container(images["autoscaler"], volume, env=env):
        eventually(lambda: site.pool()["size"] == 2)


# Service discovery. Whoever owns what is mounted, it can write there.


def targets_in(file: Path) -> set[str]:
    return targets_of(file.read_text()) if file.exists() else set()


def targets_of(text: str) -> set[str]:
    return {target for group in json.loads(text) for target in group["targets"]}


def contract(site: Site) -> dict[str, str]:
    return site.contract(site.discovery)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder of the host that docker made for `-v`, since it was not there: root's."""
    folder = tmp_path / "service-discovery"
    folder.mkdir(mode=0o755)
    return folder


def at(folder: Path | str) -> str:
    return f"--volume={folder}:/srv/service-discovery"


def test_the_file_follows_the_pool_in_a_folder_of_root_s(
    podman: Podman, images: Images, site: Site, mounted: Path
) -> None:
    site.resize(2)
    file = mounted / "config.json"
    with podman.container(images["servicediscovery"], at(mounted), env=contract(site)) as container:
        eventually(lambda: len(targets_in(file)) == 2)
        assert targets_in(file) == site.targets()
        assert file.stat().st_mode & 0o777 == 0o644
        site.resize(3)
        # The contract allows 120 s; the default is a look every ten.
        eventually(lambda: len(targets_in(file)) == 3)
        assert targets_in(file) == site.targets()
        program = container.program("exotide-servicediscovery")
        assert program["Pid"] == "1"
        assert {program[f"Cap{each}"] for each in ("Eff", "Prm", "Bnd", "Inh", "Amb")} == {NOTHING}
        assert program["NoNewPrivs"] == "1"
        ends_well(container, within_s=10)


def test_it_writes_as_the_owner_of_a_folder_that_is_closed_to_others_also_under_an_init(
    podman: Podman, images: Images, site: Site, mounted: Path
) -> None:
    mounted.chmod(0o700)
    os.chown(mounted, 1234, 1234)
    with podman.container(
        images["servicediscovery"], "--init", at(mounted), env=contract(site)
    ) as container:
        eventually(lambda: targets_in(mounted / "config.json") == site.targets())
        program = container.program("bin/exotide-servicediscovery")
        assert program["Uid"].split() == program["Gid"].split() == ["1234"] * 4
        assert program["CapBnd"] == NOTHING
        ends_well(container, within_s=10)


@pytest.mark.parametrize(
    ("options", "owner"),
    [
        pytest.param((at("targets"), *READ_ONLY), "10001", id="named-volume"),
        pytest.param(("--user=10001:10001", *HARDENED, at("mine")), "10001", id="user"),
        pytest.param((*HARDENED, "--tmpfs=/srv/service-discovery"), "0", id="root-without-rights"),
    ],
)
def test_it_works_with_as_little_as_it_is_given(
    podman: Podman, images: Images, site: Site, options: tuple[str, ...], owner: str
) -> None:
    with podman.container(images["servicediscovery"], *options, env=contract(site)) as container:
        container.await_health()
        show = ("sh", "-c", "cat /srv/service-discovery/config.json || echo []")
        eventually(lambda: targets_of(container.output(*show)) == site.targets())
        program = container.program("exotide-servicediscovery")
        assert program["Uid"].split() == [owner] * 4
        assert program["CapEff"] == NOTHING
        ends_well(container, within_s=10)


# The web application, and what all have in common.


def test_the_web_application_serves_and_finishes_what_it_has_begun(
    podman: Podman, images: Images, visit: Visit
) -> None:
    env = {"LOAD_SECONDS": "2"}
    with (
        podman.container(images["slowapp"], *HARDENED, env=env) as container,
        ThreadPoolExecutor() as threads,
    ):
        container.await_health()
        assert visit("GET", f"http://{OUTSIDE}:8080/health") == (200, "OK")
        load = threads.submit(visit, "GET", f"http://{OUTSIDE}:8080/load")
        eventually(
            lambda: 'in_flight{path="/load"} 1' in visit("GET", f"http://{OUTSIDE}:8080/metrics")[1]
        )
        ends_well(container, within_s=15)
        assert load.result() == (200, "Load generation done.")


def test_a_health_check_tells_a_program_that_hangs_from_one_that_works(
    podman: Podman, images: Images, site: Site
) -> None:
    places = {
        "autoscaler": {"EXOTIDE_LISTEN_ADDRESS": OUTSIDE},
        "servicediscovery": {"EXOTIDE_METRICS_ADDRESS": OUTSIDE, "EXOTIDE_METRICS_PORT": "9178"},
        "slowapp": {"LISTEN_ADDRESS": OUTSIDE, "LISTEN_PORT": "8081"},
    }
    with ExitStack() as stack:
        containers = [
            stack.enter_context(
                podman.container(images[name], env=site.contract(site.discovery) | place)
            )
            for name, place in places.items()
        ]
        for container in containers:
            container.await_health()
            container.signal("STOP")
        # Each check gives up only after some seconds, so they run beside each other.
        with ThreadPoolExecutor() as threads:
            assert list(threads.map(Container.is_healthy, containers)) == [False] * 3
        for container in containers:
            container.signal("CONT")
            container.await_health()


def test_settings_that_are_wrong_end_a_container_at_once_and_say_why(
    podman: Podman, images: Images, site: Site
) -> None:
    for name in ("autoscaler", "servicediscovery"):
        with podman.container(images[name], env=contract(site) | {"EXOSCALE_KEY": ""}) as container:
            eventually(lambda: not container.is_running())
            assert "EXOSCALE_KEY" in container.logs()
            assert site.discovery.secret not in container.logs()
            assert container.stop()[0] == 2

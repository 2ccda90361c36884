"""A cloud whose servers have no process: the API is whole, and anyone may run it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.v2 import Client

from exotide.cloud.directory import living
from exotide.cloud.emulated import EmulatedBalancers, EmulatedServers
from exotide.cloud.ports import OutOfAddresses
from exotide.cloud.testing import RunningCloud, running_cloud

from .conftest import Account

EXOTIDE = [sys.executable, "-c", "from exotide.cli import main; main()"]


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    servers, balancers = EmulatedServers(), EmulatedBalancers()
    with running_cloud(servers=servers, balancers=balancers, quotas={"instance": 300}) as running:
        yield running


def test_a_stack_of_more_servers_than_a_host_could_run_is_made_and_removed(
    account: Account, client: Any
) -> None:
    pool = account.pool(260)
    nlb = account.nlb()
    service = account.service(nlb, pool)
    (shown,) = client.get_load_balancer(id=nlb)["services"]
    assert {each["status"] for each in shown["healthcheck-status"]} == {"success"}
    assert len({each["public-ip"] for each in shown["healthcheck-status"]}) == 260
    account.done(client.scale_instance_pool(id=pool, size=1))
    assert len(client.list_instances()["instances"]) == 1
    account.done(client.reboot_instance(id=account.members(pool)[0]))
    account.done(client.delete_load_balancer_service(id=nlb, service_id=service))
    account.done(client.delete_load_balancer(id=nlb))
    account.done(client.delete_instance_pool(id=pool))
    assert client.get_quota(entity="instance") == {"resource": "instance", "usage": 0, "limit": 300}


def test_an_address_given_back_is_the_last_to_be_given_out_again() -> None:
    servers = EmulatedServers(network="198.19.0.0/29")
    first, *others = [servers.reserve_ip() for _ in range(6)]
    with pytest.raises(OutOfAddresses, match=r"198\.19\.0\.0/29"):
        servers.reserve_ip()
    servers.release_ip(others[0])
    servers.release_ip(first)
    servers.release_ip("192.0.2.1")
    assert [servers.reserve_ip(), servers.reserve_ip()] == [others[0], first]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv drops the capabilities")
def test_an_ordinary_user_runs_a_cloud_without_servers(
    tmp_path: Path, connect: Any, account: Account
) -> None:
    as_nobody = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    options = ["--port", "0", "--run-dir", str(tmp_path), "--servers", "none"]
    command = [*as_nobody, *EXOTIDE, "cloud", *options, "--quota.instance", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "is ready" in process.stdout.readline()
            (found,) = living(tmp_path)
            client: Client = connect(found.access.key, found.access.secret, found.access.endpoint)
            order = {"name": "web", "size": 30, "disk_size": 10}
            made = client.create_instance_pool(
                **order, instance_type=account.micro, template=account.debian
            )
            assert client.wait(made["id"])["state"] == "success"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert living(tmp_path) == []
    assert not (tmp_path / found.cloud_id).exists()


@pytest.mark.parametrize("option", [("--quota.magic", "1"), ("--quota.instance", "-1")])
def test_a_quota_that_does_not_exist_is_refused(option: tuple[str, str]) -> None:
    command = [*EXOTIDE, "cloud", "--servers", "none", *option]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert f"quota {option[0].removeprefix('--quota.')}" in ended.stdout + ended.stderr

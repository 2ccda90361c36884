"""Single instances: power, boot data, failures."""

from __future__ import annotations

import gzip
from base64 import b64encode
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIClientException

from exotide.cloud.testing import FakeServers

from .conftest import Account


def test_an_instance_is_stopped_started_and_rebooted(
    account: Account, client: Any, servers: FakeServers
) -> None:
    key = account.instance()
    ip = client.get_instance(id=key)["public-ip"]
    account.done(client.stop_instance(id=key))
    assert client.get_instance(id=key)["state"] == "stopped"
    assert servers.running == {}
    account.done(client.start_instance(id=key))
    account.done(client.reboot_instance(id=key))
    assert servers.rebooted == [key]
    shown = client.get_instance(id=key)
    assert (shown["state"], shown["public-ip"]) == ("running", ip)


@pytest.mark.parametrize("action", ["start_instance", "stop_instance", "reboot_instance"])
def test_power_actions_in_the_wrong_state_are_refused(
    action: str, account: Account, client: Any
) -> None:
    key = account.instance()
    if action != "start_instance":
        account.done(client.stop_instance(id=key))
    with pytest.raises(ExoscaleAPIClientException, match="this needs it to be") as refused:
        getattr(client, action)(id=key)
    assert refused.value.response.status_code == 409


def test_an_instance_that_does_not_boot_is_gone_when_its_operation_has_failed(
    account: Account, client: Any, servers: FakeServers
) -> None:
    servers.fail_next_start("disk is full; see its log")
    ended = account.settled(account.order_instance())
    assert (ended["reason"], ended["message"]) == ("fault", "disk is full; see its log")
    assert client.list_instances()["instances"] == []
    assert servers.reserved == frozenset()


def test_a_single_instance_that_dies_is_stopped_and_can_be_started_again(
    account: Account, client: Any, servers: FakeServers
) -> None:
    key = account.instance()
    servers.kill(key)
    account.cloud.settle()
    assert client.get_instance(id=key)["state"] == "stopped"
    account.done(client.start_instance(id=key))
    assert set(servers.running) == {key}


def test_zipped_user_data_is_unzipped_for_the_server_and_echoed_as_sent(
    account: Account, client: Any, servers: FakeServers
) -> None:
    sent = b64encode(gzip.compress(b"#cloud-config\n")).decode()
    key = account.instance(user_data=sent)
    assert servers.running[key].user_data == b"#cloud-config\n"
    assert client.get_instance(id=key)["user-data"] == sent
    assert "user-data" not in client.list_instances()["instances"][0]


def test_an_instance_may_be_made_without_starting_it(
    account: Account, client: Any, servers: FakeServers
) -> None:
    key = account.instance(auto_start=False)
    assert client.get_instance(id=key)["state"] == "stopped"
    assert servers.running == {}
    account.done(client.delete_instance(id=key))


def test_lists_are_filtered_by_address_and_labels(account: Account, client: Any) -> None:
    web = account.instance(labels={"role": "web", "tier": "front"})
    other = account.instance(labels={"role": "db"})
    ip = client.get_instance(id=other)["public-ip"]

    def found(**by: str) -> list[str]:
        return [each["id"] for each in client.list_instances(**by)["instances"]]

    assert found(ip_address=ip) == [other]
    assert found(labels="role=web,tier=front") == [web]
    assert found(labels="role=web,tier=back") == []


def test_an_update_changes_name_and_labels(account: Account, client: Any) -> None:
    key = account.instance()
    account.done(client.update_instance(id=key, name="other", labels={"a": "b"}))
    shown = client.get_instance(id=key)
    assert (shown["name"], shown["labels"]) == ("other", {"a": "b"})

"""Type, disk, template, protection, labels and reverse DNS of instances, as Terraform uses them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException

from exotide.cloud.api.catalogue import INSTANCE_TYPES
from exotide.cloud.testing import FakeServers

from .conftest import Account, refused


def kind(name: str) -> dict[str, str]:
    family, _, size = name.partition(".")
    found = (k.id for k in INSTANCE_TYPES.values() if (k.family, k.size) == (family, size))
    return {"id": next(found)}


@pytest.fixture
def stopped(account: Account, client: Any) -> str:
    """Return a stopped standard.tiny with 50 GiB."""
    key = account.instance(instance_type=kind("standard.tiny"), disk_size=50)
    account.done(client.stop_instance(id=key))
    return key


def test_a_stopped_instance_takes_another_type_and_boots_with_it(
    account: Account, client: Any, servers: FakeServers, stopped: str
) -> None:
    account.done(client.scale_instance(id=stopped, instance_type=kind("standard.large")))
    assert client.get_instance(id=stopped)["instance-type"]["size"] == "large"
    account.done(client.start_instance(id=stopped))
    assert servers.running[stopped].vcpus == 4


def test_scaling_to_the_same_type_succeeds(account: Account, client: Any, stopped: str) -> None:
    before = client.get_instance(id=stopped)
    account.done(client.scale_instance(id=stopped, instance_type=kind("standard.tiny")))
    assert client.get_instance(id=stopped) == before


def test_a_type_of_another_family_or_for_smaller_disks_is_refused(
    account: Account, client: Any, stopped: str
) -> None:
    with refused(400, "instance-type.id: expected a type of the family standard"):
        client.scale_instance(id=stopped, instance_type=kind("cpu.extra-large"))
    account.done(client.resize_instance_disk(id=stopped, disk_size=201))
    with refused(400, "instance-type.id: expected a type that may have a disk of 201 GiB"):
        client.scale_instance(id=stopped, instance_type=kind("standard.micro"))
    assert client.get_instance(id=stopped)["instance-type"]["size"] == "tiny"


def test_a_disk_grows_to_the_limit_of_its_type_and_never_shrinks(
    account: Account, client: Any, stopped: str
) -> None:
    with refused(400, "disk-size: expected a whole number from 50 to 400, got: 49"):
        client.resize_instance_disk(id=stopped, disk_size=49)
    with refused(400, "disk-size: expected a whole number from 50 to 400, got: 401"):
        client.resize_instance_disk(id=stopped, disk_size=401)
    for size in (50, 51, 400):
        account.done(client.resize_instance_disk(id=stopped, disk_size=size))
        assert client.get_instance(id=stopped)["disk-size"] == size


def test_a_running_instance_is_neither_scaled_nor_resized(account: Account, client: Any) -> None:
    key = account.instance()
    with refused(409, "is running; this needs it to be stopped"):
        client.scale_instance(id=key, instance_type=kind("standard.small"))
    with refused(409, "is running; this needs it to be stopped"):
        client.resize_instance_disk(id=key, disk_size=20)


def test_a_running_instance_is_reset_to_another_template_and_runs_again(
    account: Account, client: Any, servers: FakeServers
) -> None:
    key = account.instance()
    before = client.get_instance(id=key)
    other = client.list_templates(family="linux ubuntu")["templates"][0]
    account.done(client.reset_instance(id=key, template={"id": other["id"]}, disk_size=12))
    shown = client.get_instance(id=key)
    assert (shown["state"], shown["template"], shown["disk-size"]) == ("running", other, 12)
    assert shown["public-ip"] == before["public-ip"]
    assert [server.id for server in servers.started] == [key, key]


def test_a_stopped_instance_is_reset_and_stays_stopped(
    account: Account, client: Any, servers: FakeServers, stopped: str
) -> None:
    account.done(client.reset_instance(id=stopped))
    assert client.get_instance(id=stopped)["state"] == "stopped"
    assert servers.running == {}


def test_a_member_whose_reset_fails_is_replaced(
    account: Account, client: Any, servers: FakeServers
) -> None:
    pool = account.pool(1)
    (member,) = account.members(pool)
    servers.fail_next_start("no kernel")
    ended = account.settled(client.reset_instance(id=member))
    assert (ended["state"], ended["message"]) == ("failure", "no kernel")
    (fresh,) = account.members(pool)
    assert fresh != member
    assert client.get_instance(id=fresh)["state"] == "running"


def test_a_protected_instance_is_not_destroyed_in_any_way(account: Account, client: Any) -> None:
    pool = account.pool(2)
    oldest, newest = account.members(pool)
    account.done(client.add_instance_protection(id=oldest))
    account.done(client.add_instance_protection(id=oldest))
    changes: dict[str, Any] = {
        "delete-instance": lambda: client.delete_instance(id=oldest),
        "evict-instance-pool-members": lambda: client.evict_instance_pool_members(
            id=pool, instances=[newest, oldest]
        ),
        "scale-instance-pool": lambda: client.scale_instance_pool(id=pool, size=1),
        "delete-instance-pool": lambda: client.delete_instance_pool(id=pool),
    }
    for operation, change in changes.items():
        said = (
            f"Operation {operation} on resource {oldest} is forbidden "
            "- reason: manual instance protection"
        )
        with pytest.raises(ExoscaleAPIAuthException, match=said) as forbidden:
            change()
        assert forbidden.value.response.status_code == 403
    assert client.get_instance_pool(id=pool)["state"] == "running"
    account.done(client.evict_instance_pool_members(id=pool, instances=[newest]))
    account.done(client.remove_instance_protection(id=oldest))
    account.done(client.delete_instance_pool(id=pool))


def test_an_update_ends_with_remove_protection_as_terraform_does_it(
    account: Account, client: Any
) -> None:
    key = account.instance()
    data = b64encode(b"#!/bin/sh\nexit 0\n").decode()
    account.done(client.update_instance(id=key, user_data=data, public_ip_assignment="inet4"))
    account.done(client.remove_instance_protection(id=key))
    assert client.get_instance(id=key)["user-data"] == data


def test_an_update_says_what_it_cannot_do(account: Account, client: Any) -> None:
    key = account.instance(labels={"a": "b"})
    with refused(400, "public-ip-assignment: expected one of inet4, got: 'dual'"):
        client.update_instance(id=key, public_ip_assignment="dual", labels={})
    with refused(400, "user-data: expected base64"):
        client.update_instance(id=key, user_data="no base64!", labels={})
    assert client.get_instance(id=key)["labels"] == {"a": "b"}


def test_labels_are_reset_and_nothing_else_can_be(account: Account, client: Any) -> None:
    key = account.instance(labels={"a": "b"})
    account.done(client.reset_instance_field(id=key, field="labels"))
    assert client.get_instance(id=key)["labels"] == {}
    with refused(400, "field: expected one of labels, got: 'name'"):
        client.reset_instance_field(id=key, field="name")


def test_a_reverse_dns_name_lives_as_long_as_its_instance(account: Account, client: Any) -> None:
    key = account.instance()
    with refused(404, "reverse DNS record of instance not found"):
        client.get_reverse_dns_instance(id=key)
    with refused(404, "reverse DNS record of instance not found"):
        client.delete_reverse_dns_instance(id=key)
    for name in ("mon.example.com", "MON.example.com."):
        account.done(client.update_reverse_dns_instance(id=key, domain_name=name))
        assert client.get_reverse_dns_instance(id=key) == {"domain-name": name}
    account.done(client.delete_reverse_dns_instance(id=key))
    with refused(404, "reverse DNS record of instance not found"):
        client.get_reverse_dns_instance(id=key)
    account.done(client.update_reverse_dns_instance(id=key, domain_name="a"))
    account.done(client.delete_instance(id=key))
    with refused(404, "instance not found"):
        client.get_reverse_dns_instance(id=key)


@pytest.mark.parametrize("name", ["", "-a.example", "a..b", "a b", "ü.example", "x" * 64, "a/b"])
def test_what_is_no_domain_name_is_refused(name: str, account: Account, client: Any) -> None:
    key = account.instance()
    with refused(400, "domain-name: expected"):
        client.update_reverse_dns_instance(id=key, domain_name=name)

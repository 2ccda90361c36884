"""Security groups: who is in them, and what they let through, as book-keeping."""

from __future__ import annotations

from typing import Any

from .asgi import INSTANCE, LocalApi
from .conftest import Account, refused

ELSEWHERE = "/z/ch-gva-2/v2"


def groups_of(client: Any, instance: str) -> list[str]:
    shown = client.get_instance(id=instance)
    return [group["id"] for group in shown.get("security-groups", [])]


def test_an_instance_joins_and_leaves_groups_while_it_runs(account: Account, client: Any) -> None:
    first, second = account.group("web"), account.group("db")
    instance = account.instance(security_groups=[{"id": first}])
    attached = client.attach_instance_to_security_group(id=second, instance={"id": instance})
    assert account.done(attached) == second
    assert groups_of(client, instance) == [first, second]
    again = client.attach_instance_to_security_group(id=second, instance={"id": instance})
    account.done(again)
    assert groups_of(client, instance) == [first, second]
    for group in (first, second):
        account.done(
            client.detach_instance_from_security_group(id=group, instance={"id": instance})
        )
    assert groups_of(client, instance) == []
    account.done(client.delete_security_group(id=first))


def test_an_instance_that_is_not_in_a_group_cannot_leave_it(account: Account, client: Any) -> None:
    group, instance = account.group("web"), account.instance()
    with refused(400, "instance.id: expected an instance in security group web"):
        client.detach_instance_from_security_group(id=group, instance={"id": instance})


def test_only_an_instance_of_the_zone_joins_a_group(
    account: Account, client: Any, connect: Any
) -> None:
    group, instance = account.group("web"), account.instance()
    elsewhere = connect(url=account.cloud.url.replace("/z/at-vie-1/v2", ELSEWHERE))
    with refused(400, "instance.id: expected an instance of zone ch-gva-2"):
        elsewhere.attach_instance_to_security_group(id=group, instance={"id": instance})
    assert groups_of(client, instance) == []


def test_an_instance_that_is_being_destroyed_joins_nothing(api: LocalApi) -> None:
    group = api.make("/v2/security-group", {"name": "g"})
    instance = api.make("/v2/instance", INSTANCE)
    api.world.operations.delay_s = 60.0
    assert api.call("DELETE", f"/v2/instance/{instance}").status == 200
    answer = api.call("PUT", f"/v2/security-group/{group}:attach", {"instance": {"id": instance}})
    assert answer.status == 409
    assert "is busy: its state is destroying" in answer.body["message"]


def test_external_sources_are_kept_as_spelled_and_once(account: Account, client: Any) -> None:
    group = account.group("web")
    for cidr in ("192.0.2.0/24", "2001:db8::/32", "192.0.2.0/24"):
        account.done(client.add_external_source_to_security_group(id=group, cidr=cidr))
    shown = client.get_security_group(id=group)
    assert shown["external-sources"] == ["192.0.2.0/24", "2001:db8::/32"]
    account.done(client.remove_external_source_from_security_group(id=group, cidr="192.0.2.0/24"))
    assert client.get_security_group(id=group)["external-sources"] == ["2001:db8::/32"]


def test_a_source_must_be_a_network_and_leaves_only_where_it_is(
    account: Account, client: Any
) -> None:
    group = account.group("web")
    with refused(400, "cidr: expected a network such as 10.0.0.0/8 or ::/0, got: 'anywhere'"):
        client.add_external_source_to_security_group(id=group, cidr="anywhere")
    with refused(400, "cidr: expected an external source of security group web"):
        client.remove_external_source_from_security_group(id=group, cidr="192.0.2.0/24")


def test_managed_groups_are_listed_apart_and_their_names_are_taken(
    account: Account, client: Any
) -> None:
    account.group("web")
    managed = client.list_security_groups(visibility="public")["security-groups"]
    names = {group["name"] for group in managed}
    assert names >= {"public-nlb-healthcheck-sources", "public-sks-apiservers"}
    assert all(isinstance(group["external-sources"], list) for group in managed)
    private = client.list_security_groups()["security-groups"]
    assert [group["name"] for group in private] == ["web"]
    with refused(409, "security group public-sks-apiservers already exists"):
        client.create_security_group(name="public-sks-apiservers")

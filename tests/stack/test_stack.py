"""A stack on the local cloud: made where missing, found again, removed down to nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from exotide.stack import (
    Patience,
    StackSettings,
    create,
    destroy,
    leftovers,
    wait_healthy,
    wait_prometheus,
)
from exotide.stack.api import connect
from exotide.stack.errors import AccessDenied, Ambiguous, LeftOver, NotFound, TookTooLong

from .conftest import Account, Cut

WHOLE = {
    "security-groups": 2,
    "instance-pools": 1,
    "load-balancers": 1,
    "instances": 2,
    "iam-roles": 2,
    "api-keys": 2,
}
NOTHING = dict.fromkeys(WHOLE, 0)


def test_a_stack_is_one_pool_one_balancer_and_one_server_beside_the_members(
    account: Account,
) -> None:
    stack = account.create()
    assert account.census() == WHOLE
    pool = account.api.call("get_instance_pool", id=stack.pool_id)
    assert (pool["size"], pool["state"]) == (1, "running")
    assert pool["labels"]["role"] == "member"
    server = account.api.call("get_instance", id=stack.monitoring_id)
    assert server["labels"]["role"] == "monitoring"
    assert server["public-ip"] == stack.monitoring_ip


def test_the_balancer_has_exactly_one_service_from_80_to_8080_that_checks_health(
    account: Account,
) -> None:
    stack = account.create()
    (service,) = account.api.call("get_load_balancer", id=stack.nlb_id)["services"]
    assert (service["port"], service["target-port"]) == (80, 8080)
    assert service["instance-pool"]["id"] == stack.pool_id
    check = service["healthcheck"]
    assert (check["mode"], check["port"], check["uri"]) == ("http", 8080, "/health")
    assert check["timeout"] <= check["interval"]


def test_the_exporters_are_open_to_prometheus_only_and_the_webhooks_to_nobody(
    account: Account,
) -> None:
    stack = account.create(operator_cidr="192.0.2.0/24")
    members = account.api.call("get_security_group", id=stack.members_group_id)["rules"]
    monitoring = account.api.call("get_security_group", id=stack.monitoring_group_id)["rules"]
    (exporter,) = [rule for rule in members if rule["start-port"] == 9100]
    assert exporter["security-group"]["id"] == stack.monitoring_group_id
    assert sorted(rule["start-port"] for rule in members) == [8080, 8080, 9100]
    assert {rule["start-port"]: rule["network"] for rule in monitoring} == {
        9090: "192.0.2.0/24",
        8091: "192.0.2.0/24",
    }


def test_creating_twice_changes_nothing(account: Account) -> None:
    first = account.create()
    assert all(step.endswith("created") for step in account.told())
    assert account.create() == first
    assert all(step.endswith("found") for step in account.told())
    assert account.census() == WHOLE
    group = account.api.call("get_security_group", id=first.members_group_id)
    assert len(group["rules"]) == 3


def test_creating_again_leaves_the_size_to_the_autoscaler(account: Account) -> None:
    stack = account.create()
    account.api.change("scale_instance_pool", id=stack.pool_id, size=3)
    account.create()
    assert account.api.call("get_instance_pool", id=stack.pool_id)["size"] == 3


def test_destroying_leaves_nothing_and_may_be_repeated(account: Account) -> None:
    account.create()
    account.destroy()
    assert account.census() == NOTHING
    account.told()
    account.destroy()
    assert account.told() == []


def test_the_monitoring_server_goes_first_so_that_its_autoscaler_cannot_interfere(
    account: Account,
) -> None:
    account.create()
    account.told()
    account.destroy()
    assert account.told() == [
        "instance exotide-monitoring removed",
        "API key exotide-autoscaler removed",
        "API key exotide-service-discovery removed",
        "IAM role exotide-autoscaler removed",
        "IAM role exotide-service-discovery removed",
        "load balancer exotide removed",
        "instance pool exotide removed",
        "security group exotide-members removed",
        "security group exotide-monitoring removed",
    ]


def test_interrupted_after_any_answer_creating_goes_on_and_makes_nothing_twice(
    account: Account,
) -> None:
    for answers in itertools.count():
        account.cut_after(answers)
        try:
            account.create()
        except Cut:
            account.mend()
            account.create()
            assert account.census() == WHOLE, f"cut after {answers} answers"
            account.destroy()
        else:
            break
    assert answers > 20


def test_interrupted_after_any_answer_of_creating_destroying_leaves_nothing(
    account: Account,
) -> None:
    for answers in itertools.count():
        account.cut_after(answers)
        try:
            account.create()
        except Cut:
            account.mend()
            account.destroy()
            assert account.census() == NOTHING, f"cut after {answers} answers"
        else:
            break


def test_interrupted_after_any_answer_destroying_goes_on_to_nothing(account: Account) -> None:
    for answers in itertools.count():
        account.create()
        account.cut_after(answers)
        try:
            account.destroy()
        except Cut:
            account.mend()
            account.destroy()
            assert account.census() == NOTHING, f"cut after {answers} answers"
        else:
            break


def test_two_stacks_do_not_know_each_other(account: Account) -> None:
    other = account.create(name="other")
    mine = account.create()
    assert other.pool_id != mine.pool_id
    account.destroy()
    assert account.census() == WHOLE
    assert account.create(name="other") == other


def test_a_lost_pool_is_made_anew_and_what_hung_on_it_is_replaced(account: Account) -> None:
    before = account.create()
    account.api.change(
        "delete_load_balancer_service", id=before.nlb_id, service_id=before.service_id
    )
    account.api.change("delete_instance_pool", id=before.pool_id)
    account.told()
    after = account.create()
    assert after.pool_id != before.pool_id
    assert after.monitoring_id != before.monitoring_id
    assert after.nlb_ip == before.nlb_ip
    assert "instance exotide-monitoring replaced" in account.told()
    assert account.census() == WHOLE


def test_a_service_that_feeds_a_foreign_pool_is_replaced(account: Account) -> None:
    foreign = account.create(name="foreign")
    mine = account.create()
    account.api.change("delete_load_balancer_service", id=mine.nlb_id, service_id=mine.service_id)
    account.api.change(
        "add_service_to_load_balancer",
        id=mine.nlb_id,
        name="http",
        instance_pool={"id": foreign.pool_id},
        protocol="tcp",
        strategy="round-robin",
        port=80,
        target_port=8080,
        healthcheck={"mode": "tcp", "port": 8080, "interval": 10, "timeout": 5},
    )
    again = account.create()
    (service,) = account.api.call("get_load_balancer", id=mine.nlb_id)["services"]
    assert service["id"] == again.service_id
    assert service["instance-pool"]["id"] == mine.pool_id


def test_two_groups_of_the_same_name_are_not_guessed_between(account: Account) -> None:
    pool = account.api.call("get_instance_pool", id=account.create().pool_id)
    account.api.change(
        "create_instance_pool",
        name=pool["name"],
        size=1,
        instance_type={"id": pool["instance-type"]["id"]},
        template={"id": pool["template"]["id"]},
        disk_size=10,
    )
    with pytest.raises(Ambiguous, match="instance pool exotide exists 2 times"):
        account.create()
    account.destroy()
    assert account.census() == NOTHING


def test_what_cannot_be_removed_is_reported_and_the_rest_is_gone(account: Account) -> None:
    stack = account.create()
    server = account.api.call("get_instance", id=stack.monitoring_id)
    account.api.change(
        "create_instance",
        name="stranger",
        instance_type={"id": server["instance-type"]["id"]},
        template={"id": server["template"]["id"]},
        disk_size=10,
        security_groups=[{"id": stack.members_group_id}],
    )
    hasty = replace(account.api, patience=Patience(limit_s=0.3))
    with pytest.raises(LeftOver, match="exotide-members") as caught:
        Account(settings=account.settings, api=hasty).destroy()
    assert len(caught.value.resources) == 2
    assert "409" in caught.value.reasons[0]
    assert account.census() == {
        "security-groups": 2,
        "instance-pools": 0,
        "load-balancers": 0,
        "instances": 1,
        "iam-roles": 0,
        "api-keys": 0,
    }


def test_a_wrong_secret_is_refused_clearly_and_nothing_is_made(account: Account) -> None:
    with (
        connect(account.changed(secret="wrong")) as api,
        pytest.raises(AccessDenied, match="check EXOSCALE_KEY and EXOSCALE_SECRET"),
    ):
        Account(settings=account.settings, api=api).create()
    assert account.census() == NOTHING


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "Plan 9"}, r"'Plan 9'; there are: .*Linux Debian 12"),
        ({"member_type": "standard.gigantic"}, r"'standard.gigantic'; there are: .*standard\."),
        ({"monitoring_type": "gpu.none"}, r"'gpu.none'; there are: "),
    ],
)
def test_a_name_that_the_zone_does_not_have_is_told_with_those_it_has(
    account: Account, change: dict[str, str], says: str
) -> None:
    with pytest.raises(NotFound, match=says):
        account.create(**change)
    assert account.census() == NOTHING


def test_backends_count_as_healthy_when_all_members_are(
    account: Account, settings: StackSettings
) -> None:
    stack = account.create()
    account.api.change("scale_instance_pool", id=stack.pool_id, size=2)
    assert len(wait_healthy(settings, stack, patience=Patience(limit_s=10))) == 2


def test_prometheus_that_never_answers_is_given_up(
    account: Account, settings: StackSettings
) -> None:
    stack = replace(account.create(), monitoring_ip="127.0.0.1")
    with pytest.raises(TookTooLong, match="Prometheus scraping"):
        wait_prometheus(settings, stack, patience=Patience(limit_s=0.3))


def test_the_public_functions_do_all_of_it_alone(settings: StackSettings) -> None:
    stack = create(settings)
    assert len(leftovers(settings)) == 9
    assert stack.url == f"http://{stack.nlb_ip}"
    destroy(settings)
    assert leftovers(settings) == ()

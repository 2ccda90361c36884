"""The account as the official SDK shows it, on a local cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import requests

from exotide.check.account import ExoscaleAccount
from exotide.check.things import Pool
from exotide.cloud.testing import RunningCloud
from exotide.stack import StackSettings
from exotide.stack.api import Api
from exotide.stack.create import build
from exotide.stack.errors import CloudUnavailable, NotFound, Refused
from exotide.stack.model import Stack, silent


@pytest.fixture
def stack(api: Api, settings: StackSettings) -> Stack:
    return build(api, settings, progress=silent)


def test_a_stack_is_seen_as_it_is(account: ExoscaleAccount, stack: Stack) -> None:
    (pool,) = account.pools()
    assert (pool.id, pool.name, pool.size, pool.stack) == (stack.pool_id, "exotide", 1, "exotide")
    assert account.pool(pool.id) == pool
    assert account.type_name(pool.type_id) == "standard.micro"
    (balancer,) = account.balancers()
    assert (balancer.id, balancer.ip) == (stack.nlb_id, stack.nlb_ip)
    (service,) = balancer.services
    assert (service.port, service.target_port, service.pool_id) == (80, 8080, pool.id)
    servers = {server.pool_id: server for server in account.servers()}
    assert servers[""].name == "exotide-monitoring"
    assert {servers[pool.id].id} == pool.member_ids
    assert servers[pool.id].ip in service.health


def test_rules_for_the_health_checks_are_found(
    account: ExoscaleAccount, stack: Stack, api: Api
) -> None:
    pool = account.pool(stack.pool_id)
    assert account.lets_checks_in(pool.group_ids, 8080)
    assert not account.lets_checks_in(pool.group_ids, 9100)
    assert not account.lets_checks_in((), 8080)
    for rule in api.call("get_security_group", id=stack.members_group_id)["rules"]:
        if rule.get("network"):
            api.change(
                "delete_rule_from_security_group", id=stack.members_group_id, rule_id=rule["id"]
            )
    assert account.lets_checks_in(pool.group_ids, 8080), "by the rule for the checks alone"


def test_a_member_is_deleted_once(
    account: ExoscaleAccount, stack: Stack, cloud: RunningCloud
) -> None:
    (member,) = account.pool(stack.pool_id).member_ids
    account.delete_server(member)
    cloud.settle()
    assert member not in {server.id for server in account.servers()}
    account.delete_server(member)


def test_a_pool_of_the_checks_is_a_stack_of_its_own_and_goes_without_a_trace(
    account: ExoscaleAccount, stack: Stack
) -> None:
    like = account.pool(stack.pool_id)
    made = account.make_pool("exotide-check-1", like=like)
    pool = account.pool(made)
    assert (pool.size, pool.stack, len(pool.member_ids)) == (1, "exotide-check-1", 1)
    assert {each.stack for each in account.servers() if each.pool_id == made} == {pool.stack}
    account.remove_pools("exotide-check-1")
    with pytest.raises(NotFound):
        account.pool(made)
    account.remove_pools("exotide-check-1")
    assert [each.id for each in account.pools()] == [stack.pool_id]


def test_a_pool_whose_template_is_gone_is_told_with_those_that_there_are(
    account: ExoscaleAccount, stack: Stack
) -> None:
    like = replace(account.pool(stack.pool_id), template_id="gone")
    with pytest.raises(Refused, match=r"of pool exotide is gone.*: Linux Debian 1\d"):
        account.make_pool("exotide-check-1", like=like)
    assert [each.id for each in account.pools()] == [stack.pool_id]


class _Flaky:
    """The SDK's client, whose first calls get no answer."""

    def __init__(self, client: Any, faults: int) -> None:
        self._client, self._faults = client, faults

    @property
    def endpoint(self) -> str:
        return str(self._client.endpoint)

    def __getattr__(self, operation: str) -> Any:
        if self._faults:
            self._faults -= 1
            raise requests.ConnectionError
        return getattr(self._client, operation)


def test_a_pool_of_the_checks_goes_although_the_api_has_faults(
    account: ExoscaleAccount, stack: Stack
) -> None:
    account.make_pool("exotide-check-1", like=account.pool(stack.pool_id))
    flaky: Any = _Flaky(account.api.client, faults=5)
    ExoscaleAccount(api=replace(account.api, client=flaky)).remove_pools("exotide-check-1")
    assert [each.name for each in account.pools()] == ["exotide"]


@pytest.mark.misbehaving
def test_an_answer_of_another_shape_is_a_fault_of_the_api(account: ExoscaleAccount) -> None:
    lame = replace(account.api, client=_Lame())
    with pytest.raises(CloudUnavailable, match="instance pools: the answer is not as expected"):
        ExoscaleAccount(api=lame).pools()


class _Lame:
    """A client whose answers lack everything."""

    def list_instance_pools(self) -> dict[str, list[dict[str, str]]]:
        return {"instance-pools": [{}]}


def test_a_pool_without_members_has_none() -> None:
    assert Pool(id="p", name="n", size=0).member_ids == frozenset()

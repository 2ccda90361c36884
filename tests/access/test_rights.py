"""What a key may do is found out without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from exotide.access import rights
from exotide.access.errors import NoAccess
from exotide.access.rights import Right, try_rights
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.stack import StackSettings
from exotide.stack.api import Api, connect
from exotide.stack.errors import CloudUnavailable
from tests.keys import key_for

ALL = (*rights.LOOKING, *rights.BUILDING, *rights.GIVING_KEYS, *rights.SCALING, *rights.OWN_POOL)
BY_NAME = {each.operation: each for each in (*ALL, *rights.DELETING_MEMBERS)}


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with running_cloud() as cloud:
        yield cloud


@pytest.fixture
def owner(cloud: RunningCloud) -> Iterator[Api]:
    with api_of(cloud, cloud.access.key, cloud.access.secret) as api:
        yield api


def api_of(cloud: RunningCloud, key: str, secret: str) -> Api:
    return connect(StackSettings(key=key, secret=secret, endpoint=cloud.url))


def weak(cloud: RunningCloud, owner: Api, services: dict[str, Any], default: str = "deny") -> Api:
    made = key_for(owner.client, services, default=default)
    return api_of(cloud, made["TF_VAR_exoscale_key"], made["TF_VAR_exoscale_secret"])


def everything(cloud: RunningCloud) -> list[int]:
    world = cloud.cloud.world
    kinds = (world.pools, world.instances, world.load_balancers, world.security_groups)
    return [*(len(each) for each in kinds), len(world.iam.roles), len(world.iam.keys)]


def test_an_owner_lacks_nothing_and_nothing_is_changed_by_that(
    cloud: RunningCloud, owner: Api
) -> None:
    before = everything(cloud)
    found = try_rights(owner, ALL)
    assert (found.missing, found.untold) == ((), ())
    assert everything(cloud) == before
    assert found.remark(["compute", "iam", "compute"]) == (
        "rights: nothing refused in compute and iam, tried by calls without effect"
    )


@pytest.mark.parametrize("operation", sorted(BY_NAME))
def test_each_right_that_is_missing_is_found(
    cloud: RunningCloud, owner: Api, operation: str
) -> None:
    right = BY_NAME[operation]
    rules = [
        {"action": "deny", "expression": f"operation == '{operation}'"},
        {"action": "allow", "expression": "true"},
    ]
    services = {right.service: {"type": "rules", "rules": rules}}
    with weak(cloud, owner, services, default="allow") as api:
        before = everything(cloud)
        assert try_rights(api, BY_NAME.values()).missing == (right,)
        assert everything(cloud) == before


def test_a_key_for_compute_alone_lacks_all_of_iam_and_nothing_else(
    cloud: RunningCloud, owner: Api
) -> None:
    with weak(cloud, owner, {"compute": {"type": "allow"}}) as api:
        found = try_rights(api, ALL)
    assert found.missing == rights.GIVING_KEYS
    assert found.table.startswith("  iam: refused list-iam-roles, list-api-keys, ")


def test_a_key_that_may_do_nothing_or_is_wrong_is_refused_as_such(
    cloud: RunningCloud, owner: Api
) -> None:
    with weak(cloud, owner, {}) as api, pytest.raises(NoAccess, match="the API key is refused"):
        try_rights(api, rights.LOOKING)
    with (
        api_of(cloud, cloud.access.key, "guess") as api,
        pytest.raises(NoAccess, match=r"the API key is refused: .*Invalid request signature"),
    ):
        try_rights(api, ALL)


class Answers:
    """A client whose calls are answered as a test wants, by operation."""

    endpoint, key = "http://here/v2", "EXOkey"

    def __init__(self, **faults: Exception) -> None:
        self._faults = faults

    def __getattr__(self, operation: str) -> Any:
        def call(**_: object) -> dict[str, object]:
            if operation in self._faults:
                raise self._faults[operation]
            return {}

        return call


def test_what_a_fault_of_the_api_hides_is_said() -> None:
    broken: Any = Answers(create_instance=requests.ConnectionError())
    found = try_rights(Api(client=broken), ALL)
    assert [each.operation for each in found.untold] == ["create-instance"]
    assert found.remark(["compute"]).endswith("; could not be tried: create-instance")


def test_without_a_list_nothing_can_be_begun() -> None:
    silent: Any = Answers(list_instances=requests.ConnectionError())
    with pytest.raises(CloudUnavailable, match="list instances"):
        try_rights(Api(client=silent), ALL)


def test_no_call_could_have_an_effect() -> None:
    """Lists, or an id that nobody has, or nothing where the API's description requires fields."""
    for right in BY_NAME.values():
        assert right.is_list or right.operation.startswith("get-") or needs_more(right), right


def needs_more(right: Right) -> bool:
    if {rights.NOBODY, rights._NO_KEY} & set(map(str, right.harmless.values())):
        return True
    return right.operation.startswith("create-") and not right.harmless

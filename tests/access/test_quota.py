"""How much room an account has."""

from __future__ import annotations

from typing import Any

import pytest

from exotide.access.quota import Quota, full, read_quotas
from exotide.cloud.testing import running_cloud
from exotide.stack import StackSettings
from exotide.stack.api import Api, connect
from exotide.stack.errors import CloudUnavailable


def test_quotas_are_read_and_told_when_they_are_used_up() -> None:
    with running_cloud(quotas={"instance": 0}) as cloud:
        access = cloud.access
        settings = StackSettings(key=access.key, secret=access.secret, endpoint=cloud.url)
        with connect(settings) as api:
            assert read_quotas(api)["instance"] == Quota(resource="instance", limit=0, usage=0)
            assert full(api).startswith("quota of instances: 0 of 0 in use: ask for more in the")


@pytest.mark.parametrize(
    ("limit", "usage", "free"), [(20, 3, 17), (3, 5, 0), (-1, 500, None), (0, 0, 0)]
)
def test_a_limit_below_nothing_is_none(limit: int, usage: int, free: int | None) -> None:
    assert Quota(resource="instance", limit=limit, usage=usage).free == free


class Odd:
    endpoint, key = "http://here/v2", "EXOkey"

    def list_quotas(self) -> dict[str, Any]:
        return {"quotas": [{"resource": "instance", "limit": "many"}]}


def test_quotas_that_cannot_be_understood_are_a_fault_of_the_api_and_no_advice() -> None:
    odd: Any = Odd()
    with pytest.raises(CloudUnavailable, match="quotas: the answer is not as expected"):
        read_quotas(Api(client=odd))
    assert full(Api(client=odd)) == ""

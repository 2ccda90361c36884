"""Nonsense from the API is an error, never an empty pool and never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from exotide_servicediscovery.answers import read_instances, read_pool
from exotide_servicediscovery.errors import NonsenseAnswer
from hypothesis import given
from hypothesis import strategies as st

from .api import POOL_ID, instance

GOOD: dict[str, Any] = {"id": POOL_ID, "name": "web", "size": 1, "instances": [{"id": "i"}]}
keys = st.sampled_from(["id", "name", "size", "state", "instances", "public-ip"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(POOL_ID),
    lambda inner: st.lists(inner) | st.dictionaries(keys | st.text(), inner),
)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
        pytest.param({}, id="nothing"),
        pytest.param({**GOOD, "id": "another"}, id="another-pool"),
        pytest.param({**GOOD, "name": 7}, id="name-number"),
        pytest.param({**GOOD, "size": "1"}, id="size-text"),
        pytest.param({**GOOD, "size": True}, id="size-bool"),
        pytest.param({**GOOD, "size": -1}, id="size-negative"),
        pytest.param({**GOOD, "instances": None}, id="members-null"),
        pytest.param({**GOOD, "instances": {"id": "i"}}, id="members-object"),
        pytest.param({**GOOD, "instances": ["i"]}, id="members-text"),
        pytest.param({**GOOD, "instances": [{}]}, id="member-without-id"),
        pytest.param({**GOOD, "instances": [{"id": "i"}, {"id": "i"}]}, id="member-twice"),
        pytest.param({**GOOD, "size": 10**30}, id="size-huge"),
        pytest.param({"id": POOL_ID, "name": "web", "size": 3}, id="members-missing"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(answer: object) -> None:
    with pytest.raises(NonsenseAnswer, match="get-instance-pool"):
        read_pool(answer, pool_id=POOL_ID)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({**GOOD, "instances": [], "size": 0}, id="listed"),
        pytest.param({"id": POOL_ID, "name": "web", "size": 0}, id="left-out"),
        pytest.param({**GOOD, "instances": []}, id="healing"),
    ],
)
def test_a_pool_may_really_be_empty(answer: object) -> None:
    assert read_pool(answer, pool_id=POOL_ID).instance_ids == ()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": None}, id="no-id"),
        pytest.param({"name": ""}, id="no-name"),
        pytest.param({"state": 3}, id="state-number"),
    ],
)
def test_a_member_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(NonsenseAnswer, match="list-instances"):
        read_instances({"instances": [instance(1, **changes)]}, pool_id=POOL_ID, local=False)


def test_a_member_without_an_address_yet_is_no_error() -> None:
    for value in (None, ""):
        found = read_instances(
            {"instances": [instance(1, **{"public-ip": value})]}, pool_id=POOL_ID, local=False
        )
        assert [member.why_left_out for member in found.values()] == ["it has no public address"]


@given(json_values)
def test_any_answer_is_read_or_refused(answer: object) -> None:
    for read in (
        lambda: read_pool(answer, pool_id=POOL_ID),
        lambda: read_instances(answer, pool_id=POOL_ID, local=False),
    ):
        try:
            read()
        except NonsenseAnswer as error:
            assert len(str(error)) < 200  # noqa: PT017 - most values raise, some do not

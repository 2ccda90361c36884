"""In updates, absent and null leave a field as it is, and an empty value clears it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .asgi import POOL, LocalApi
from .test_limits import KEYS, PUBLIC_KEY, SERVICE

FULL: dict[str, Any] = {
    "description": "d",
    "labels": {"a": "b"},
    "user-data": "eA==",
    "min-available": 1,
    "instance-prefix": "web",
}
"""What `filled` sets beside references."""
CLEARED: dict[str, dict[str, Any]] = {
    "security-groups": {"security-groups": []},
    "anti-affinity-groups": {"anti-affinity-groups": []},
    "ssh-key": {"ssh-key": {"name": ""}},
    "ssh-keys": {"ssh-keys": []},
    "description": {"description": ""},
    "labels": {"labels": {}},
}
"""What an update sends to clear each field."""
DEFAULTS: dict[str, Any] = {"labels": {}}
"""What is shown of a cleared field; without an entry it is left out."""
RESETS = ["anti-affinity-groups", "description", "labels", "security-groups", "ssh-key"]
WITHOUT_EFFECT = ["deploy-target", "elastic-ips", "ipv6-enabled", "private-networks"]
SHOWN_TOGETHER = {"ssh-key": "ssh-keys", "ssh-keys": "ssh-key"}


def filled(api: LocalApi) -> str:
    """Make a pool with something in every field; give its path."""
    api.make(KEYS, {"name": "me", "public-key": PUBLIC_KEY})
    return "/v2/instance-pool/" + api.make(
        "/v2/instance-pool",
        POOL
        | FULL
        | {"ssh-key": {"name": "me"}}
        | {
            kind + "s": [{"id": api.make(f"/v2/{kind}", {"name": "g"})}]
            for kind in ("security-group", "anti-affinity-group")
        },
    )


def without(shown: dict[str, Any], field: str) -> dict[str, Any]:
    gone = {field, SHOWN_TOGETHER.get(field, field)}
    left = {key: value for key, value in shown.items() if key not in gone}
    return left | ({field: DEFAULTS[field]} if field in DEFAULTS else {})


UPDATED = [*CLEARED, "name", "disk-size", "instance-type", "template", *FULL, *WITHOUT_EFFECT]


@given(st.sets(st.sampled_from(UPDATED)))
def test_null_leaves_every_field_of_a_pool(fields: set[str]) -> None:
    api = LocalApi()
    try:
        pool = filled(api)
        before = api.show(pool)
        api.done("PUT", pool, dict.fromkeys(fields))
        assert api.show(pool) == before
    finally:
        api.close()


@given(st.sets(st.sampled_from(list(CLEARED))))
def test_empty_clears_these_fields_of_a_pool_and_no_others(fields: set[str]) -> None:
    api = LocalApi()
    try:
        pool = filled(api)
        expected = api.show(pool)
        body: dict[str, Any] = {}
        for field in fields:
            body |= CLEARED[field]
            expected = without(expected, field)
        api.done("PUT", pool, body)
        assert api.show(pool) == expected
    finally:
        api.close()


def test_what_terraform_always_sends_with_a_pool_changes_nothing(api: LocalApi) -> None:
    pool = filled(api)
    before = api.show(pool)
    always = {
        "anti-affinity-groups": before["anti-affinity-groups"],
        "security-groups": before["security-groups"],
        "elastic-ips": [],
        "private-networks": [],
        "ssh-key": before["ssh-key"],
        "deploy-target": None,
        "ssh-keys": None,
    }
    api.done("PUT", pool, always)
    assert api.show(pool) == before
    api.done("PUT", pool, always | {"ssh-key": {"name": ""}, "security-groups": []})
    assert api.show(pool) == without(without(before, "ssh-key"), "security-groups")


def test_several_ssh_keys_are_kept_in_order(api: LocalApi) -> None:
    pool = filled(api)
    api.make(KEYS, {"name": "you", "public-key": PUBLIC_KEY})
    names = [{"name": "you"}, {"name": "me"}]
    api.done("PUT", pool, {"ssh-keys": names})
    shown = api.show(pool)
    assert (shown["ssh-keys"], shown["ssh-key"]) == (names, names[0])


@pytest.mark.parametrize("field", ["name", "instance-type", "template", "disk-size", "user-data"])
def test_what_a_pool_cannot_be_without_is_not_cleared(field: str, api: LocalApi) -> None:
    pool = filled(api)
    before = api.show(pool)
    empties: tuple[Any, ...] = ("", {}, [], 0, False)
    for empty in empties:
        answer = api.call("PUT", pool, {"description": "other", field: empty})
        assert (answer.status, answer.body["message"].startswith(field)) == (400, True)
    assert api.show(pool) == before


def test_an_empty_prefix_is_the_default_one(api: LocalApi) -> None:
    pool = filled(api)
    api.done("PUT", pool, {"instance-prefix": ""})
    assert api.show(pool)["instance-prefix"] == "pool"


@pytest.mark.parametrize("field", [*RESETS, "user-data"])
def test_a_field_of_a_pool_is_reset(field: str, api: LocalApi) -> None:
    pool = filled(api)
    before = api.show(pool)
    api.done("DELETE", f"{pool}/{field}")
    assert api.show(pool) == without(before, field)
    api.done("DELETE", f"{pool}/{field}")


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_a_field_that_has_its_default_is_reset_without_effect(field: str, api: LocalApi) -> None:
    pool = filled(api)
    before = api.show(pool)
    api.done("DELETE", f"{pool}/{field}")
    assert api.show(pool) == before


@pytest.mark.parametrize("field", ["name", "size", "labels:scale", "instances"])
def test_other_fields_of_a_pool_have_no_default(field: str, api: LocalApi) -> None:
    answer = api.call("DELETE", f"{filled(api)}/{field}")
    assert answer.status in {400, 404}


def test_a_reset_counts_for_future_members_only(api: LocalApi) -> None:
    pool = filled(api)
    old = api.show(pool)["instances"][0]["id"]
    api.done("DELETE", f"{pool}/user-data")
    api.done("PUT", f"{pool}:scale", {"size": 2})
    new = api.show(pool)["instances"][1]["id"]
    assert api.show(f"/v2/instance/{old}")["user-data"] == "eA=="
    assert "user-data" not in api.show(f"/v2/instance/{new}")
    assert api.servers.running[new].user_data == b""


def balancer(api: LocalApi) -> tuple[str, str]:
    """Make a balancer with a service; give the paths of both."""
    body = {"name": "lb", "description": "d", "labels": {"a": "b"}}
    nlb = "/v2/load-balancer/" + api.make("/v2/load-balancer", body)
    pool = api.make("/v2/instance-pool", POOL)
    api.make(f"{nlb}/service", SERVICE | {"description": "d", "instance-pool": {"id": pool}})
    return nlb, f"{nlb}/service/{api.show(nlb)['services'][0]['id']}"


def test_an_update_of_a_balancer_says_only_what_changes(api: LocalApi) -> None:
    nlb, _ = balancer(api)
    before = api.show(nlb)
    api.done("PUT", nlb, {"name": "lb"})
    api.done("PUT", nlb, {"name": None, "description": None, "labels": None})
    assert api.show(nlb) == before
    api.done("PUT", nlb, {"description": "", "labels": {}})
    assert api.show(nlb) == without(without(before, "description"), "labels")
    assert api.call("PUT", nlb, {"name": ""}).status == 400


@pytest.mark.parametrize("field", ["description", "labels"])
def test_a_field_of_a_balancer_is_reset(field: str, api: LocalApi) -> None:
    nlb, _ = balancer(api)
    before = api.show(nlb)
    api.done("DELETE", f"{nlb}/{field}")
    assert api.show(nlb) == without(before, field)
    assert api.call("DELETE", f"{nlb}/name").status == 400


def test_the_description_of_a_service_is_reset_and_nothing_else_can_be(api: LocalApi) -> None:
    _, service = balancer(api)
    before = api.show(service)
    assert api.call("DELETE", f"{service}/port").status == 400
    api.done("DELETE", f"{service}/description")
    assert api.show(service) == without(before, "description")


def test_an_update_of_a_service_needs_protocol_and_strategy(api: LocalApi) -> None:
    _, service = balancer(api)
    before = api.show(service)
    both = {"protocol": "tcp", "strategy": "round-robin"}
    for field in both:
        answer = api.call("PUT", service, {key: both[key] for key in both if key != field})
        assert (answer.status, answer.body["message"].partition(":")[0]) == (400, field)
    api.done("PUT", service, both | {"description": None, "healthcheck": None, "port": None})
    assert api.show(service) == before
    api.done("PUT", service, both | {"description": ""})
    assert api.show(service) == without(before, "description")

"""What can be ordered, and what this cloud says it does not have."""

from __future__ import annotations

from typing import Any

import pytest

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES, ZONES

from .asgi import LocalApi
from .conftest import Account, refused

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("zone", ZONES)
def test_every_zone_has_its_own_debian_and_ubuntu(zone: str, api: LocalApi) -> None:
    templates = api.show(f"/z/{zone}/v2/template")["templates"]
    assert {each["family"] for each in templates} == {"linux debian", "linux ubuntu"}
    assert all(each["zones"] == [zone] for each in templates)
    assert all(each["visibility"] == "public" for each in templates)
    others = {key for key, each in TEMPLATES.items() if each.zone != zone}
    assert {each["id"] for each in templates} == set(TEMPLATES) - others


@pytest.mark.parametrize("kind", ["zone", "instance-type"])
def test_what_can_be_ordered_where_is_no_secret(kind: str, api: LocalApi) -> None:
    unsigned = api.deliver("GET", f"/v2/{kind}", b"", (), None)
    assert unsigned == api.call("GET", f"/v2/{kind}")
    assert api.deliver("GET", f"/v2/{kind}", b"", (), "EXO2-HMAC-SHA256 nonsense").status == 403
    (key, *_) = INSTANCE_TYPES
    for path in ("template", "instance", f"instance-type/{key}"):
        assert api.deliver("GET", f"/v2/{path}", b"", (), None).status == 403


def test_a_template_is_known_by_its_name(client: Any) -> None:
    templates = client.list_templates()["templates"]
    assert len({each["name"] for each in templates}) == len(templates)
    for each in templates:
        assert client.get_template(id=each["id"]) == each


def test_a_template_of_another_zone_is_unknown(client: Any, connect: Any, account: Account) -> None:
    elsewhere = connect(url=account.cloud.url.replace("at-vie-1", "ch-gva-2"))
    foreign = elsewhere.list_templates()["templates"][0]["id"]
    with refused(404, "template not found"):
        client.get_template(id=foreign)
    with refused(400, "template.id: expected a template of zone at-vie-1"):
        account.order_instance(template={"id": foreign})


def test_the_organisation_is_the_same_from_every_zone(api: LocalApi) -> None:
    shown = [api.show(f"/z/{zone}/v2/organization") for zone in ZONES]
    assert all(each == shown[0] for each in shown)
    assert shown[0]["name"]


@pytest.mark.parametrize("kind", ["elastic-ip", "private-network", "deploy-target"])
def test_what_is_not_offered_is_an_empty_list_and_every_id_unknown(
    kind: str, api: LocalApi
) -> None:
    assert api.show(f"/v2/{kind}") == {f"{kind}s": []}
    answer = api.call("GET", f"/v2/{kind}/{UNKNOWN}")
    assert (answer.status, answer.body["message"]) == (
        404,
        f"{kind.replace('-', ' ')} not found: {UNKNOWN}",
    )


@pytest.mark.parametrize("kind", ["elastic-ip", "private-network"])
def test_what_is_not_offered_cannot_be_made_or_used(kind: str, api: LocalApi) -> None:
    answer = api.call("POST", f"/v2/{kind}", {"name": "x", "addressfamily": "inet4"})
    assert answer.status == 400
    assert f"{kind}: not offered by the local cloud" in answer.body["message"]
    for method, path in (("PUT", ""), ("DELETE", ""), ("DELETE", "/labels"), ("PUT", ":attach")):
        assert api.call(method, f"/v2/{kind}/{UNKNOWN}{path}", {}).status == 404

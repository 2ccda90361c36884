"""Every limit of the contract at both of its edges, and names of any kind."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.api.catalogue import INSTANCE_TYPES
from exotide.cloud.testing import FakeServers

from .asgi import INSTANCE, POOL, LocalApi
from .conftest import Account, refused

KEYS = "/v2/ssh-key"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4 me"
MOST_USER_DATA = 32_768
CONTROL = "".join(map(chr, [*range(9), *range(11, 32), 127]))
odd_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL))
SERVICE: dict[str, Any] = {
    "name": "http",
    "protocol": "tcp",
    "strategy": "round-robin",
    "port": 80,
    "target-port": 8080,
    "healthcheck": {"mode": "tcp", "port": 8080},
}
ODD_NAMES = [
    "é",
    "日本語",
    "🐙" * 255,
    "'; DROP TABLE pools; --",
    "../../etc/passwd",
    "$(reboot) `reboot` %s %n \\n",
    "<script>alert(1)</script>",
    '{"name": "x"}',
    " ",
    "\u202eabc\u200b",
    "a\tb\nc",
    "-rf",
    "x" * 255,
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_kept_as_it_is_and_its_server_gets_a_host_name(
    name: str, account: Account, client: Any, servers: FakeServers
) -> None:
    key = account.instance(name=name, labels={name: name})
    shown = client.get_instance(id=key)
    assert (shown["name"], shown["labels"]) == (name, {name: name})
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", servers.running[key].name)
    pool = account.pool(1, name=name, description=name, instance_prefix=name[:30])
    assert client.get_instance_pool(id=pool)["name"] == name
    group = account.group(name)
    assert client.get_security_group(id=group)["name"] == name
    nlb = account.nlb(name)
    service = account.service(nlb, pool, name=name)
    assert client.get_load_balancer_service(id=nlb, service_id=service)["name"] == name


@given(odd_texts | st.integers(254, 257).map("é".__mul__))
def test_names_of_1_to_255_characters_are_taken_and_no_others(name: str) -> None:
    local = LocalApi()
    try:
        answer = local.call("POST", "/v2/security-group", {"name": name, "description": name})
        if 1 <= len(name) <= 255:
            (group,) = local.show("/v2/security-group")["security-groups"]
            assert group["name"] == name
        else:
            assert answer.status == 400
            assert "name: expected a text of 1 to 255 characters" in answer.body["message"]
    finally:
        local.close()


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\r", "\x7f"])
def test_control_characters_are_no_part_of_a_name(character: str, api: LocalApi) -> None:
    answer = api.call("POST", "/v2/security-group", {"name": f"a{character}b"})
    assert answer.status == 400
    assert "without control characters" in answer.body["message"]


@pytest.mark.parametrize("kind", INSTANCE_TYPES.values(), ids=lambda kind: str(kind.size))
def test_a_disk_is_as_large_as_its_type_allows(kind: Any, api: LocalApi) -> None:
    most = {"micro": 200, "tiny": 400, "large": 400, "mega": 800, "colossus": 51_200}
    assert kind.most_disk_gib == most.get(kind.size, kind.most_disk_gib)
    for size, status in ((9, 400), (10, 200), (kind.most_disk_gib, 200)):
        body = INSTANCE | {"instance-type": {"id": kind.id}, "disk-size": size}
        assert api.call("POST", "/v2/instance", body).status == status
    body = INSTANCE | {"instance-type": {"id": kind.id}, "disk-size": kind.most_disk_gib + 1}
    answer = api.call("POST", "/v2/instance", body)
    wanted = f"disk-size: expected a whole number from 10 to {kind.most_disk_gib}"
    assert (answer.status, wanted in answer.body["message"]) == (400, True)


def test_user_data_has_32768_characters_at_most(
    account: Account, client: Any, servers: FakeServers
) -> None:
    data = b"#" * (MOST_USER_DATA // 4 * 3)
    sent = b64encode(data).decode()
    assert len(sent) == MOST_USER_DATA
    for key in (account.instance(user_data=sent), account.members(account.pool(1, user_data=sent))):
        instance = key if isinstance(key, str) else key[0]
        assert servers.running[instance].user_data == data
        assert client.get_instance(id=instance)["user-data"] == sent
    more = b64encode(data + b"#").decode()
    with refused(400, "user-data: expected a text of 1 to 32768 characters"):
        account.order_instance(user_data=more)
    with refused(400, "user-data: expected a text of 1 to 32768 characters"):
        account.order_pool(user_data=more)
    with refused(400, "user-data: expected a text of 1 to 32768 characters"):
        account.order_instance(user_data="")


@given(st.binary(min_size=1, max_size=64))
def test_user_data_is_never_encoded_anew(data: bytes) -> None:
    local = LocalApi()
    try:
        sent = b64encode(data).decode()
        answer = local.call("POST", "/v2/instance", INSTANCE | {"user-data": sent})
        if answer.status == 200:
            key = answer.body["reference"]["id"]
            assert local.show(f"/v2/instance/{key}")["user-data"] == sent
        else:
            assert data.startswith(b"\x1f\x8b")
            assert "gzip" in answer.body["message"]
    finally:
        local.close()


@pytest.mark.parametrize(
    ("field", "least", "most"), [("port", 1, 65_535), ("target-port", 1, 65_535)]
)
def test_ports_of_services_are_limited(field: str, least: int, most: int, api: LocalApi) -> None:
    nlb, pool = api.make("/v2/load-balancer", {"name": "lb"}), api.make("/v2/instance-pool", POOL)
    path = f"/v2/load-balancer/{nlb}/service"
    for number, port in enumerate((least, most)):
        api.make(path, SERVICE | {"name": f"s{number}", "instance-pool": {"id": pool}, field: port})
        if field == "target-port":
            api.done(
                "DELETE", f"{path}/{api.show(f'/v2/load-balancer/{nlb}')['services'][0]['id']}"
            )
    for port in (least - 1, most + 1):
        body = SERVICE | {"name": "x", "instance-pool": {"id": pool}, field: port}
        answer = api.call("POST", path, body)
        assert (answer.status, answer.body["message"].partition(":")[0]) == (400, field)


@pytest.mark.parametrize(
    ("field", "least", "most"), [("interval", 5, 300), ("timeout", 2, 60), ("retries", 1, 20)]
)
def test_health_checks_are_limited(field: str, least: int, most: int, api: LocalApi) -> None:
    nlb, pool = api.make("/v2/load-balancer", {"name": "lb"}), api.make("/v2/instance-pool", POOL)
    path = f"/v2/load-balancer/{nlb}/service"
    roomy = {"mode": "tcp", "port": 1, "interval": 300 if field == "timeout" else 10}
    for value, status in ((least - 1, 400), (least, 200), (most, 200), (most + 1, 400)):
        body = SERVICE | {"name": f"s{value}", "port": 1000 + value, "instance-pool": {"id": pool}}
        answer = api.call("POST", path, body | {"healthcheck": roomy | {field: value}})
        api.settle()
        assert answer.status == status, answer.body
        assert status == 200 or f"healthcheck.{field}: expected" in answer.body["message"]


def test_an_interval_is_no_shorter_than_its_timeout(account: Account) -> None:
    pool, nlb = account.pool(1), account.nlb()
    check = {"mode": "tcp", "port": 80, "interval": 10}
    account.service(nlb, pool, healthcheck=check | {"timeout": 10})
    with refused(400, r"healthcheck.interval: expected at least timeout \(11\), got: 10"):
        account.service(nlb, pool, name="b", port=81, healthcheck=check | {"timeout": 11})


def test_names_of_ssh_keys_are_plain(api: LocalApi) -> None:
    for name, status in (("a", 200), ("A.b_c-9" + "x" * 248, 200), ("x" * 256, 400)):
        body = {"name": name, "public-key": PUBLIC_KEY}
        assert api.call("POST", KEYS, body).status == status
    for name in ("", ".a", "-a", "_a", "a b", "é", "a/b"):
        answer = api.call("POST", KEYS, {"name": name, "public-key": PUBLIC_KEY})
        assert (answer.status, answer.body["message"][:5]) == (400, "name:")
    answer = api.call("POST", KEYS, {"name": "b", "public-key": "ssh-rsa"})
    assert answer.body["message"].startswith("public-key: expected an OpenSSH public key")


def test_a_pool_keeps_what_min_available_says(account: Account, client: Any) -> None:
    pool = account.pool(3, min_available=2)
    account.done(client.scale_instance_pool(id=pool, size=2))
    with refused(400, r"size: expected at least min-available \(2\), got: 1"):
        client.scale_instance_pool(id=pool, size=1)
    with refused(400, r"size: expected at least min-available \(2\), got: 1"):
        client.evict_instance_pool_members(id=pool, instances=account.members(pool)[:1])
    account.done(client.update_instance_pool(id=pool, min_available=0))
    account.done(client.scale_instance_pool(id=pool, size=0))


def test_a_service_leads_to_a_pool_of_its_own_zone_only(api: LocalApi) -> None:
    pool = api.make("/v2/instance-pool", POOL)
    nlb = api.make("/z/ch-gva-2/v2/load-balancer", {"name": "lb"})
    body = SERVICE | {"instance-pool": {"id": pool}}
    answer = api.call("POST", f"/z/ch-gva-2/v2/load-balancer/{nlb}/service", body)
    assert answer.status == 400
    assert "instance-pool.id: expected an instance pool of zone ch-gva-2" in answer.body["message"]


def test_references_may_say_more_than_the_id(api: LocalApi) -> None:
    body = POOL | {
        "instance-type": POOL["instance-type"] | {"size": 7, "family": None},
        "template": POOL["template"] | {"created-at": "0001-01-01T00:00:00Z"},
        "colour": "blue",
    }
    pool = api.make("/v2/instance-pool", body)
    assert api.show(f"/v2/instance-pool/{pool}")["template"] == POOL["template"]


def test_a_thousand_pools_are_made_listed_and_deleted_in_little_time() -> None:
    local = LocalApi(servers=FakeServers(network="198.18.0.0/21"))
    try:
        local.world.quotas = {"instance": -1}
        began = time.monotonic()
        for number in range(1000):
            answer = local.call("POST", "/v2/instance-pool", POOL | {"name": f"pool {number}"})
            assert answer.status == 200, answer.body
        local.settle()
        pools = local.show("/v2/instance-pool")["instance-pools"]
        assert [pool["name"] for pool in pools] == [f"pool {number}" for number in range(1000)]
        assert {pool["state"] for pool in pools} == {"running"}
        assert len(local.show("/v2/instance")["instances"]) == 1000
        for pool in pools:
            assert local.call("DELETE", f"/v2/instance-pool/{pool['id']}").status == 200
        local.settle()
        assert time.monotonic() - began < 30.0
        assert (local.world.pools, local.world.instances) == ({}, {})
        assert (local.servers.running, local.servers.reserved) == ({}, frozenset())
    finally:
        local.close()

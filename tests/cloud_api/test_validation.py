"""Whatever is sent: a 400 names the field and what was expected, and nothing answers 500."""

from __future__ import annotations

import json
from base64 import b64encode
from gzip import compress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.cloud.api.app import ENDPOINTS, MOST_BODY_BYTES

from .asgi import POOL, LocalApi

UNKNOWN = "00000000-0000-4000-8000-000000000000"
CHECK: dict[str, Any] = {"mode": "http", "port": 8080, "uri": "/health"}
RULE: dict[str, Any] = {
    "flow-direction": "ingress",
    "protocol": "tcp",
    "start-port": 80,
    "end-port": 80,
    "network": "0.0.0.0/0",
}


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name: missing; this field is required"),
        ({"name": ""}, "name: expected a text of 1 to 255 characters, got: ''"),
        ({"name": 7}, "name: expected a text of 1 to 255 characters, got: 7"),
        ({"name": "x" * 256}, "name: expected a text of 1 to 255 characters"),
        ({"name": "a\x00b"}, "name: expected a text of 1 to 255 characters without control"),
        ({"size": 0}, "size: expected a whole number from 1 to"),
        ({"size": "2"}, "size: expected a whole number"),
        ({"size": True}, "size: expected a whole number"),
        ({"size": 1.5}, "size: expected a whole number"),
        ({"disk-size": 0}, "disk-size: expected a whole number from 10 to 200, got: 0"),
        ({"disk-size": 201}, "disk-size: expected a whole number from 10 to 200, got: 201"),
        ({"instance-type": None}, "instance-type: missing"),
        ({"instance-type": {}}, "instance-type.id: missing"),
        ({"instance-type": {"id": "micro"}}, "instance-type.id: expected a UUID"),
        ({"instance-type": {"id": UNKNOWN}}, "instance-type.id: expected an id that GET"),
        ({"template": {"id": UNKNOWN}}, "template.id: expected a template of zone at-vie-1"),
        ({"template": "debian"}, "template: expected an object"),
        ({"description": "x" * 256}, "description: expected a text of 0 to 255"),
        ({"instance-prefix": "x" * 31}, "instance-prefix: expected a text of 1 to 30"),
        ({"min-available": -1}, "min-available: expected a whole number from 0"),
        ({"labels": {"a": 1}}, "labels.a: expected a text"),
        ({"labels": ["a"]}, "labels: expected an object"),
        ({"labels": {"": "x"}}, "labels: expected keys of 1 to 255 characters"),
        ({"user-data": "x" * 32_769}, "user-data: expected a text of 1 to 32768"),
        ({"user-data": "no base64!"}, "user-data: expected base64"),
        ({"user-data": "H4sIAAAA"}, "user-data: expected complete gzip"),
        ({"user-data": b64encode(compress(b"0" * 2**21)).decode()}, "gzip of at most 1 MiB"),
        ({"security-groups": [{"id": UNKNOWN}]}, "security-groups: expected existing security"),
        ({"security-groups": {"id": UNKNOWN}}, "security-groups: expected a list of objects"),
        ({"security-groups": [{}]}, "security-groups[0].id: missing"),
        ({"ssh-key": {"name": "me"}}, "ssh-key.name: expected a registered SSH key, got: 'me'"),
        ({"anti-affinity-groups": [{"id": UNKNOWN}]}, "anti-affinity-groups: expected existing"),
        ({"elastic-ips": [{"id": UNKNOWN}]}, "elastic-ips: expected none"),
        ({"private-networks": [{"id": UNKNOWN}]}, "private-networks: expected none"),
        ({"deploy-target": {"id": UNKNOWN}}, "deploy-target: expected none"),
        ({"tpm-enabled": True}, "tpm-enabled: expected false"),
        ({"secureboot-enabled": "no"}, "secureboot-enabled: expected true or false"),
        ({"public-ip-assignment": "none"}, "public-ip-assignment: expected one of inet4"),
        ({"ipv6-enabled": True}, "ipv6-enabled: expected false"),
    ],
)
def test_a_wrong_pool_names_its_field(change: dict[str, Any], message: str, api: LocalApi) -> None:
    answer = api.call("POST", "/v2/instance-pool", POOL | change)
    assert answer.status == 400
    assert message in answer.body["message"]
    assert (api.world.pools, api.servers.reserved) == ({}, frozenset())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval": 4}, "healthcheck.interval: expected a whole number from 5 to 300, got: 4"),
        ({"timeout": 61}, "healthcheck.timeout: expected a whole number from 2 to 60"),
        ({"timeout": 20, "interval": 10}, "healthcheck.interval: expected at least timeout (20)"),
        ({"retries": 0}, "healthcheck.retries: expected a whole number from 1 to 20"),
        ({"port": 65_536}, "healthcheck.port: expected a whole number from 1 to 65535"),
        ({"mode": "udp"}, "healthcheck.mode: expected one of http, https, tcp, got: 'udp'"),
        ({"mode": "tcp"}, "healthcheck.uri: expected a path for http and https only"),
        ({"uri": None}, "healthcheck.uri: expected a path for http and https only, got: None"),
        ({"uri": "health"}, "healthcheck.uri: expected a path that starts with /"),
        ({"uri": "/a b"}, "healthcheck.uri: expected a path"),
        ({"tls-sni": "x"}, "healthcheck.tls-sni: expected none unless mode is https"),
    ],
)
def test_a_wrong_health_check_names_its_field(
    change: dict[str, Any], message: str, api: LocalApi
) -> None:
    nlb = api.call("POST", "/v2/load-balancer", {"name": "lb"}).body["reference"]["id"]
    api.settle()
    body = {
        "name": "s",
        "instance-pool": {"id": UNKNOWN},
        "protocol": "tcp",
        "strategy": "round-robin",
        "port": 80,
        "target-port": 8080,
    }
    answer = api.call(
        "POST", f"/v2/load-balancer/{nlb}/service", body | {"healthcheck": CHECK | change}
    )
    assert answer.status == 400
    assert message in answer.body["message"]
    for name in ("name", "protocol", "strategy", "port", "target-port", "healthcheck"):
        answer = api.call(
            "POST",
            f"/v2/load-balancer/{nlb}/service",
            without(body | {"healthcheck": CHECK}, name),
        )
        assert answer.body["message"] == f"{name}: missing; this field is required"
    answer = api.call("POST", f"/v2/load-balancer/{nlb}/service", body | {"healthcheck": CHECK})
    assert "instance-pool.id: expected an instance pool of zone" in answer.body["message"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (RULE | {"protocol": "sctp"}, "protocol: expected one of"),
        (RULE | {"network": "10.0.0.1/8"}, "network: expected a network such as"),
        (RULE | {"end-port": 79}, "end-port: expected at least start-port (80), got: 79"),
        (RULE | {"protocol": "all"}, "start-port, end-port: expected none for protocol all"),
        (RULE | {"icmp": {}}, "icmp: expected none for protocol tcp"),
        (without(RULE, "network"), "network, security-group: expected exactly one of the two"),
        (without(RULE, "start-port"), "start-port: missing"),
        (
            without(RULE, "network") | {"security-group": {"id": UNKNOWN}},
            "security-group.id: expected an existing security group",
        ),
    ],
)
def test_a_wrong_rule_names_its_field(rule: dict[str, Any], message: str, api: LocalApi) -> None:
    group = api.call("POST", "/v2/security-group", {"name": "g"}).body["reference"]["id"]
    answer = api.call("POST", f"/v2/security-group/{group}/rules", rule)
    assert answer.status == 400
    assert message in answer.body["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "body: expected JSON"),
        (b"\xff\xfe", "body: expected JSON"),
        (b"[]", "body: expected a JSON object"),
        (b"null", "body: expected a JSON object"),
        (b'{"name": NaN}', "NaN is no JSON number"),
        (b"[" * 100_000, "body: expected JSON"),
        (b'{"size": ' + b"9" * 5000 + b"}", "body: expected JSON"),
        (b'{"name": "\\ud800"}', "name: expected a text"),
    ],
)
def test_a_broken_body_is_a_bad_request(content: bytes, message: str, api: LocalApi) -> None:
    answer = api.send("POST", "/v2/instance-pool", content)
    assert answer.status == 400
    assert message in answer.body["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nonsense", 404),
        ("GET", "/v2/instance-pool/", 404),
        ("GET", "/v2/instance-pool/{}", 404),
        ("GET", "/v2/instance-pool/\x00", 404),
        ("GET", f"/v2/instance-pool/{UNKNOWN}:scale", 405),
        ("PATCH", "/v2/instance-pool", 405),
        ("GET", "/z/mars-1/v2/instance-pool", 404),
        ("GET", "/v1/instance-pool", 404),
        ("GET", "/", 404),
        ("GET", f"/v2/operation/{UNKNOWN}", 404),
        ("GET", "/v2/quota/patience", 404),
        ("GET", "/v2/ssh-key/ü", 404),
    ],
)
def test_what_does_not_exist_is_said_so_in_json(
    method: str, path: str, status: int, api: LocalApi
) -> None:
    answer = api.call(method, path)
    assert answer.status == status
    assert set(answer.body) == {"message"}


def test_a_body_that_no_valid_request_needs_is_too_large(api: LocalApi) -> None:
    assert api.send("POST", "/v2/instance-pool", b" " * (MOST_BODY_BYTES + 1)).status == 413


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = sorted(
    {"healthcheck", "labels", "user-data", "instances", "icmp", "security-groups", "port"}
    | {"security-group", "ssh-key", "ssh-keys", "instance-pool", "target-port", "public-key"}
    | {"anti-affinity-groups", "instance", "cidr", "domain-name", "auto-start", "tpm-enabled"}
    | {"elastic-ips", "private-networks", "deploy-target", "rescue-profile"}
    | {"min-available", "public-ip-assignment", "strategy", *POOL, *RULE}
)
GOOD = POOL | RULE | {"healthcheck": CHECK, "port": 80, "target-port": 8080, "size": 2}
bodies = st.dictionaries(st.sampled_from(FIELDS), json_values) | st.fixed_dictionaries(
    {name: st.just(value) | json_values for name, value in GOOD.items()}
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ENDPOINTS),
    bodies | json_values,
    st.lists(st.tuples(st.sampled_from(["visibility", "manager-id", "labels"]), st.text())),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_nothing_that_is_sent_makes_the_emulator_fail(
    endpoint: Any, body: object, query: list[tuple[str, str]], real: bool, other: str
) -> None:
    local = LocalApi()
    try:
        ids = existing(local)
        path = endpoint.path.replace("{service-id}", ids["service"] if real else other)
        path = path.replace("{rule-id}", ids["rule"] if real else other)
        path = path.replace("{field}", "labels" if real else other)
        kind = path.removeprefix("/reverse-dns").split("/")[1].partition(":")[0]
        key = ids.get(kind, other) if real else other.replace("/", "")
        path = path.replace("{id}", key).replace("{name}", key).replace("{entity}", key)
        answer = local.call(endpoint.method, f"/v2{path}", body, query)
        assert answer.status < 500, answer.body
        assert answer.status == 200 or answer.body["message"]
        json.dumps(answer.body)
        local.settle()
        for operation in local.world.operations.known.values():
            assert operation.reason != "unknown", operation
    finally:
        local.close()


def existing(local: LocalApi) -> dict[str, str]:
    """Make one of each, so that paths lead somewhere."""
    made = {
        "instance-pool": local.call("POST", "/v2/instance-pool", POOL),
        "load-balancer": local.call("POST", "/v2/load-balancer", {"name": "lb"}),
        "security-group": local.call("POST", "/v2/security-group", {"name": "g"}),
        "anti-affinity-group": local.call("POST", "/v2/anti-affinity-group", {"name": "g"}),
        "instance": local.call("POST", "/v2/instance", without(POOL, "size")),
    }
    local.settle()
    ids = {kind: str(answer.body["reference"]["id"]) for kind, answer in made.items()}
    local.call("POST", f"/v2/security-group/{ids['security-group']}/rules", RULE)
    local.call(
        "POST",
        f"/v2/load-balancer/{ids['load-balancer']}/service",
        {
            "name": "s",
            "instance-pool": {"id": ids["instance-pool"]},
            "protocol": "tcp",
            "strategy": "round-robin",
            "port": 80,
            "target-port": 8080,
            "healthcheck": CHECK,
        },
    )
    local.settle()
    balancer = local.world.load_balancers[ids["load-balancer"]]
    group = local.world.security_groups[ids["security-group"]]
    return ids | {"service": next(iter(balancer.services)), "rule": next(iter(group.rules))}

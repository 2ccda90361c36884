"""The vectors were computed with the official Python library at a fixed expiry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import requests
from exoscale.api.exceptions import ExoscaleAPIAuthException, ExoscaleAPIClientException
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.api.errors import Forbidden
from exotide.cloud.api.signature import SignedRequest, sign, verify
from exotide.cloud.testing import RunningCloud

KEY, SECRET, EXPIRES = "EXOtestkey000000000000000", "testsecret", "1767225600"
NOW = 1767225000.0
POOL = "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
MANAGER = "3b39f220-61a4-4224-89ca-9dfb54bc4874"

VECTORS = [
    pytest.param(
        SignedRequest(method="GET", path="/v2/instance-pool"),
        (),
        "CIB5qHzeLLNJQU3TcJefW21kk8HjNa0bvfYWKy9gWL8=",
        id="plain",
    ),
    pytest.param(
        SignedRequest(
            method="GET",
            path="/v2/instance",
            query=[("manager-type", "instance-pool"), ("manager-id", MANAGER)],
        ),
        ("manager-id", "manager-type"),
        "aRCV8+yuINJsA3y9lVgM6fUCpkGlem+LxK7mQeDYvS0=",
        id="query",
    ),
    pytest.param(
        SignedRequest(method="PUT", path=f"/v2/instance-pool/{POOL}:scale", body=b'{"size":3}'),
        (),
        "BhNsu6gKBhxavztaaTGNq41Hs9LmirCWRRWwpMz+Ik8=",
        id="body",
    ),
    pytest.param(
        SignedRequest(
            method="GET", path="/z/at-vie-1/v2/instance", query=[("labels", "role=web app")]
        ),
        ("labels",),
        "Vzz1UHc5EYMcIGGHnaBl7XNZY/ebubs+Q09svL/kaIM=",
        id="prefix-and-decoded-query",
    ),
]


def header(signature: str, args: tuple[str, ...] = (), expires: str = EXPIRES) -> str:
    signed = f",signed-query-args={';'.join(args)}" if args else ""
    return f"EXO2-HMAC-SHA256 credential={KEY}{signed},expires={expires},signature={signature}"


def accepts(request: SignedRequest, authorization: str | None, now: float = NOW) -> bool:
    try:
        return verify(request, header=authorization, secrets={KEY: SECRET}, now=now) == KEY
    except Forbidden:
        return False


@pytest.mark.parametrize(("request_", "args", "signature"), VECTORS)
def test_the_published_vectors_hold(
    request_: SignedRequest, args: tuple[str, ...], signature: str
) -> None:
    assert sign(request_, secret=SECRET, query_args=args, expires=EXPIRES) == signature
    assert accepts(request_, header(signature, args))


@pytest.mark.parametrize(("request_", "args", "signature"), VECTORS)
def test_a_changed_request_is_refused(
    request_: SignedRequest, args: tuple[str, ...], signature: str
) -> None:
    authorization = header(signature, args)
    assert not accepts(replace(request_, method="DELETE"), authorization)
    assert not accepts(replace(request_, path=request_.path + "/"), authorization)
    assert not accepts(replace(request_, body=b"{}"), authorization)
    assert not accepts(replace(request_, query=[*request_.query, ("more", "1")]), authorization)


def test_an_expired_signature_is_refused_from_the_second_after_its_end() -> None:
    request = SignedRequest(method="GET", path="/v2/instance-pool")
    authorization = header("CIB5qHzeLLNJQU3TcJefW21kk8HjNa0bvfYWKy9gWL8=")
    assert accepts(request, authorization, now=float(EXPIRES))
    assert not accepts(request, authorization, now=float(EXPIRES) + 0.5)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer abc",
        "EXO2-HMAC-SHA256",
        "EXO2-HMAC-SHA256 credential=a,expires=1",
        header("x", expires="soon"),
        header("x", expires="-1"),
        header("x", expires="9" * 5000),
        header("ü"),
        header("x").replace(KEY, "EXOother"),
    ],
)
def test_a_header_that_is_none_is_refused(authorization: str | None) -> None:
    assert not accepts(SignedRequest(method="GET", path="/v2/zone"), authorization)


def test_a_repeated_parameter_adds_no_value_whether_listed_or_not() -> None:
    request = SignedRequest(method="GET", path="/v2/instance", query=[("a", "1"), ("a", "2")])
    for args in ((), ("a",)):
        signature = sign(
            SignedRequest(method="GET", path="/v2/instance"),
            secret=SECRET,
            query_args=(),
            expires=EXPIRES,
        )
        assert accepts(request, header(signature, args))


@given(st.text())
def test_no_header_crashes_the_verifier(authorization: str) -> None:
    assert not accepts(SignedRequest(method="GET", path="/v2/zone"), authorization)


def test_the_sdk_with_a_wrong_secret_is_refused_clearly(connect: Callable[..., Any]) -> None:
    with pytest.raises(ExoscaleAPIAuthException, match="Invalid request signature"):
        connect(secret="guessed").list_instances()
    with pytest.raises(ExoscaleAPIAuthException, match="unknown key"):
        connect(key="EXOother").list_instances()


def test_a_request_that_was_tampered_with_on_the_way_is_refused(
    cloud: RunningCloud, client: Any
) -> None:
    request = client.http_client.prepare_request(
        requests.Request("PUT", f"{cloud.url}/instance-pool/{POOL}:scale", json={})
    )
    answer = httpx2.put(
        f"{cloud.url}/instance-pool/{POOL}:scale",
        content=b'{"size":20}',
        headers={"Authorization": request.headers["Authorization"]},
    )
    assert answer.status_code == 403
    assert answer.json() == {"message": "Invalid request signature"}


def test_zones_need_no_signature_but_a_wrong_one_is_refused(cloud: RunningCloud) -> None:
    base = f"http://127.0.0.1:{cloud.access.port}"
    zones = httpx2.get(f"{base}/v2/zone").json()["zones"]
    assert {zone["name"]: zone["api-endpoint"] for zone in zones}["at-vie-1"] == (
        f"{base}/z/at-vie-1/v2"
    )
    refused = httpx2.get(f"{base}/v2/zone", headers={"Authorization": header("x")})
    assert refused.status_code == 403
    assert httpx2.get(f"{base}/v2/instance").status_code == 403


def test_zones_answer_with_the_host_that_was_asked(cloud: RunningCloud) -> None:
    answer = httpx2.get(
        f"http://127.0.0.1:{cloud.access.port}/v2/zone", headers={"Host": "198.18.3.1:8480"}
    )
    assert answer.json()["zones"][0]["api-endpoint"] == "http://198.18.3.1:8480/z/at-vie-1/v2"


def test_an_encoded_path_is_verified_as_it_was_sent(client: Any) -> None:
    with pytest.raises(ExoscaleAPIClientException, match="ssh key not found: a b") as refused:
        client.get_ssh_key(name="a%20b")
    assert refused.value.response.status_code == 404

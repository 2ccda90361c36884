"""What clients see of faults of requests, over real connections."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from exotide.cloud.faults.model import (
    BrokenBody,
    Drop,
    Duration,
    Latency,
    RateLimit,
    Selector,
    ServerError,
    Timing,
)

from .conftest import Site


def test_latency_delays_only_what_is_meant_and_the_answer_is_right(site: Site) -> None:
    site.add(Latency(delay_s=Duration(first=0.3)), selector=Selector(operation="list-z*"))
    began = time.monotonic()
    site.ask("GET", "/instance-pool")
    assert time.monotonic() - began < 0.25
    began = time.monotonic()
    assert site.ask("GET", "/zone")["zones"]
    assert time.monotonic() - began >= 0.3


def test_an_error_has_its_status_and_message_and_the_request_took_no_effect(site: Site) -> None:
    site.add(
        ServerError(status=502, message="bad gateway"),
        selector=Selector(operation="create-instance-pool"),
    )
    status, headers, body = site.send("POST", "/instance-pool", site.order(size=1))
    assert (status, headers["content-type"]) == (502, "application/json")
    assert json.loads(body) == {"message": "bad gateway"}
    assert site.ask("GET", "/instance-pool")["instance-pools"] == []


def test_an_error_may_hide_that_the_request_took_effect(site: Site) -> None:
    site.add(ServerError(carried_out=True), selector=Selector(operation="create-*"))
    assert site.send("POST", "/instance-pool", site.order(size=1))[0] == 503
    site.cloud.settle()
    assert len(site.ask("GET", "/instance-pool")["instance-pools"]) == 1


def test_a_rate_limit_says_when_to_come_back(site: Site) -> None:
    site.add(RateLimit(retry_after_s=7), timing=Timing(seed=1, count=1))
    status, headers, _ = site.send("GET", "/zone")
    assert (status, headers["retry-after"]) == (429, "7")
    assert site.send("GET", "/zone")[0] == 200


@pytest.mark.parametrize(
    ("effect", "kind", "holds"),
    [
        (BrokenBody(form="truncated"), "application/json", b'{"zones'),
        (BrokenBody(form="html"), "text/html", b"<html>"),
        (BrokenBody(form="wrong-type"), "text/plain", b'{"zones'),
        (BrokenBody(form="empty"), "application/json", b""),
    ],
)
def test_a_broken_body_is_an_honest_answer_of_nonsense(
    site: Site, effect: BrokenBody, kind: str, holds: bytes
) -> None:
    _, _, whole = site.send("GET", "/zone")
    site.add(effect)
    status, headers, body = site.send("GET", "/zone")
    assert (status, headers["content-type"]) == (200, kind)
    assert body.startswith(holds)
    assert (body == whole) is (effect.form == "wrong-type")
    if effect.form in {"truncated", "html", "empty"}:
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(body)


@pytest.mark.parametrize(
    ("effect", "error", "pools"),
    [
        (Drop(moment="before"), ConnectionError, 0),
        (Drop(moment="after"), ConnectionError, 1),
        (Drop(moment="middle"), http.client.IncompleteRead, 1),
    ],
)
def test_a_connection_may_end_before_the_request_takes_effect_after_it_or_within_the_answer(
    site: Site, effect: Drop, error: type[Exception], pools: int
) -> None:
    site.add(effect, selector=Selector(operation="create-*"))
    with pytest.raises(error):
        site.send("POST", "/instance-pool", site.order(size=1))
    site.cloud.settle()
    assert len(site.ask("GET", "/instance-pool")["instance-pools"]) == pools


def test_a_kept_connection_goes_on_after_a_fault_that_did_not_read_the_body(site: Site) -> None:
    site.add(RateLimit(), timing=Timing(seed=1, count=2))
    connection = site.connect()
    for expected in (429, 429, 200):
        big = site.order(size=1, description="x" * 200)
        assert site.send("POST", "/instance-pool", big, over=connection)[0] == expected
    connection.close()


def test_faults_choose_by_pool_and_also_strike_questions_about_its_operations(site: Site) -> None:
    web, other = site.pool(name="web"), site.pool(name="other")
    scaled = site.ask("PUT", f"/instance-pool/{web}:scale", {"size": 3})
    site.cloud.settle()
    site.add(ServerError(), selector=Selector(pool="web"))
    (member, *_) = site.ask("GET", f"/instance-pool/{other}")["instances"]
    assert site.send("GET", f"/instance-pool/{web}")[0] == 503
    assert site.send("GET", f"/operation/{scaled['id']}")[0] == 503
    assert site.send("GET", f"/instance-pool/{other}")[0] == 200
    assert site.send("GET", f"/instance/{member['id']}")[0] == 200


def test_paths_that_do_not_exist_are_struck_by_faults_of_every_operation_only(site: Site) -> None:
    armed = site.add(ServerError(), selector=Selector(operation="list-*"))
    assert site.send("GET", "/nothing")[0] == 404
    site.remove(armed.id)
    site.add(ServerError())
    assert site.send("GET", "/nothing")[0] == 503

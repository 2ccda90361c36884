"""What we answer is judged by the official document; here the judge itself is tried."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.routing import Endpoint
from exotide.cloud.watching import Exchange, Watched

from .answers import faults, value_faults
from .document import DOCUMENT, OPERATIONS, answer_validator, find

KEY = "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
POOL = {
    "id": KEY,
    "name": "web",
    "size": 2,
    "state": "running",
    "instances": [{"id": KEY}],
    "labels": {"any": "text"},
}


def answer(status: int, value: Any, method: str = "GET", path: str = "/v2/zone") -> list[str]:
    return faults(
        Exchange(
            method=method,
            path=path,
            status=status,
            content_type="application/json",
            body=value if isinstance(value, bytes) else json.dumps(value).encode(),
        )
    )


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.operation))
def test_every_endpoint_is_one_of_the_official_document(endpoint: Endpoint) -> None:
    official = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    assert official["operationId"] == endpoint.operation


def test_every_operation_of_the_document_is_found_by_its_path() -> None:
    for operation in OPERATIONS.values():
        found = find(operation.method, operation.path.replace("{", "").replace("}", ""))
        assert found is not None
        assert found.id == operation.id


def test_every_endpoint_has_a_validator() -> None:
    for endpoint in ENDPOINTS:
        answer_validator(endpoint.operation)


def test_a_right_answer_has_no_fault() -> None:
    assert value_faults("get-instance-pool", POOL) == []
    assert answer(200, POOL, path=f"/z/at-vie-1/v2/instance-pool/{KEY}") == []
    assert answer(404, {"message": "instance pool not found"}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": "round"}, "'shape' was unexpected"),
        ({"size": True}, '$.size: true is not of type "integer"'),
        ({"state": "sleepy"}, '$.state: "sleepy" is not one of'),
        ({"id": "web"}, '$.id: "web" is not a "uuid"'),
        ({"instances": [{"id": KEY}, {"id": 7}]}, "$.instances[1].id: 7 is not of type"),
        ({"instances": [{"id": KEY, "name": "a", "colour": 1}]}, "$.instances[0]: Additional"),
        ({"labels": {"a": 1}}, '$.labels.a: 1 is not of type "string"'),
        ({"name": ""}, "$.name"),
        ({"name": None}, '$.name: null is not of type "string"'),
    ],
)
def test_a_wrong_answer_is_told_with_operation_path_and_value(
    change: dict[str, Any], told: str
) -> None:
    (found,) = value_faults("get-instance-pool", POOL | change)
    assert found.startswith("get-instance-pool: $")
    assert told in found


def test_a_deviation_is_allowed_for_its_value_only() -> None:
    assert value_faults("get-instance-pool", POOL | {"size": 0}) == []
    assert value_faults("get-instance-pool", POOL | {"size": -1}) != []


@pytest.mark.parametrize(
    ("status", "value", "told"),
    [
        (500, {"message": "the emulator failed"}, "status 500"),
        (404, {"error": "no"}, "expected only a message"),
        (404, {"message": ""}, "expected only a message"),
        (200, b"<html>", "the body is no JSON"),
    ],
)
def test_a_crash_and_a_refusal_without_a_message_are_faults(
    status: int, value: Any, told: str
) -> None:
    (found,) = answer(status, value)
    assert found.startswith("list-zones: ")
    assert told in found


def test_an_operation_that_the_document_does_not_have_is_a_fault() -> None:
    assert answer(200, {}, path="/v2/unicorn") == [
        "GET /v2/unicorn: answered with 200, but the document has no such operation"
    ]


@pytest.mark.anyio
async def test_watchers_see_what_was_sent() -> None:
    seen: list[Exchange] = []
    watched = Watched(JSONResponse({"zones": []}), [seen.append])

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    async def send(message: Any) -> None:
        assert message["type"].startswith("http.response")

    await watched({"type": "http", "method": "GET", "path": "/v2/zone"}, receive, send)
    (exchange,) = seen
    assert (exchange.status, exchange.body) == (200, b'{"zones":[]}')
    assert faults(exchange) == []

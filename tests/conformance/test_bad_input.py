"""
Requests that schemathesis makes from the official document, valid and broken in every way.

None may crash the cloud, and each answer must be valid. The seed is fixed; more examples than a
test run has time for: `pytest tests/conformance --fuzz-examples 500`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core import NOT_SET

from exotide.cloud.api import not_offered
from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.routing import Endpoint
from exotide.cloud.testing import WATCHERS
from exotide.cloud.watching import Exchange

from . import samples
from .answers import faults
from .document import DOCUMENT, OPERATIONS
from .probing import Prober, Use
from .samples import Furnished

WITHOUT_BODY: Final = 4
"""A request without a body has little to vary: it gets this part of the examples."""


def _implemented() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for each in ENDPOINTS:
        paths.setdefault(each.path, {})[each.method.lower()] = OPERATIONS[each.operation].definition
    return DOCUMENT | {"paths": paths}


SCHEMA: Final = schemathesis.openapi.from_dict(_implemented())
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


class Target:
    """A furnished cloud that is made anew after each change, so that examples do not depend."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._furnished: Furnished | None = None

    def send(self, case: Case[Any], number: int) -> None:
        furnished = self._furnished = self._furnished or Furnished()
        parameters = furnished.parameters(self.endpoint) if number else case.path_parameters
        path = self.endpoint.path
        for name, value in parameters.items():
            path = path.replace("{" + name + "}", unquote(str(value), errors="replace"))
        body = _with_ids(case.body, furnished.known) if number else case.body
        if number > 1 and isinstance(body, dict):
            body = self._mixed(body, number)
        with _seen() as exchanges:
            answer = furnished.local.send(
                self.endpoint.method,
                f"/v2{path.encode(errors='replace').decode()}",
                _content(body),
                list(_pairs(case.query or {})),
            )
            furnished.local.settle()
        assert [fault for each in exchanges for fault in faults(each)] == []
        if answer.status == 200 and self.endpoint.method != "GET":
            self.close()

    def _mixed(self, drawn: dict[str, Any], number: int) -> dict[str, Any]:
        """A valid body with one or two drawn fields gets further than one that is all drawn."""
        assert self._furnished is not None
        valid = samples.body(self.endpoint.operation, self._furnished.known) or {}
        chosen = sorted(drawn)[number % max(1, len(drawn)) :][:2]
        return {**valid, "name": "another-name"} | {name: drawn[name] for name in chosen}

    def close(self) -> None:
        if self._furnished is not None:
            self._furnished.close()
            self._furnished = None


@contextmanager
def _seen() -> Iterator[list[Exchange]]:
    seen: list[Exchange] = []
    WATCHERS.append(seen.append)
    yield seen
    WATCHERS.pop()


def _content(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"" if body is NOT_SET else json.dumps(body).encode()


def _pairs(query: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, str(each).encode(errors="replace").decode()


def _with_ids(body: Any, known: Mapping[str, list[str]], kind: str = "") -> Any:
    """Replace ids by such as exist, so that a request gets further than to "not found"."""
    if isinstance(body, dict):
        return {
            name: known[kind][0]
            if name == "id" and known.get(kind)
            else _with_ids(value, known, name.removesuffix("s"))
            for name, value in body.items()
        }
    if isinstance(body, list):
        return [_with_ids(each, known, kind) for each in body]
    return body


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.operation))
def test_no_request_crashes_the_cloud_and_each_answer_is_valid(
    endpoint: Endpoint, request: pytest.FixtureRequest
) -> None:
    examples = int(request.config.getoption("--fuzz-examples"))
    if "requestBody" not in OPERATIONS[endpoint.operation].definition:
        examples = max(1, examples // WITHOUT_BODY)
    operation = SCHEMA[endpoint.path][endpoint.method]
    target = Target(endpoint)

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES)),
        number=st.integers(0, 12),
    )
    def judge(case: Case[Any], number: int) -> None:
        target.send(case, number)

    try:
        judge()
    finally:
        target.close()


WRONG: Final[tuple[Any, ...]] = (True, 7, 1.5, "\x00", [], [7], {}, {"id": 7}, {"id": "x"})
TYPES: Final[Mapping[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


READ: Final = [
    endpoint
    for endpoint in ENDPOINTS
    if endpoint not in not_offered.ENDPOINTS and samples.body_schema(endpoint.operation)
]
"""Endpoints that look at a body."""


def _is_wrong(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of another type than a field, or refers to what can be no id."""
    kind = schema.get("type", "object")
    if isinstance(value, bool) or not isinstance(value, TYPES[kind]):
        return not (kind == "boolean" and isinstance(value, bool))
    if isinstance(value, dict):
        return "id" in schema.get("properties", {}) and "id" in value
    return value in ("\x00", [7]) and "enum" not in schema


@pytest.mark.parametrize("endpoint", READ, ids=lambda endpoint: str(endpoint.operation))
def test_a_field_of_a_wrong_type_is_refused_by_its_name(endpoint: Endpoint) -> None:
    properties = (samples.body_schema(endpoint.operation) or {}).get("properties", {})
    prober, target = Prober(), Furnished()
    unread = {each.name for each in prober.findings(endpoint) if each.use is Use.IGNORED}
    valid = samples.body(endpoint.operation, target.known) or {}
    accepted = []
    for name in properties.keys() - unread:
        for value in WRONG:
            if not _is_wrong(value, samples.resolved(properties[name])):
                continue
            answer = target.local.call(
                endpoint.method, f"/v2{target.path(endpoint)}", {**valid, name: value}
            )
            if answer.status != 400 or name not in answer.body["message"].split(":")[0]:
                accepted.append((name, value, answer))
    prober.close()
    target.close()
    assert accepted == []

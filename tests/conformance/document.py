"""The official OpenAPI document, as the SDK ships it: operations and validators of answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

DOCUMENT: Final[dict[str, Any]] = json.loads((files("exoscale") / "openapi.json").read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the document."""

    method: str
    path: str
    """Below /v2: `/instance-pool/{id}:scale`."""
    id: str
    definition: dict[str, Any]

    @property
    def pattern(self) -> re.Pattern[str]:
        """What paths look like that mean this operation."""
        parts = re.split(r"\{[^}]*\}", self.path)
        return re.compile("[^/:]+".join(re.escape(part) for part in parts))


OPERATIONS: Final[dict[str, Operation]] = {
    definition["operationId"]: Operation(
        method=method.upper(), path=path, id=definition["operationId"], definition=definition
    )
    for path, methods in DOCUMENT["paths"].items()
    for method, definition in methods.items()
}
"""By operationId."""

_FIXED_FIRST: Final = sorted(OPERATIONS.values(), key=lambda each: each.path.count("{"))


def find(method: str, path: str) -> Operation | None:
    """Return the operation of a method and a decoded path below /v2, if the document has one."""
    for operation in _FIXED_FIRST:
        if operation.method == method and operation.pattern.fullmatch(path):
            return operation
    return None


@cache
def answer_validator(operation: str) -> Draft202012Validator:
    """Compile the schema of an operation's answer with status 200; nothing may be undocumented."""
    content = OPERATIONS[operation].definition["responses"]["200"]["content"]
    return Draft202012Validator(
        _strict(content["application/json"]["schema"]) | _COMPONENTS, validate_formats=True
    )


def _strict(schema: Any) -> Any:
    """
    Translate OpenAPI 3.0 to JSON Schema: `nullable`, and bounds that a flag makes exclusive.

    The document uses no allOf, anyOf, oneOf, so that an object may be closed where it is.
    """
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _strict(inner) for name, inner in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if key not in _NOT_JSON_SCHEMA
    }
    for bound, exclusive in _BOUNDS.items():
        if schema.get(exclusive) is True:
            made[exclusive] = made.pop(bound)
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


_BOUNDS: Final = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_NOT_JSON_SCHEMA: Final = {"nullable", "example", "readOnly", "writeOnly", *_BOUNDS.values()}
_COMPONENTS: Final[dict[str, Any]] = {
    "components": {
        "schemas": {
            name: _strict(schema) for name, schema in DOCUMENT["components"]["schemas"].items()
        }
    }
}

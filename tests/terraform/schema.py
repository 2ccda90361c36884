"""Judges .tf files by what the provider knows, without the provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import hcl2
from lark.exceptions import LarkError

KNOWN: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fixtures/provider.json").read_text()
)
META: Final = frozenset({"count", "for_each", "depends_on", "provider", "lifecycle"})
PLACES: Final = ("required", "optional", "computed", "deprecated")
REFERENCE: Final = re.compile(
    r"(?<![\w.])(data\.)?(exoscale_\w+|terraform_data)\.(\w+)(?:\[[^]]*\])?(?:\.(\w+))?"
)


def mistakes(text: str) -> list[str]:
    """Return what the provider would refuse or advise against, one line each."""
    try:
        body: dict[str, Any] = hcl2.loads(text)
    except LarkError as error:
        return [f"no HCL: {error}"]
    found = list(_of_providers(body))
    for kind in ("resource", "data"):
        for address, schema_name, arguments in _blocks(body, kind):
            schema = KNOWN[kind].get(schema_name)
            if schema is None:
                found.append(f"{address}: no {kind} {schema_name} is known")
            else:
                found += _of_body(address, arguments, schema)
    return found + list(_of_references(_expressions(body)))


def _of_providers(body: Mapping[str, Any]) -> Iterator[str]:
    for each in body.get("provider", []):
        for label, arguments in each.items():
            yield from _of_body(f"provider {_plain(label)}", arguments, KNOWN["provider"])


def _blocks(body: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for block in body.get(kind, []):
        for type_label, named in block.items():
            for label, arguments in named.items():
                name = _plain(type_label)
                yield f"{name}.{_plain(label)}", name, arguments


def _of_body(address: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    given = {_plain(name): each for name, each in arguments.items() if not name.startswith("__")}
    for name in META:
        given.pop(name, None)
    found = [
        f"{address}: {name} is required" for name in schema.get("required", []) if name not in given
    ]
    for name, block in schema.get("blocks", {}).items():
        if block["min_items"] and name not in given:
            found.append(f"{address}: a block {name} is required")
    for name, value in given.items():
        found += _of_argument(address, name, value, schema)
    return found


def _of_argument(address: str, name: str, value: Any, schema: Mapping[str, Any]) -> list[str]:
    inner = f"{address}.{name}"
    if name in schema.get("blocks", {}):
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            return [f"{inner} is a block, not an argument"]
        return [line for each in value for line in _of_body(inner, each, schema["blocks"][name])]
    refused = [
        f"{address}: {name} {why}"
        for why, applies in (
            ("is not known", not any(name in schema.get(place, []) for place in PLACES)),
            ("is what the provider says, and cannot be set", name in schema.get("computed", [])),
            ("is deprecated", name in schema.get("deprecated", [])),
            ("is not known to provider 0.60", name in schema.get("newer", [])),
        )
        if applies
    ]
    if refused or not (nested := schema.get("nested", {}).get(name)):
        return refused
    return [line for each in _entries(value, nested) for line in _of_body(inner, each, nested)]


def _entries(value: Any, nested: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Return the objects of a nested attribute, without those that an expression computes."""
    if nested["mode"] == "single":
        entries = [value]
    elif nested["mode"] == "map" and isinstance(value, dict):
        entries = list(value.values())
    else:
        entries = value if isinstance(value, list) else []
    return [each for each in entries if isinstance(each, dict)]


def _of_references(expressions: Iterable[str]) -> Iterator[str]:
    for text in expressions:
        for data, kind, label, attribute in REFERENCE.findall(text):
            schema = KNOWN["data" if data else "resource"].get(kind)
            address = f"reference {data}{kind}.{label}"
            if schema is None:
                yield f"{address}: no such type is known"
            elif attribute and not any(attribute in schema.get(place, []) for place in PLACES):
                yield f"{address}.{attribute} is not known"
            elif attribute in (*schema.get("deprecated", []), *schema.get("newer", [])):
                yield f"{address}.{attribute} is deprecated or not known to provider 0.60"


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name != "__comments__":
                yield from _expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from _expressions(each)


def _plain(label: str) -> str:
    return label.strip('"')

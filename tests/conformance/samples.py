"""Valid requests made from the official document, and a cloud that has one of everything."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.routing import Endpoint
from exotide.cloud.fake_balancers import FakeBalancers
from tests.cloud_api.asgi import LocalApi

from .document import DOCUMENT, OPERATIONS

UNKNOWN: Final = "00000000-0000-4000-8000-000000000000"
EXAMPLES: Final[Mapping[str, Any]] = {
    "name": "a-name",
    "description": "a description",
    "user-data": base64.b64encode(b"#cloud-config\n").decode(),
    "public-key": "ssh-ed25519 " + base64.b64encode(b"a public key").decode(),
    "network": "198.51.100.0/24",
    "cidr": "198.51.100.0/24",
    "instance-prefix": "web",
    "disk-size": 20,
    "uri": "/health",
    "domain-name": "web.example.com",
    "start-port": 80,
    "end-port": 80,
    "start-ip": "10.0.0.10",
    "end-ip": "10.0.0.20",
    "netmask": "255.255.255.0",
    "labels": {"role": "web"},
    "interval": 10,
    "timeout": 5,
}
"""Values by field name, where a schema alone does not say what makes sense."""

_RULE: Final = {"flow-direction": "ingress", "network": EXAMPLES["network"]}
_CHECK: Final = {"mode": "http", "port": 8080, "uri": "/health"}
COMPLETED: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "add-rule-to-security-group": (
        {**_RULE, "protocol": "tcp", "start-port": 80, "end-port": 80},
        {**_RULE, "protocol": "icmp", "icmp": {"type": 8, "code": 0}},
    ),
    "add-service-to-load-balancer": (
        {"protocol": "tcp", "healthcheck": _CHECK},
        {"protocol": "tcp", "healthcheck": {**_CHECK, "mode": "https"}},
    ),
    "update-reverse-dns-instance": ({"domain-name": EXAMPLES["domain-name"]},),
    "update-load-balancer-service": (
        {"protocol": "tcp", "strategy": "round-robin", "healthcheck": {**_CHECK, "mode": "https"}},
    ),
}
"""By operation, what the rules want beyond the schema; one body for each kind of request."""

KINDS: Final = {"role": "iam-role", "manager": "instance-pool"}
"""What a field refers to, where its name does not say it."""

LISTS: Final = [each for each in ENDPOINTS if each.method == "GET" and "{" not in each.path]

Known = Mapping[str, Sequence[str]]
"""Ids by kind, as in paths: `instance-pool`."""


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference."""
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rsplit("/", 1)[-1]
    found: Mapping[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def body_schema(operation: str) -> Mapping[str, Any] | None:
    """Return the schema of what an operation takes, or None if it takes nothing."""
    request = OPERATIONS[operation].definition.get("requestBody")
    if request is None:
        return None
    return resolved(request["content"]["application/json"]["schema"])


def body(operation: str, known: Known) -> dict[str, Any] | None:
    """Make the smallest valid body; None if the operation takes none."""
    return next(iter(bodies(operation, known)), None)


def bodies(operation: str, known: Known) -> list[dict[str, Any]]:
    """Make the smallest valid bodies of each kind."""
    schema = body_schema(operation)
    if schema is None:
        return []
    properties = schema.get("properties", {})
    required = {
        name: values(name, properties[name], known)[0]
        for name in properties
        if name in schema.get("required", ())
    }
    return [{**required, **more} for more in COMPLETED.get(operation, ({},))]


def values(name: str, schema: Mapping[str, Any], known: Known) -> list[Any]:
    """Make valid values of one field: each of an enumeration, both of a boolean, else one."""
    schema = resolved(schema)
    if "enum" in schema:
        return list(schema["enum"])
    if name in EXAMPLES:
        return [EXAMPLES[name]]
    return [_one(name, schema, known)] if schema.get("type") != "boolean" else [False, True]


def _one(name: str, schema: Mapping[str, Any], known: Known) -> Any:
    match schema.get("type"):
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "string":
            return _text(name, schema, known)
        case "array":
            return [values(name, schema["items"], known)[0]]
        case _:
            return _object(name, schema, known)


def _text(name: str, schema: Mapping[str, Any], known: Known) -> str:
    if schema.get("format") == "uuid":
        kind = name.removesuffix("s").removesuffix("-id")
        return next(iter(known.get(KINDS.get(kind, kind), ())), UNKNOWN)
    return "a" * max(1, int(schema.get("minLength", 1)))


def _object(name: str, schema: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """References need an id, keys of ssh a name, everything else what it requires or has."""
    kind = name.removesuffix("s")
    properties = schema.get("properties", {})
    if kind == "ssh-key":
        return {"name": next(iter(known.get(kind, ())), "nobody")}
    if "id" in properties and not schema.get("required"):
        return {"id": next(iter(known.get(kind, ())), UNKNOWN)}
    wanted = schema.get("required") or list(properties)
    return {each: values(each, properties[each], known)[0] for each in wanted}


@dataclass(kw_only=True)
class Furnished:
    """A cloud on fake drivers in which every POST of the API was carried out once."""

    local: LocalApi = field(default_factory=lambda: LocalApi(balancers=FakeBalancers()))
    known: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Creates that did not work, with the reason."""

    def __post_init__(self) -> None:
        self.look(LISTS)
        makes = [each for each in ENDPOINTS if each.method == "POST"]
        for endpoint in sorted(makes, key=lambda each: each.path.count("/")):
            self._make(endpoint)
        for operation in list(self.refused):  # some need what was made after them
            self._make(next(each for each in makes if each.operation == operation))
        self.look(LISTS)

    def _make(self, endpoint: Endpoint) -> None:
        self.refused.pop(endpoint.operation, None)
        wanted = body(endpoint.operation, self.known)
        answer = self.local.call("POST", f"/v2{self.path(endpoint)}", wanted)
        if answer.status != 200:
            self.refused[endpoint.operation] = answer.body["message"]
        self.local.settle()
        resource = "/" + endpoint.path.split("/")[1]
        self.look([each for each in LISTS if each.path == resource])

    def path(self, endpoint: Endpoint) -> str:
        """Return the path of an endpoint with ids that exist."""
        path = endpoint.path
        for name, known in self.parameters(endpoint).items():
            path = path.replace("{" + name + "}", known)
        return path

    def parameters(self, endpoint: Endpoint) -> dict[str, str]:
        """Return the parameters of an endpoint's path, by what stands before each."""
        found, before = {}, ""
        for part in endpoint.path.strip("/").split("/"):
            name, is_parameter, _ = part.removeprefix("{").partition("}")
            if is_parameter:
                found[name] = next(iter(self.known.get(before.removesuffix("s"), ())), UNKNOWN)
            before = part
        return found

    def look(self, lists: Sequence[Endpoint]) -> None:
        """Learn all ids from lists, and those of services and rules inside them."""
        for endpoint in lists:
            for name, items in self.local.call("GET", f"/v2{endpoint.path}").body.items():
                self._learn(name.removesuffix("s"), items)
        self.known["operation"] = list(self.local.world.operations.known)
        self.known["quota"] = self.known["entity"] = ["instance"]

    def _learn(self, kind: str, items: Any) -> None:
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return
        names = [item.get("id") or item.get("key") or item.get("name") for item in items]
        self.known[kind] = [name for name in names if name]
        for part in ("service", "rule"):
            inner = [each["id"] for item in items for each in item.get(f"{part}s", ())]
            if inner:
                self.known[part] = inner

    def close(self) -> None:
        self.local.close()

"""What we answer fits the official OpenAPI document that the SDK ships."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.routing import Endpoint

from .conftest import Account

DOCUMENT: dict[str, Any] = json.loads((files("exoscale") / "openapi.json").read_text())
JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
}


def faults(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """List where a value leaves its schema; an unknown property counts as a fault."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return faults(value, DOCUMENT["components"]["schemas"][name], where)
    if not isinstance(value, JSON_TYPES[schema["type"]]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = [f"{where}: {value!r}"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        found.append(f"{where}: too short")
    if isinstance(value, int) and value < schema.get("minimum", value):
        found.append(f"{where}: too small")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += faults(item, schema["items"], f"{where}[{number}]")
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                found.append(f"{where}.{name}: unknown")
            else:
                found += faults(inner, schema["properties"][name], f"{where}.{name}")
    return found


def answer_faults(operation: str, answer: Any) -> list[str]:
    for methods in DOCUMENT["paths"].values():
        for each in methods.values():
            if each.get("operationId") == operation:
                content = each["responses"]["200"]["content"]["application/json"]
                return faults(answer, content["schema"], operation)
    raise AssertionError(operation)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.operation))
def test_every_endpoint_is_one_of_the_official_document(endpoint: Endpoint) -> None:
    official = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    assert official["operationId"] == endpoint.operation


def test_every_answer_fits_its_schema(account: Account, client: Any) -> None:
    group = account.done(client.create_security_group(name="web", description="d"))
    client.add_rule_to_security_group(
        id=group,
        flow_direction="ingress",
        protocol="tcp",
        start_port=80,
        end_port=80,
        network="0.0.0.0/0",
    )
    pool = account.pool(
        2, description="d", labels={"a": "b"}, user_data="eA==", security_groups=[{"id": group}]
    )
    nlb = account.nlb()
    service = account.service(nlb, pool)
    member = account.members(pool)[0]
    operation = client.scale_instance_pool(id=pool, size=3)
    account.cloud.settle()
    kind, template = account.micro["id"], account.debian["id"]
    answers = {
        "list-zones": client.list_zones(),
        "scale-instance-pool": operation,
        "get-operation": client.get_operation(id=operation["id"]),
        "list-instance-types": client.list_instance_types(),
        "get-instance-type": client.get_instance_type(id=kind),
        "list-templates": client.list_templates(),
        "get-template": client.get_template(id=template),
        "list-security-groups": client.list_security_groups(),
        "get-security-group": client.get_security_group(id=group),
        "list-instances": client.list_instances(),
        "get-instance": client.get_instance(id=member),
        "list-instance-pools": client.list_instance_pools(),
        "get-instance-pool": client.get_instance_pool(id=pool),
        "list-load-balancers": client.list_load_balancers(),
        "get-load-balancer": client.get_load_balancer(id=nlb),
        "get-load-balancer-service": client.get_load_balancer_service(id=nlb, service_id=service),
        "list-quotas": client.list_quotas(),
        "get-quota": client.get_quota(entity="instance"),
        "list-ssh-keys": client.list_ssh_keys(),
    }
    found = [fault for name, answer in answers.items() for fault in answer_faults(name, answer)]
    assert found == []


def test_a_failed_operation_fits_its_schema(account: Account, servers: Any) -> None:
    servers.fail_next_start()
    assert answer_faults("get-operation", account.settled(account.order_pool(1))) == []

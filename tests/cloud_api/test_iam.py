"""Roles, keys and policies through the official SDK: who may do what, and since when."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from exoscale.api.exceptions import ExoscaleAPIAuthException, ExoscaleAPIClientException

from .asgi import LocalApi
from .conftest import Account

READ = "operation in ['get-instance-pool', 'list-instances']"


@dataclass(kw_only=True)
class Desk:
    """The owner's desk: makes roles, and clients with keys of them."""

    account: Account
    connect: Callable[..., Any]
    role: str = ""
    keys: list[dict[str, str]] = field(default_factory=list)

    def client(self, policy: dict[str, Any], **role: Any) -> Any:
        owner = self.account.client
        wanted = {"name": f"role-{len(self.keys)}", "policy": policy} | role
        self.role = self.account.done(owner.create_iam_role(**wanted))
        self.keys.append(owner.create_api_key(name=f"key-{len(self.keys)}", role_id=self.role))
        return self.connect(self.keys[-1]["key"], self.keys[-1]["secret"])


@pytest.fixture
def desk(account: Account, connect: Callable[..., Any]) -> Desk:
    return Desk(account=account, connect=connect)


def rules(*expressions: str, default: str = "deny", service: str = "compute") -> dict[str, Any]:
    """A policy with rules for one class; an expression that begins with - is denied."""
    listed = [
        {"action": "deny" if each.startswith("-") else "allow", "expression": each.lstrip("-")}
        for each in expressions
    ]
    services = {service: {"type": "rules", "rules": listed}}
    return {"default-service-strategy": default, "services": services}


def test_a_role_reads_back_as_it_was_made_until_it_is_deleted(account: Account) -> None:
    client, policy = account.client, rules(READ, "-true")
    wanted = {
        "name": "reader",
        "description": "reads",
        "labels": {"team": "a"},
        "permissions": ["reset-iam-organization-policy"],
        "policy": policy,
    }
    role = account.done(client.create_iam_role(**wanted))
    assert client.get_iam_role(id=role) == wanted | {"id": role, "editable": True}
    assert client.list_iam_roles()["iam-roles"] == [client.get_iam_role(id=role)]
    account.done(client.update_iam_role(id=role, description="still", labels={}))
    account.done(client.update_iam_role_policy(id=role, **_snake(rules("true"))))
    shown = client.get_iam_role(id=role)
    assert (shown["description"], shown["labels"], shown["policy"]) == ("still", {}, rules("true"))
    assert shown["permissions"] == wanted["permissions"]
    account.done(client.delete_iam_role(id=role))
    assert client.list_iam_roles() == {"iam-roles": []}


def test_only_the_answer_to_its_creation_has_the_secret_of_a_key(account: Account) -> None:
    client = account.client
    role = account.done(client.create_iam_role(name="reader", policy=rules(READ)))
    made = client.create_api_key(name="one", role_id=role)
    shown = {"name": "one", "key": made["key"], "role-id": role}
    assert made == shown | {"secret": made["secret"]}
    assert client.get_api_key(id=made["key"]) == shown
    assert client.list_api_keys() == {"api-keys": [shown]}


def test_a_key_may_do_what_its_role_says_and_is_told_what_is_missing(desk: Desk) -> None:
    reader, pool = desk.client(rules(READ)), desk.account.pool(1)
    assert reader.get_instance_pool(id=pool)["size"] == 1
    with pytest.raises(ExoscaleAPIAuthException) as refused:
        reader.delete_instance_pool(id=pool)
    key = desk.keys[0]
    assert refused.value.response.json()["message"] == (
        "Forbidden by role policy for compute - No rule matched. delete-instance-pool by key key-0 "
        f"({key['key']}) needs a rule of role role-0 that allows it, "
        "such as: operation == 'delete-instance-pool'"
    )
    assert key["secret"] not in refused.value.response.text
    with pytest.raises(ExoscaleAPIAuthException, match="policy for iam - The default strategy is"):
        reader.list_iam_roles()


def test_parameters_come_from_path_query_and_body_and_are_written_in_snake_case(desk: Desk) -> None:
    mine, other = desk.account.pool(1), desk.account.pool(1)
    limited = desk.client(
        rules(
            f"operation == 'get-instance-pool' && parameters.id == '{mine}'",
            f"operation == 'scale-instance-pool' && parameters.id == '{mine}' "
            "&& parameters.size <= 2",
            f"operation == 'list-instances' && parameters.manager_id == '{mine}'",
            "operation == 'create-instance' && parameters.has('public_ip_assignment') "
            "&& parameters.instance_type.id == 'none'",
        )
    )
    assert limited.get_instance_pool(id=mine)["id"] == mine
    assert limited.scale_instance_pool(id=mine, size=2)["state"] == "pending"
    shown = limited.list_instances(manager_id=mine, manager_type="instance-pool")
    assert len(shown["instances"]) >= 1
    with pytest.raises(ExoscaleAPIAuthException, match="scale-instance-pool"):
        limited.scale_instance_pool(id=mine, size=3)
    with pytest.raises(ExoscaleAPIAuthException, match="get-instance-pool"):
        limited.get_instance_pool(id=other)
    with pytest.raises(ExoscaleAPIAuthException, match="could not be evaluated: rule 2"):
        limited.list_instances()
    with pytest.raises(ExoscaleAPIClientException, match=r"instance-type\.id: expected a UUID"):
        limited.create_instance(instance_type={"id": "none"}, public_ip_assignment="none")


@pytest.mark.parametrize(
    ("method", "path", "body", "query"),
    [
        ("GET", "/instance-pool/other", {"id": "mine"}, ()),
        ("GET", "/instance-pool/other", None, (("id", "mine"),)),
        ("GET", "/instance", {"manager_id": "mine", "manager-id": "mine"}, (("manager-id", "x"),)),
        ("GET", "/instance", None, (("manager_id", "mine"),)),
        ("POST", "/instance", {"public_ip_assignment": "none"}, ()),
        ("POST", "/instance", {"instance_type": {"id": "mine"}}, ()),
        ("GET", "/instance-pool/mine\0", None, ()),
        ("GET", "/instance", None, (("manager-id", "mine\0x"),)),
        ("POST", "/instance", {"public-ip-assignment\0": "none"}, ()),
        ("POST", "/instance", {"labels": {"role\0": "web"}}, ()),
    ],
)
def test_a_field_that_the_operation_does_not_use_cannot_mislead_a_policy(
    method: str, path: str, body: dict[str, Any] | None, query: tuple[tuple[str, str], ...]
) -> None:
    policy = rules(
        "operation == 'get-instance-pool' && parameters.id == 'mine'",
        "operation == 'list-instances' && parameters.manager_id == 'mine'",
        "operation == 'create-instance' && parameters.public_ip_assignment == 'none'",
        "operation == 'create-instance' && parameters.instance_type.id == 'mine'",
        "operation == 'create-instance' && parameters.labels.role == 'web'",
    )
    api = LocalApi()
    role = api.call("POST", "/v2/iam-role", {"name": "one", "policy": policy}).body["reference"]
    key = api.call("POST", "/v2/api-key", {"name": "one", "role-id": role["id"]}).body
    signer = {"key": key["key"], "secret": key["secret"]}
    assert api.call(method, f"/v2{path}", body, query, **signer).status == 403
    own = api.call("GET", "/v2/instance", None, (("manager-id", "mine"),), **signer)
    api.close()
    assert own.status != 403


def test_labels_keep_the_names_that_they_were_given(desk: Desk) -> None:
    limited = desk.client(rules("parameters.labels['cost-center_1'] == 'web'"))
    with pytest.raises(ExoscaleAPIClientException, match="missing"):
        limited.create_instance(labels={"cost-center_1": "web"})
    with pytest.raises(ExoscaleAPIAuthException):
        limited.create_instance(labels={"cost-center_1": "db"})


def test_a_rule_may_look_at_the_name_of_the_resource(desk: Desk) -> None:
    pool = desk.account.pool(1, name="web")
    limited = desk.client(rules("resources.instance_pool.name == 'web'"))
    assert limited.get_instance_pool(id=pool)["name"] == "web"
    with pytest.raises(ExoscaleAPIAuthException):
        limited.list_instance_pools()


def test_both_the_organisation_and_the_role_must_allow(desk: Desk) -> None:
    client, pool = desk.account.client, desk.account.pool(1)
    reader = desk.client(rules("true"))
    policy = rules("-operation == 'delete-instance-pool'", "true", default="allow")
    desk.account.done(client.update_iam_organization_policy(**_snake(policy)))
    assert client.get_iam_organization_policy() == policy
    assert reader.get_instance_pool(id=pool)["id"] == pool
    for caller in (reader, client):
        with pytest.raises(ExoscaleAPIAuthException, match="organization policy for compute - A d"):
            caller.delete_instance_pool(id=pool)
    desk.account.done(client.reset_iam_organization_policy())
    nothing = {"default-service-strategy": "allow", "services": {}}
    assert client.get_iam_organization_policy() == nothing


def test_whoever_locked_everybody_out_can_still_reset(desk: Desk) -> None:
    owner = desk.account.client
    helper = desk.client(rules("true"), permissions=["reset-iam-organization-policy"])
    stranger = desk.client(rules("true", service="iam"))
    for rescuer in (owner, helper):
        owner.update_iam_organization_policy(default_service_strategy="deny", services={})
        with pytest.raises(ExoscaleAPIAuthException, match="organization policy for iam"):
            owner.list_iam_roles()
        with pytest.raises(ExoscaleAPIAuthException, match="needs the permission reset-iam-org"):
            stranger.reset_iam_organization_policy()
        assert rescuer.reset_iam_organization_policy()["state"] == "pending"
        assert len(owner.list_iam_roles()["iam-roles"]) == 2


def test_a_revoked_key_stops_at_once(desk: Desk) -> None:
    reader, pool = desk.client(rules(READ)), desk.account.pool(1)
    assert reader.get_instance_pool(id=pool)
    desk.account.done(desk.account.client.delete_api_key(id=desk.keys[0]["key"]))
    with pytest.raises(ExoscaleAPIAuthException, match="unknown key"):
        reader.get_instance_pool(id=pool)
    with pytest.raises(ExoscaleAPIClientException, match="API key not found"):
        desk.account.client.get_api_key(id=desk.keys[0]["key"])


def test_a_changed_policy_counts_from_the_next_request(desk: Desk) -> None:
    reader, pool = desk.client(rules(READ)), desk.account.pool(1)
    assert reader.get_instance_pool(id=pool)
    policy = _snake(rules("operation == 'list-instances'"))
    desk.account.client.update_iam_role_policy(id=desk.role, **policy)
    with pytest.raises(ExoscaleAPIAuthException):
        reader.get_instance_pool(id=pool)


def test_keys_and_roles_are_the_same_in_every_zone(desk: Desk) -> None:
    desk.client(rules("zone == 'ch-gva-2'"))
    key = desk.keys[0]
    geneva = desk.connect(
        key["key"], key["secret"], desk.account.cloud.url.replace("at-vie-1", "ch-gva-2")
    )
    assert geneva.list_instance_pools() == {"instance-pools": []}
    with pytest.raises(ExoscaleAPIAuthException, match="list-instance-pools"):
        desk.connect(key["key"], key["secret"]).list_instance_pools()


def test_a_signed_request_is_judged_even_where_an_unsigned_one_is_not(desk: Desk) -> None:
    unsigned = desk.client(rules(READ))
    assert unsigned.list_zones()["zones"]
    api = LocalApi()
    role = api.call("POST", "/v2/iam-role", {"name": "none"}).body["reference"]["id"]
    key = api.call("POST", "/v2/api-key", {"name": "one", "role-id": role}).body
    refused = api.call("GET", "/v2/zone", key=key["key"], secret=key["secret"])
    api.close()
    assert (refused.status, "list-zones by key one" in refused.body["message"]) == (403, True)


def test_a_role_that_a_key_uses_stays(desk: Desk) -> None:
    client = desk.account.client
    desk.client(rules(READ))
    with pytest.raises(ExoscaleAPIClientException, match="role-0 is in use by key key-0") as caught:
        client.delete_iam_role(id=desk.role)
    assert caught.value.response.status_code == 409
    client.delete_api_key(id=desk.keys[0]["key"])
    desk.account.done(client.delete_iam_role(id=desk.role))


def test_a_role_that_is_not_editable_stays_as_it_is(account: Account) -> None:
    client = account.client
    role = account.done(client.create_iam_role(name="fixed", editable=False, policy=rules(READ)))
    before = client.get_iam_role(id=role)
    with pytest.raises(ExoscaleAPIClientException, match="not editable"):
        client.update_iam_role(id=role, description="other")
    with pytest.raises(ExoscaleAPIClientException, match="not editable"):
        client.update_iam_role_policy(id=role, **_snake(rules("true")))
    assert client.get_iam_role(id=role) == before
    account.done(client.delete_iam_role(id=role))


def test_a_role_without_a_policy_allows_nothing(desk: Desk) -> None:
    client = desk.account.client
    role = desk.account.done(client.create_iam_role(name="empty"))
    key = client.create_api_key(name="one", role_id=role)
    with pytest.raises(ExoscaleAPIAuthException):
        desk.connect(key["key"], key["secret"]).list_instances()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "x" * 192}, "name: expected a text of 1 to 191 characters"),
        ({"name": None}, "name: missing"),
        ({"permissions": ["fly"]}, "permissions: expected a list of bypass-governance-retention"),
        ({"permissions": "fly"}, "permissions: expected a list of texts"),
        ({"labels": {"a": 1}}, "labels.a: expected a text"),
        ({"editable": "yes"}, "editable: expected true or false"),
        ({"policy": rules("operation ==")}, r"policy\.services\.compute\.rules\[0\]\.expression"),
    ],
)
def test_a_wrong_role_is_refused_by_the_name_of_the_field(
    account: Account, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ExoscaleAPIClientException, match=says) as caught:
        account.client.create_iam_role(**({"name": "reader"} | change))
    assert caught.value.response.status_code == 400
    assert account.client.list_iam_roles() == {"iam-roles": []}


def test_names_of_roles_are_unique_and_keys_need_a_role(account: Account) -> None:
    client = account.client
    account.done(client.create_iam_role(name="x" * 191))
    with pytest.raises(ExoscaleAPIClientException, match="already exists") as caught:
        client.create_iam_role(name="x" * 191)
    assert caught.value.response.status_code == 409
    unknown = "b4a5f5a6-8b9d-4a0c-8a7e-0f6f9a4f0d0e"
    with pytest.raises(ExoscaleAPIClientException, match="role-id: expected the id of an IAM role"):
        client.create_api_key(name="one", role_id=unknown)


def test_no_line_of_the_log_has_a_secret() -> None:
    stream, api = io.StringIO(), LocalApi()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    made = api.call("POST", "/v2/iam-role", {"name": "none"}).body["reference"]["id"]
    key = api.call("POST", "/v2/api-key", {"name": "one", "role-id": made}).body
    refused = api.call("GET", "/v2/instance", key=key["key"], secret=key["secret"])
    wrong = api.call("GET", "/v2/instance", key=key["key"], secret="guessed")
    api.close()
    assert (refused.status, wrong.status) == (403, 403)
    assert stream.getvalue().count("request_refused") == 2
    assert key["key"] in stream.getvalue()
    assert not any(each in stream.getvalue() for each in (key["secret"], "guessed"))
    assert key["secret"] not in repr(api.world)


def _snake(policy: dict[str, Any]) -> dict[str, Any]:
    """The SDK's arguments for a policy."""
    return {name.replace("-", "_"): value for name, value in policy.items()}

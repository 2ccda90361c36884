"""
The root module, `terraform apply` in the repository's root, in the hands of the official provider.

One stack serves most tests; each says with which variables it wants the stack to be.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException
from exoscale.api.v2 import Client

from exotide.cloud.api.iam.model import Reading
from exotide.cloud.testing import FakeServers, RunningCloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell
from exotide.realtools.terraform import Plan, TerraformFailed, Workspace
from tests.sdk import done

from .conftest import found

ROOT = Path(__file__).parents[2]
POOL = "module.pool.exoscale_instance_pool.members"
SERVER = "module.monitoring.exoscale_compute_instance.monitoring"
KEYS = {
    agent: f"module.access[0].exoscale_iam_api_key.{agent}"
    for agent in ("autoscaler", "servicediscovery")
}
ROLES = {each.replace("iam_api_key", "iam_role") for each in KEYS.values()}
PARTS = 19
REBUILT = {SERVER: ["delete", "create"], "module.monitoring.terraform_data.user_data": ["update"]}
Make = Callable[..., Workspace]


def resent() -> frozenset[str]:
    """
    What each plan updates for nothing.

    Providers before 0.69.3 forget that user-data came in base64, and send it again each time.
    """
    version = programs.provider().name.rpartition("_v")[2]
    is_old = [int(each) for each in version.split(".")] < [0, 69, 3]
    return frozenset({POOL, SERVER} if is_old else ())


def changes(plan: Plan) -> dict[str, list[str]]:
    """Give what a plan really changes."""
    only_sent_again = {
        each for each in resent() & plan.actions.keys() if plan.attributes[each] == {"user_data"}
    }
    return {key: each for key, each in plan.actions.items() if key not in only_sent_again}


def is_settled(plan: Plan) -> bool:
    return plan.is_empty or bool(resent() and not changes(plan))


@pytest.fixture(scope="module")
def make(
    cell: Cell,
    variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """Makes workspaces of the root module; more variables of it by name."""
    provider = found(programs.provider)

    def made(find: Callable[[], Path] = programs.terraform, **more: str) -> Workspace:
        folder = tmp_path_factory.mktemp("root")
        (folder / "terraform").symlink_to(ROOT / "terraform")
        return Workspace.made(
            folder,
            *ROOT.glob("*.tf"),
            terraform=found(find),
            provider=provider,
            environment=variables | {f"TF_VAR_{name}": each for name, each in more.items()},
            run_in=cell.command,
        )

    return made


@pytest.fixture(scope="module")
def stack(make: Make, cloud: RunningCloud) -> Iterator[Workspace]:
    made = make()
    made.apply()
    yield made
    made.destroy()
    nothing_is_left(made, cloud)


def nothing_is_left(stack: Workspace, cloud: RunningCloud) -> None:
    assert stack.resources() == {}
    world = cloud.cloud.world
    left = [world.pools, world.instances, world.load_balancers, world.security_groups]
    assert not any(left), left
    assert not world.iam.roles
    assert not world.iam.keys
    assert isinstance(cloud.servers, FakeServers)
    assert not cloud.servers.running
    assert not cloud.servers.reserved


def test_what_was_applied_needs_no_change(stack: Workspace) -> None:
    stack.apply()
    plan = stack.plan()
    assert is_settled(plan), plan.text
    assert len([each for each in stack.resources() if ".data." not in f".{each}"]) == PARTS


def test_a_pool_scaled_by_the_autoscaler_is_no_reason_for_a_change(
    stack: Workspace, client: Any
) -> None:
    stack.apply()
    pool = stack.outputs()["pool_id"]
    for size in (3, 2):
        done(client, client.scale_instance_pool(id=pool, size=size))
        plan = stack.plan()
        assert is_settled(plan), plan.text
    stack.apply()
    assert client.get_instance_pool(id=pool)["size"] == 2


def test_other_settings_of_the_monitoring_server_rebuild_it_and_it_alone(
    stack: Workspace,
) -> None:
    stack.apply()
    assert changes(stack.plan(cooldown_s=30)) == REBUILT
    assert changes(stack.plan(time_to_live_h=5)) == {SERVER: ["update"]}


def test_other_settings_of_the_application_change_the_pool_in_place(stack: Workspace) -> None:
    stack.apply()
    environment = '{"LOAD_SECONDS":"5"}'
    plan = stack.plan(slowapp_environment=environment)
    assert changes(plan).keys() <= {POOL}
    assert plan.actions[POOL] == ["update"]
    assert plan.attributes[POOL] == {"user_data"}


def test_a_rotated_key_rebuilds_the_monitoring_server_and_leaves_the_pool_alone(
    stack: Workspace, client: Any
) -> None:
    stack.apply()
    pool = client.get_instance_pool(id=stack.outputs()["pool_id"])
    before = stack.resources()
    stack.run("apply", "-auto-approve", "-no-color", f"-replace={KEYS['autoscaler']}")
    after = stack.resources()
    assert client.get_instance_pool(id=pool["id"]) == pool
    changed = {name for name in after if after[name].get("id") != before[name].get("id")}
    assert changed - {"module.monitoring.terraform_data.user_data"} == {SERVER, KEYS["autoscaler"]}
    listed = {each["key"] for each in client.list_api_keys()["api-keys"]}
    assert listed == {after[address]["key"] for address in KEYS.values()}
    plan = stack.plan()
    assert is_settled(plan), plan.text


def test_a_second_stack_in_the_account_stands_beside_the_first(
    stack: Workspace, make: Make, client: Any
) -> None:
    stack.apply()
    second = make(name="other", alerting="alertmanager")
    second.apply()
    names = {each["name"] for each in client.list_instance_pools()["instance-pools"]}
    assert names == {"exotide", "other"}
    assert second.outputs().get("grafana_url") is None
    second.destroy()
    plan = stack.plan()
    assert is_settled(plan), plan.text


def test_a_template_that_does_not_exist_fails_before_anything_is_made(make: Make) -> None:
    stack = make(name="nothing", template="Linux Debian 99 (Nobody)")
    with pytest.raises(
        TerraformFailed, match=r"resource not found\s+with data\.exoscale_template"
    ) as told:
        stack.apply()
    assert "`template` must be one of: exo compute instance-template list" in str(told.value)
    assert "Debian 13 is `Linux Debian 13 (Trixie) 64-bit`" in str(told.value)
    assert stack.resources() == {}


def test_a_wrong_key_fails_before_anything_is_made_and_is_not_printed(make: Make) -> None:
    secret = "wrong-secret-0123456789"
    stack = make(exoscale_secret=secret, name="nothing")
    with pytest.raises(TerraformFailed) as refused:
        stack.apply()
    assert "403" in str(refused.value) or "signature" in str(refused.value).lower()
    assert secret not in str(refused.value)
    assert stack.resources() == {}


READINGS = [frozenset(each) for size in range(4) for each in combinations(Reading, size)]
NOWHERE = {Reading.NO_PATH_PARAMETERS, Reading.NO_RESOURCES}


@pytest.fixture
def read_as(cloud: RunningCloud) -> Iterator[Callable[[frozenset[Reading]], None]]:
    """Lets the cloud judge policies by some readings; by its own in the end."""

    def read(readings: frozenset[Reading]) -> None:
        cloud.cloud.world.iam.readings = readings

    yield read
    read(frozenset())


def test_the_agents_keys_are_good_for_their_pool_however_the_cloud_reads_policies(
    stack: Workspace, cloud: RunningCloud, read_as: Callable[[frozenset[Reading]], None]
) -> None:
    stack.apply()
    pool, made = stack.outputs()["pool_id"], stack.resources()
    for readings in READINGS:
        read_as(readings)
        for address in KEYS.values():
            client = Client(made[address]["key"], made[address]["secret"], url=cloud.url)
            if readings >= NOWHERE:
                with pytest.raises(ExoscaleAPIAuthException, match="get-instance-pool by key"):
                    client.get_instance_pool(id=pool)
            else:
                assert client.get_instance_pool(id=pool)["id"] == pool
            assert client.list_instances()["instances"]
            client.http_client.close()


def test_keys_for_any_pool_change_the_roles_alone_and_hold_where_no_name_does(
    make: Make, cloud: RunningCloud, read_as: Callable[[frozenset[Reading]], None]
) -> None:
    stack = make(name="doubtful")
    stack.apply()
    made, variables = stack.resources(), {"agents_one_pool": "false"}
    assert changes(stack.plan(**variables)) == {key: ["update"] for key in ROLES}
    stack.apply(**variables)
    read_as(frozenset(Reading))
    for address in KEYS.values():
        client = Client(made[address]["key"], made[address]["secret"], url=cloud.url)
        assert client.get_instance_pool(id=stack.outputs()["pool_id"])["size"] == 1
        client.http_client.close()
    stack.destroy()


@pytest.fixture
def careful(client: Any) -> Iterator[dict[str, str]]:
    """What a key without iam is, as variables."""
    services = {"compute": {"type": "allow"}}
    policy = {"default-service-strategy": "deny", "services": services}
    role = client.create_iam_role(name="careful", policy=policy)["reference"]["id"]
    key = client.create_api_key(name="careful", role_id=role)
    yield {"exoscale_key": key["key"], "exoscale_secret": key["secret"]}
    done(client, client.delete_api_key(id=key["key"]))
    done(client, client.delete_iam_role(id=role))


def test_a_key_without_iam_fails_before_anything_is_made_and_is_told_the_way_out(
    make: Make, careful: dict[str, str]
) -> None:
    stack = make(name="careful", **careful)
    with pytest.raises(TerraformFailed, match="Forbidden by role policy for iam") as told:
        stack.apply()
    assert "set agents_key and agents_secret to a key with `compute`" in str(told.value)
    assert careful["exoscale_secret"] not in str(told.value)
    assert stack.resources() == {}


def test_with_a_key_for_the_agents_a_stack_needs_no_iam_from_its_making_to_its_end(
    make: Make, careful: dict[str, str], client: Any
) -> None:
    agents = {name.replace("exoscale", "agents"): each for name, each in careful.items()}
    before = client.list_iam_roles()["iam-roles"]
    stack = make(name="careful", **careful, **agents)
    stack.apply()
    assert client.list_iam_roles()["iam-roles"] == before
    assert len([each for each in stack.resources() if ".data." not in f".{each}"]) == PARTS - 4
    assert is_settled(stack.plan())
    stack.destroy()
    assert stack.resources() == {}


def test_limits_that_cannot_hold_fail_before_anything_is_made(make: Make) -> None:
    stack = make(name="nothing", budget_eur_per_month="20")
    with pytest.raises(TerraformFailed, match=r"does not pay for min_size \(1\): at least 50"):
        stack.apply()
    assert stack.resources() == {}


def until(seen: Callable[[], object], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not seen():
        assert time.monotonic() < deadline_s, "nothing of it was seen"
        time.sleep(0.02)  # polled: the other side is another process


def test_an_interrupted_apply_doubles_nothing_and_the_next_names_what_the_state_lost(
    make: Make, cloud: RunningCloud, client: Any
) -> None:
    """
    The provider stops waiting for what it just ordered, so that no state knows it.

    Terraform alone cannot go on from there: that is what `exotide up` is for.
    """
    stack, world = make(name="interrupted"), cloud.cloud.world

    def ordered() -> list[str]:
        groups = (each.name for each in world.security_groups.values())
        return [name for name in groups if name.startswith("interrupted")]

    with stack.begin("apply", "-auto-approve", "-no-color") as process:
        try:
            until(lambda: len(ordered()) == 2)
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "Interrupt received" in said
    with pytest.raises(TerraformFailed, match=r"security group\s+interrupted-\w+ already\s+exists"):
        stack.apply()
    assert sorted(ordered()) == ["interrupted-members", "interrupted-monitoring"]
    assert [each.name for each in world.load_balancers.values()].count("interrupted") <= 1
    stack.destroy()
    remove_leftovers(client, "interrupted")
    stack.apply()
    assert is_settled(stack.plan())
    stack.destroy()


def remove_leftovers(client: Any, name: str) -> None:
    """Remove what no state knows, by its name."""
    for each in client.list_load_balancers()["load-balancers"]:
        if each["name"] == name:
            done(client, client.delete_load_balancer(id=each["id"]))
    for each in client.list_security_groups()["security-groups"]:
        if each["name"].startswith(f"{name}-"):
            done(client, client.delete_security_group(id=each["id"]))


def test_opentofu_applies_and_destroys_the_same(make: Make) -> None:
    stack = make(programs.opentofu, name="tofu")
    stack.apply()
    plan = stack.plan()
    assert is_settled(plan), plan.text
    stack.destroy()
    assert stack.resources() == {}

"""`exotide up` and `down` with the real Terraform, the official provider and the root module."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exotide.cloud.testing import FakeServers, RunningCloud
from exotide.realtools import programs
from exotide.realtools.cell import Cell
from exotide.realtools.terraform import Workspace
from tests.keys import LIMITED, key_for, limited_key
from tests.up.conftest import EXOTIDE, end, until
from tests.up.terminal import Terminal

from .conftest import found

ROOT = Path(__file__).parents[2]
PARTS = 19


@dataclass(kw_only=True)
class Checkout:
    """A folder with the root module, in a shell that uses the local cloud."""

    workspace: Workspace
    environment: dict[str, str]
    cloud: RunningCloud
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.workspace.folder

    def words(self, *words: str) -> list[str]:
        return self.workspace.run_in(*EXOTIDE, *words)

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Start `exotide`; an empty variable is left out."""
        variables = self.environment | more
        process = subprocess.Popen(
            self.words(*words),
            cwd=self.folder,
            env={name: each for name, each in variables.items() if each},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **more: str) -> str:
        status, said = end(self.begin(*words, **more), within_s=200)
        assert status == 0, said
        return said

    @property
    def journal(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / ".exotide/up.json").read_text()))

    @property
    def is_running(self) -> bool:
        file = self.folder / ".exotide/up.json"
        return file.exists() and json.loads(file.read_text())["phase"] == "running"

    def known(self) -> list[object]:
        """What the state holds, read without any tool."""
        file = self.folder / "terraform.tfstate"
        return list(json.loads(file.read_text())["resources"]) if file.exists() else []

    def nothing_is_left(self) -> None:
        assert self.known() == []
        assert not (self.folder / ".exotide/up.json").exists()
        world = self.cloud.cloud.world
        left = [world.pools, world.instances, world.load_balancers, world.security_groups]
        assert not any(left), left
        roles = [each.name for each in world.iam.roles.values()]
        assert [name for name in roles if not name.startswith(LIMITED)] == []
        assert isinstance(self.cloud.servers, FakeServers)
        assert not self.cloud.servers.running


@pytest.fixture
def checkout(
    cell: Cell, cloud: RunningCloud, variables: dict[str, str], tmp_path: Path
) -> Iterator[Checkout]:
    terraform, provider = found(programs.terraform), found(programs.provider)
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "terraform").symlink_to(ROOT / "terraform")
    workspace = Workspace.made(
        folder,
        *ROOT.glob("*.tf"),
        terraform=terraform,
        provider=provider,
        environment=variables,
        run_in=cell.command,
    )
    own = {
        "HOME": str(folder),
        "EXOTIDE_TERRAFORM": str(terraform),
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "CHECKPOINT_DISABLE": "1",
    }
    made = Checkout(workspace=workspace, environment=variables | own, cloud=cloud)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if made.known():
        workspace.destroy()


def test_a_stack_with_a_time_to_live_from_init_to_nothing(checkout: Checkout) -> None:
    """How long Terraform takes is the machine's affair: it is TERM that ends the stack early."""
    shutil.rmtree(checkout.folder / ".terraform")
    running = checkout.begin("up", "--ttl", "1h")
    until(lambda: checkout.is_running, within_s=120)
    running.send_signal(signal.SIGTERM)
    status, said = end(running, within_s=200)
    assert status == 0, said
    lines = said.splitlines()
    assert lines[0].startswith("a local cloud, zone at-vie-1: http://127.0.0.1:")
    assert " init: linking the modules, fetching the provider" in said
    assert "rights: nothing refused in compute and iam, tried by calls without effect" in lines
    assert f"apply: {PARTS} created, 0 changed, 0 destroyed in" in said
    assert "grafana_password   secret; see it by" in said
    (shown,) = [line for line in lines if line.endswith("Ctrl-C ends it")]
    assert "  pool 1  " in shown
    assert "EUR (0.06814/h)  destroyed in " in shown
    assert f"destroy: 0 created, 0 changed, {PARTS} destroyed in" in said
    assert checkout.environment["TF_VAR_exoscale_secret"] not in said
    checkout.nothing_is_left()


def test_files_of_variables_hold_before_the_first_apply(checkout: Checkout) -> None:
    (checkout.folder / "terraform.tfvars").write_text('name = "web"\nmax_size = 7\n')
    said = checkout.run("up", "--detach")
    assert "by its variables it is stack web in at-vie-1" in said
    assert checkout.journal["name"] == "web"
    assert " max_size           7" in said
    checkout.run("down")
    checkout.nothing_is_left()


def test_a_quota_lowers_the_largest_size(checkout: Checkout) -> None:
    world = checkout.cloud.cloud.world
    usual = world.quotas
    checkout.cloud.on_loop(lambda: setattr(world, "quotas", {**usual, "instance": 5}))
    try:
        said = checkout.run("up", "--detach")
        assert "max_size is lowered from 10 to 4: the quota of instances is 5" in said
        assert " max_size           4" in said
        assert "apply: 0 created, 0 changed, 0 destroyed" in checkout.run("up", "--detach")
    finally:
        checkout.cloud.on_loop(lambda: setattr(world, "quotas", usual))
    checkout.run("down")
    checkout.nothing_is_left()


def test_a_quota_that_others_use_up_meanwhile_is_told_with_the_next_step(
    checkout: Checkout,
) -> None:
    world = checkout.cloud.cloud.world
    usual = world.quotas
    running = checkout.begin("up", "--ttl", "1h")
    until(lambda: world.security_groups, within_s=120)
    checkout.cloud.on_loop(lambda: setattr(world, "quotas", {**usual, "instance": 0}))
    try:
        status, said = end(running, within_s=200)
    finally:
        checkout.cloud.on_loop(lambda: setattr(world, "quotas", usual))
    assert status == 1, said
    assert "a quota of the account is used up, as the error below says: ask for more" in said
    assert "quota exceeded: instance limit is 0" in said
    checkout.nothing_is_left()


def test_a_key_for_compute_alone_builds_a_stack_whose_agents_are_given_one(
    checkout: Checkout, client: Any
) -> None:
    key = key_for(client, {"compute": {"type": "allow"}})
    status, said = end(checkout.begin("up", "--detach", **key), within_s=200)
    assert status == 2, said
    assert "iam: refused list-iam-roles" in said
    assert checkout.known() == []
    names = {"TF_VAR_agents_key": "TF_VAR_exoscale_key"}
    names["TF_VAR_agents_secret"] = "TF_VAR_exoscale_secret"
    given = key | {agents: key[name] for agents, name in names.items()}
    said = checkout.run("up", "--detach", **given)
    assert "apply: " in said
    assert given["TF_VAR_agents_secret"] not in said
    checkout.run("down", **given)
    checkout.nothing_is_left()


def test_opentofu_does_the_same(checkout: Checkout) -> None:
    tofu = str(found(programs.opentofu))
    shutil.rmtree(checkout.folder / ".terraform")
    (checkout.folder / ".terraform.lock.hcl").unlink()
    said = checkout.run("up", "--detach", EXOTIDE_TERRAFORM=tofu)
    assert f"apply: {PARTS} created, 0 changed, 0 destroyed in" in said
    said = checkout.run("down", EXOTIDE_TERRAFORM="")
    assert f"by {tofu} in" in said, "what made the stack is remembered"
    checkout.nothing_is_left()


def test_down_after_exotide_was_killed_in_the_apply(checkout: Checkout) -> None:
    killed = checkout.begin("up")
    until(lambda: checkout.cloud.cloud.world.pools)
    killed.kill()
    killed.communicate()
    assert checkout.journal["phase"] == "applying"
    said = checkout.run("down")
    assert "a terraform of an earlier run still works" in said
    checkout.nothing_is_left()


def test_after_a_power_cut_up_makes_nothing_twice(checkout: Checkout) -> None:
    """Terraform dies while it makes a server, which its state then does not know."""
    world = checkout.cloud.cloud.world
    killed = checkout.begin("up", "--ttl", "1h")
    until(lambda: [each for each in world.instances.values() if each.name.endswith("monitoring")])
    killed.kill()
    killed.communicate()
    os.kill(checkout.journal["terraform"]["pid"], signal.SIGKILL)
    said = checkout.run("up", "--detach")
    assert "its lock on the state ended with it" in said
    assert "removed    instance exotide-monitoring" in said
    said = checkout.run("up", "--detach")
    assert "apply: 0 created, 0 changed, 0 destroyed" in said
    assert sorted(each.name for each in world.security_groups.values()) == [
        "exotide-members",
        "exotide-monitoring",
    ]
    assert len(world.instances) == 2
    checkout.run("down")
    checkout.nothing_is_left()


def test_ctrl_c_asks_and_no_number_of_them_does_harm(checkout: Checkout) -> None:
    terminal = Terminal(
        checkout.words("up"), folder=checkout.folder, environment=checkout.environment
    )
    terminal.until("exoscale_iam_role.autoscaler", within_s=60)
    terminal.type("\x03")
    terminal.until(r"left running\. \[y/N\]")
    terminal.type("y\n")
    terminal.until("destroying\r", within_s=60)
    terminal.type("\x03")
    terminal.until(r"leave running what is left\? \[y/N\]")
    terminal.type("n\n")
    terminal.type("\x03\x03\x03")
    assert terminal.end() == 0, terminal.seen
    checkout.nothing_is_left()


def test_what_the_key_may_not_delete_is_listed_loudly(checkout: Checkout, client: Any) -> None:
    checkout.run("up", "--detach")
    limited = limited_key(client, without="delete-instance-pool")
    status, said = end(checkout.begin("down", **limited), within_s=200)
    assert status == 1, said
    assert "RESOURCES OF STACK exotide STILL EXIST AND MAY COST MONEY: 0.00869 EUR" in said
    (pool,) = checkout.cloud.cloud.world.pools
    assert f"exo compute instance-pool delete {pool} -z at-vie-1" in said
    checkout.run("down")
    checkout.nothing_is_left()

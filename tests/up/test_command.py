"""What the commands do in which folder, shell and state; Terraform is a stand-in."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from exotide.cloud.faults.model import Drop, Effect, Fault, Selector, Timing
from exotide.cloud.testing import RunningCloud
from exotide.up import command
from exotide.up.journal import held
from tests.keys import key_for, limited_key

from .conftest import Run, Site, names_in, until


def strike(cloud: RunningCloud, effect: Effect, operation: str) -> None:
    fault = Fault(effect=effect, selector=Selector(operation=operation), timing=Timing(seed=7))
    cloud.on_loop(lambda: cloud.cloud.world.faults.add(fault))


def detached(run: Run, **more: Any) -> str:
    status, said = run(lambda: command.up(detach=True, **more))
    assert status == 0, said
    return said


def test_variables_hold_until_the_stack_is_gone(site: Site, run: Run) -> None:
    said = detached(run, variable=("max_size=3",))
    assert "terraform init: linking the modules" in said
    assert "is left running and costs 0.05210 EUR per hour" in said
    assert len(names_in(site.cloud)) == 4
    said = detached(run)
    assert "terraform init" not in said
    kept = json.loads(site.journal.read_text())
    assert (kept["phase"], kept["variables"]) == ("running", {"max_size": "3"})
    status, said = run(command.down)
    assert status == 0, said
    assert names_in(site.cloud) == []
    assert not site.journal.exists()


def test_a_time_to_live_that_is_over_is_made_up_for(site: Site, run: Run) -> None:
    detached(run, ttl="1h")
    (first,) = site.cloud.cloud.world.pools
    kept = json.loads(site.journal.read_text())
    site.journal.write_text(json.dumps(kept | {"destroy_after": time.time() - 60}))
    said = detached(run)
    assert "is destroyed first, as its time to live was over at" in said
    assert first not in site.cloud.cloud.world.pools
    assert len(names_in(site.cloud)) == 4
    assert json.loads(site.journal.read_text())["destroy_after"] is None


def test_a_time_to_live_counts_from_now_and_never_takes_it_back(site: Site, run: Run) -> None:
    detached(run, ttl="1h")
    first = json.loads(site.journal.read_text())["destroy_after"]
    detached(run, ttl="2h")
    second = json.loads(site.journal.read_text())["destroy_after"]
    assert second == pytest.approx(first + 3600, abs=30)
    detached(run, ttl="never")
    assert json.loads(site.journal.read_text())["destroy_after"] is None


def test_a_stack_that_plain_terraform_made_is_taken_over_as_it_is(site: Site, run: Run) -> None:
    terraform = site.environment["EXOTIDE_TERRAFORM"]
    for words in ("init", "apply"):
        subprocess.run(
            [terraform, words],
            cwd=site.root,
            env=site.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    said = detached(run)
    assert "apply: 0 created, 0 changed, 0 destroyed" in said
    created = (site.root / "terraform.tfstate").read_text()
    since = json.loads(site.journal.read_text())["since"]
    assert datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") in created


def test_a_stack_that_went_by_other_hands_is_begun_anew(site: Site, run: Run) -> None:
    detached(run, variable=("max_size=3",), ttl="1h")
    terraform = site.environment["EXOTIDE_TERRAFORM"]
    subprocess.run(
        [terraform, "destroy"],
        cwd=site.root,
        env=site.environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    before = time.time()
    detached(run)
    kept = json.loads(site.journal.read_text())
    assert kept["since"] >= before
    assert (kept["destroy_after"], kept["variables"]) == (None, {})


def test_another_run_in_the_folder_is_named(site: Site, run: Run) -> None:
    with held(site.root):
        status, said = run(command.down)
    assert status == 2
    assert f"another exotide (process {site.own_pid}) works in {site.root}" in said


def test_an_alien_terraform_is_named(site: Site, run: Run) -> None:
    alien = subprocess.Popen(
        [site.environment["EXOTIDE_TERRAFORM"], "apply"],
        cwd=site.root,
        env=site.environment | {"FAKE_WAITS_AT": "created"},
        stdout=subprocess.DEVNULL,
    )
    site.started.append(alien)
    until((site.root / ".terraform.tfstate.lock.info").exists)
    status, said = run(command.up)
    assert status == 2
    assert f"process {alien.pid} works on {site.root}/terraform.tfstate" in said
    assert f"kill -INT {alien.pid}" in said
    assert "OperationTypeApply by tester@here" in said


def test_what_bears_the_names_of_the_stack_is_neither_doubled_nor_removed(
    site: Site, run: Run, client: Any
) -> None:
    client.create_security_group(name="exotide-members")
    site.cloud.settle()
    status, said = run(command.up)
    assert status == 1
    assert "1 RESOURCES OF STACK exotide STILL EXIST" in said
    assert "give this one another name" in said
    status, said = run(command.down)
    assert status == 1
    assert names_in(site.cloud) == ["exotide-members"]
    assert not site.journal.exists()
    status, said = run(lambda: command.down(name="other"))
    assert status == 0, said
    status, said = run(lambda: command.down(orphans=True))
    assert status == 0, said
    assert names_in(site.cloud) == []


def test_what_cannot_be_removed_is_listed_loudly_and_finished_by_the_next(
    site: Site, run: Run, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached(run)
    for name, value in limited_key(client, without="delete-instance-pool").items():
        monkeypatch.setenv(name, value)
    status, said = run(command.down)
    assert status == 1
    (pool,) = site.cloud.cloud.world.pools.values()
    assert "2 RESOURCES OF STACK exotide STILL EXIST AND MAY COST MONEY: 0.00869" in said
    assert f"instance pool exotide ({pool.id}): 1 member, 0.00869 EUR per hour" in said
    assert f"exo compute instance-pool delete {pool.id} -z at-vie-1" in said
    assert "RESOURCES ARE STILL IN THE STATE" in said
    assert "NOT EVERYTHING WAS REMOVED" in said
    monkeypatch.setenv("TF_VAR_exoscale_key", site.cloud.access.key)
    monkeypatch.setenv("TF_VAR_exoscale_secret", site.cloud.access.secret)
    said = detached(run)
    assert "an earlier destroy did not get to its end" in said
    assert len(names_in(site.cloud)) == 4


@pytest.mark.misbehaving
def test_without_an_answer_of_the_api_nothing_is_begun(site: Site, run: Run) -> None:
    strike(site.cloud, Drop(), "list-*")
    status, said = run(command.up)
    assert status == 2
    assert "does not answer: " in said
    assert "This shell is set for a local cloud, which has ended or is another now" in said
    assert not site.journal.exists()


def test_a_wrong_secret_is_found_before_anything_is_begun_and_not_shown(
    site: Site, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_VAR_exoscale_secret", "wrong-secret-0123")
    status, said = run(command.up)
    assert status == 2
    assert "was refused (403)" in said
    assert "wrong-secret" not in said
    assert not site.journal.exists()


def test_init_that_fails_is_explained(
    site: Site, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_INIT_SAYS", "Failed to query available provider packages")
    status, said = run(command.up)
    assert status == 2
    assert "init failed:\nFailed to query available provider packages" in said
    assert "filesystem_mirror" in said
    assert not site.journal.exists()


def test_a_state_that_is_lost_is_not_taken_for_a_stack_that_has_gone(site: Site, run: Run) -> None:
    detached(run)
    state = site.root / "terraform.tfstate"
    state.rename(state.with_suffix(".tfstate.backup"))
    status, said = run(lambda: command.up(detach=True))
    assert status == 2
    assert "is missing or empty, though stack exotide was applied here: put it back" in said
    assert f"in {site.root}: cp terraform.tfstate.backup terraform.tfstate; it knows 3" in said
    (site.root / "terraform.tfstate.backup").unlink()
    state.touch()
    status, said = run(command.down)
    assert status == 1
    assert "is missing or empty" in said
    assert "RESOURCES OF STACK exotide STILL EXIST" in said
    assert site.journal.exists()
    status, said = run(lambda: command.down(orphans=True))
    assert status == 0, said
    assert not site.journal.exists()


def test_what_terraform_could_not_write_is_not_passed_over(site: Site, run: Run) -> None:
    detached(run)
    (site.root / "errored.tfstate").write_text("{}")
    for work in (command.up, command.down):
        status, said = run(work)
        assert status == 2
        assert "terraform state push errored.tfstate && rm errored.tfstate" in said
    assert len(names_in(site.cloud)) == 4


def test_a_key_of_another_account_is_refused_before_it_forgets_the_stack(
    site: Site, run: Run, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached(run)
    for name, value in key_for(client, {}, default="allow").items():
        monkeypatch.setenv(name, value)
    assert detached(run), "another key of the same account is as good"
    kept = json.loads(site.journal.read_text())
    assert kept["key"] != site.cloud.access.key
    world = site.cloud.cloud.world
    everything = (world.pools, world.instances, world.load_balancers, world.security_groups)
    site.cloud.on_loop(lambda: [each.clear() for each in everything])  # as another account has it
    monkeypatch.setenv("TF_VAR_exoscale_key", site.cloud.access.key)
    monkeypatch.setenv("TF_VAR_exoscale_secret", site.cloud.access.secret)
    known = (site.root / "terraform.tfstate").read_text()
    for work in (command.up, command.down):
        status, said = run(work)
        assert status == 2
        assert f"the stack was made with key {kept['key']}, and the account of key" in said
        assert (site.root / "terraform.tfstate").read_text() == known


def test_another_cloud_than_that_of_the_stack_is_refused(
    site: Site, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached(run)
    elsewhere = "http://127.0.0.1:9/v2"
    monkeypatch.setenv("EXOSCALE_API_ENDPOINT", elsewhere)
    status, said = run(command.down)
    assert status == 2
    assert f"made at {site.cloud.url}, and this shell uses {elsewhere}" in said
    assert len(names_in(site.cloud)) == 4


@pytest.mark.parametrize("change", ["name=web", "zone=ch-dk-2"])
def test_a_stack_that_is_there_is_neither_renamed_nor_moved(
    site: Site, run: Run, change: str
) -> None:
    detached(run)
    kept = site.journal.read_text()
    status, said = run(lambda: command.up(variable=(change,)))
    assert status == 2
    assert f"and its variables say {change.partition('=')[2]}; a stack cannot change that" in said
    assert site.journal.read_text() == kept
    detached(run)


def test_a_name_that_is_not_the_folder_s_is_refused(site: Site, run: Run) -> None:
    detached(run)
    status, said = run(lambda: command.down(name="other"))
    assert status == 2
    assert "--name other: the stack of this folder has name exotide" in said

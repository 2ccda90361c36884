"""`exotide up` and `down` as programs, with a stand-in for Terraform against a local cloud."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from .conftest import EXOTIDE, Site, end, names_in, until
from .terminal import Terminal


def terraform_of(site: Site) -> int:
    return int(json.loads(site.journal.read_text())["terraform"]["pid"])


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def terminal_of(site: Site, *words: str, **more: str) -> Terminal:
    return Terminal((*EXOTIDE, *words), folder=site.root, environment=site.environment | more)


def test_a_stack_is_made_and_destroyed_when_its_time_to_live_is_over(site: Site) -> None:
    """In two runs: how long an apply takes is the machine's affair."""
    status, said = site.run("up", "--detach")
    assert status == 0, said
    assert "created    module.pool.exoscale_instance_pool.members" in said
    assert re.search(r"grafana_password +secret; see it by: terraform output -raw", said)
    assert len(names_in(site.cloud)) == 4
    status, said = site.run("up", "--ttl", "1s")
    assert status == 0, said
    assert "its time to live is over: destroying" in said
    assert "nothing of stack exotide is left; it came to about 0.000" in said
    assert names_in(site.cloud) == []
    assert not site.journal.exists()


def test_nobody_else_reads_the_state_whatever_the_umask_and_whoever_wrote_it_first(
    site: Site,
) -> None:
    state = site.root / "terraform.tfstate"
    state.write_text("")
    state.chmod(0o644)
    before = os.umask(0o000)
    try:
        status, said = site.run("up", "--detach")
    finally:
        os.umask(before)
    assert status == 0, said
    written = [file for file in site.root.iterdir() if "tfstate" in file.name]
    assert state in written
    assert {file.stat().st_mode & 0o077 for file in written} == {0}


def test_no_secret_is_in_an_argument_a_file_or_what_is_said(site: Site) -> None:
    secret = site.cloud.access.secret
    process = site.begin("up", "--ttl", "1h", FAKE_WAITS_AT="instance_pool")
    until(lambda: "security_group" in said_by_terraform(site))
    arguments = Path(f"/proc/{terraform_of(site)}/cmdline").read_text()
    assert "-var=time_to_live_h=" in arguments
    assert secret not in arguments
    process.send_signal(signal.SIGTERM)
    until(lambda: "stops as soon as it safely can" in site.log)
    site.go()
    status, said = end(process)
    assert status == 0, said
    assert secret not in said
    for file in (site.root / ".exotide").iterdir():
        assert secret not in file.read_text()
        assert file.stat().st_mode & 0o077 == 0
    assert names_in(site.cloud) == []


def said_by_terraform(site: Site) -> str:
    file = site.root / ".exotide/terraform.jsonl"
    return file.read_text() if file.exists() else ""


def test_a_terraform_whose_exotide_was_killed_goes_on_and_down_stops_it_safely(site: Site) -> None:
    killed = site.begin("up", FAKE_WAITS_AT="instance_pool")
    until(lambda: names_in(site.cloud) == ["exotide-members"])
    killed.kill()
    killed.communicate()
    assert not has_ended(terraform_of(site))
    status, said = site.run("down")
    assert status == 0, said
    assert "a terraform of an earlier run still works" in said
    assert "stops as soon as it safely can" in said
    assert "created    module.pool.exoscale_instance_pool.members" in said
    assert "nothing of stack exotide is left" in said
    assert names_in(site.cloud) == []
    assert not site.journal.exists()


def test_up_after_a_power_cut_makes_nothing_twice(site: Site) -> None:
    """Everything dies at once, while a pool is made that no state knows."""
    killed = site.begin("up", "--ttl", "1h", FAKE_HANGS_AT="instance_pool")
    until(lambda: site.cloud.cloud.world.pools)
    terraform = terraform_of(site)
    killed.kill()
    killed.communicate()
    os.kill(terraform, signal.SIGKILL)
    until(lambda: has_ended(terraform))
    (orphan,) = site.cloud.cloud.world.pools
    status, said = site.run("up", "--detach")
    assert status == 0, said
    assert "its lock on the state ended with it" in said
    assert f"removed    instance pool exotide ({orphan}), which no state knew" in said
    assert "the next of these will" in said, "the time to live of the first run holds"
    assert len(site.cloud.cloud.world.pools) == 1
    assert len(names_in(site.cloud)) == 4


def test_each_ctrl_c_asks_or_says_no_and_none_does_harm(site: Site) -> None:
    terminal = terminal_of(site, "up", "--ttl", "1h", FAKE_WAITS_AT="compute_instance")
    site.go()
    terminal.until("Ctrl-C ends it")
    (site.root / "go").unlink()
    terminal.type("\x03")
    terminal.until(r"destroys itself in 59 min \d+ s\. \[y/N\]")
    terminal.type("n\n")
    terminal.forget_until("up .* destroyed in")
    terminal.type("\x03")
    terminal.until(r"destroys itself in 59 min \d+ s\. \[y/N\]")
    terminal.type("y\n")
    until(lambda: '"delete"' in said_by_terraform(site))
    for answer in ("\x03", "n\n"):
        terminal.type("\x03")
        terminal.until(r"leave running what is left\? \[y/N\]")
        terminal.type(answer)
        terminal.forget_until("destroying for")
    site.go()
    assert terminal.end() == 0
    assert "halted" not in terminal.seen, "the terminal's Ctrl-C is not for Terraform"
    assert "nothing of stack exotide is left" in terminal.seen
    assert names_in(site.cloud) == []


def test_a_terminal_that_is_lost_destroys_a_stack_with_a_time_to_live(site: Site) -> None:
    terminal = terminal_of(site, "up", "--ttl", "1h")
    terminal.until("Ctrl-C ends it")
    assert terminal.hang_up() == 0
    assert names_in(site.cloud) == []
    assert "nothing of stack exotide is left" in site.log

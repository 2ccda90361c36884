"""What is found out before anything is made that costs money; Terraform is a stand-in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exotide.up import command
from tests.keys import key_for, limited_key

from .conftest import Run, Site, names_in

COMPUTE = {"compute": {"type": "allow"}}
LIMITED = "nothing was made"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables of the shell; an empty one is unset."""

    def use(**variables: str) -> None:
        for name, value in variables.items():
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)

    return use


def refused(site: Site, run: Run, **more: Any) -> str:
    status, said = run(lambda: command.up(detach=True, **more))
    assert status == 2, said
    assert names_in(site.cloud) == []
    assert not site.journal.exists()
    return said


def made(run: Run, **more: Any) -> str:
    status, said = run(lambda: command.up(detach=True, **more))
    assert status == 0, said
    return said


def test_the_first_line_says_which_cloud_it_is(site: Site, run: Run) -> None:
    said = made(run).splitlines()
    assert said[0] == f"a local cloud, zone at-vie-1: {site.cloud.url}"
    assert said[1].startswith("stack exotide, by ")
    assert "rights: nothing refused in compute and iam, tried by calls without effect" in said
    status, text = run(command.down)
    assert (status, text.splitlines()[0]) == (0, said[0])


def test_a_key_without_iam_is_told_what_to_give_and_then_is_enough(
    site: Site, run: Run, use: Any, client: Any
) -> None:
    key = key_for(client, COMPUTE)
    use(**key)
    said = refused(site, run)
    assert "iam: refused list-iam-roles, list-api-keys, get-iam-organization-policy, " in said
    assert "compute: refused" not in said
    assert "export TF_VAR_agents_key and TF_VAR_agents_secret, both" in said
    given = {
        "TF_VAR_agents_key": key["TF_VAR_exoscale_key"],
        "TF_VAR_agents_secret": key["TF_VAR_exoscale_secret"],
    }
    use(**given)
    said = made(run)
    assert "rights: nothing refused in compute, tried by calls without effect" in said
    assert given["TF_VAR_agents_secret"] not in said
    assert json.loads(site.journal.read_text())["makes_keys"] is False
    use(TF_VAR_agents_key="", TF_VAR_agents_secret="")
    status, said = run(command.down)
    assert status == 1, "without the agents' key, the stack may have keys that it cannot see"
    assert "list iam roles" in said
    status, said = run(command.down)
    assert status == 1


def test_a_key_that_lacks_a_right_is_told_which(
    site: Site, run: Run, use: Any, client: Any
) -> None:
    use(**limited_key(client, without="create-load-balancer"))
    said = refused(site, run)
    assert "  compute: refused create-load-balancer\n" in said
    assert "use a key whose role allows these" in said


def test_an_agents_key_that_could_not_scale_is_told(
    site: Site, run: Run, use: Any, client: Any
) -> None:
    weak = limited_key(client, without="scale-instance-pool")
    use(
        TF_VAR_agents_key=weak["TF_VAR_exoscale_key"],
        TF_VAR_agents_secret=weak["TF_VAR_exoscale_secret"],
    )
    said = refused(site, run)
    assert "agents_key may not do what the agents need; nothing was made" in said
    assert "  compute: refused scale-instance-pool\n" in said


def test_a_template_that_there_is_not_is_told_with_those_that_there_are(
    site: Site, run: Run
) -> None:
    said = refused(site, run, variable=("template=Linux Debian 11",))
    assert "zone at-vie-1 has no template 'Linux Debian 11'; nothing was made" in said
    assert "Linux Debian 12 (Bookworm) 64-bit" in said
    assert "Ubuntu" not in said


def limit(site: Site, **limits: int) -> None:
    quotas = {name.replace("_", "-"): each for name, each in limits.items()}
    world = site.cloud.cloud.world
    site.cloud.on_loop(lambda: setattr(world, "quotas", {**world.quotas, **quotas}))


def test_a_quota_lowers_the_largest_size_and_says_so(site: Site, run: Run) -> None:
    limit(site, instance=5)
    said = made(run)
    assert "max_size is lowered from 10 to 4: the quota of instances is 5" in said
    kept = json.loads(site.journal.read_text())
    assert (kept["max_size"], kept["lowered_from"], kept["variables"]) == (4, 10, {})
    assert applied_size(site) == 4
    limit(site, instance=3)
    said = made(run)
    assert "the pool cannot get larger than 2, though max_size is 4" in said
    assert applied_size(site) == 4, "another size would replace the monitoring server"
    limit(site, instance=20)
    made(run, variable=("max_size=12",))
    assert applied_size(site) == 12
    assert json.loads(site.journal.read_text())["max_size"] == 0


def applied_size(site: Site) -> int:
    state = json.loads((site.root / "terraform.tfstate").read_text())
    return int(state["fake"]["terraform_data.sizes"]["output"]["value"]["max"])


def test_a_quota_that_does_not_even_leave_the_smallest_stack_refuses_it(
    site: Site, run: Run
) -> None:
    limit(site, instance=1)
    said = refused(site, run)
    assert "quota of instances: 0 of 1 in use, and the smallest stack needs 2 more" in said
    assert "ask for more in the portal" in said
    limit(site, instance=20, network_load_balancer=0)
    assert "quota of network-load-balancers: 0 of 0 in use" in refused(site, run)


def test_a_shell_that_names_a_local_cloud_for_some_tools_only_is_refused(
    site: Site, run: Run, use: Any
) -> None:
    use(FAKE_PROVIDER="0.70.1")
    said = refused(site, run)
    assert "by EXOSCALE_API_ENDPOINT alone, and the provider (0.70) asks that for some" in said
    (site.root / ".terraform.lock.hcl").unlink()
    assert "the provider (of unknown version)" in refused(site, run)


def test_a_shell_that_means_two_clouds_is_refused(site: Site, run: Run, use: Any) -> None:
    use(TF_VAR_agents_api_endpoint="")
    assert "and their agents call the real Exoscale" in refused(site, run)
    use(EXOSCALE_API_ENVIRONMENT="ppapi")
    assert "unset EXOSCALE_API_ENVIRONMENT" in refused(site, run)
    use(EXOSCALE_API_ENVIRONMENT="", HTTPS_PROXY="http://127.0.0.1:1")
    use(SSL_CERT_FILE="/gone/exotide/ca/ca.pem")
    assert "leads elsewhere" in refused(site, run)
    use(EXOSCALE_API_ENDPOINT="")
    assert "this shell is half set for a local cloud" in refused(site, run)


def test_terraform_asks_the_zone_of_the_stack_whichever_zone_the_shell_names(
    site: Site, run: Run, use: Any
) -> None:
    use(EXOSCALE_API_ENDPOINT=f"http://127.0.0.1:{site.cloud.access.port}/z/ch-dk-2/v2")
    said = made(run)
    assert f"zone at-vie-1: {site.cloud.url}" in said
    (pool,) = site.cloud.cloud.world.pools.values()
    assert pool.zone == "at-vie-1"


def test_name_and_zone_in_files_of_variables_hold_before_the_first_apply(
    site: Site, run: Run
) -> None:
    (site.root / "terraform.tfvars.json").write_text('{"name": "web", "zone": "ch-dk-2"}')
    said = made(run)
    assert "by its variables it is stack web in ch-dk-2" in said
    assert f"a local cloud, zone ch-dk-2: http://127.0.0.1:{site.cloud.access.port}/z/" in said
    kept = json.loads(site.journal.read_text())
    assert (kept["name"], kept["zone"]) == ("web", "ch-dk-2")


def test_a_name_that_changes_in_a_file_does_not_lead_a_destroy_astray(site: Site, run: Run) -> None:
    made(run)
    (site.root / "terraform.tfvars.json").write_text('{"name": "web"}')
    status, said = run(lambda: command.up(detach=True))
    assert status == 2
    assert "has name exotide, and its variables say web" in said
    kept = json.loads(site.journal.read_text())
    assert kept["name"] == "exotide"
    site.journal.write_text(json.dumps(kept | {"destroy_after": 1.0}))
    status, said = run(lambda: command.up(detach=True))
    assert "stack exotide is destroyed first, as its time to live was over" in said
    assert status == 0, said
    assert json.loads(site.journal.read_text())["name"] == "web"
    status, said = run(command.down)
    assert "nothing of stack web is left" in said


def test_without_terraform_s_answer_the_shell_s_variables_hold(
    site: Site, run: Run, use: Any
) -> None:
    limit(site, instance=5)
    use(FAKE_CONSOLE_SAYS="Error: nothing works", TF_VAR_name="web")
    said = made(run)
    assert "max_size is not known here, so that it was not compared with the quota" in said
    assert json.loads(site.journal.read_text())["name"] == "web"

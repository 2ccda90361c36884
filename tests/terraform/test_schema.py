from __future__ import annotations

import re
from pathlib import Path

import hcl2
import pytest
from packaging.specifiers import SpecifierSet

from .conftest import ROOT
from .schema import mistakes

FILES = sorted([*ROOT.glob("*.tf"), *ROOT.glob("terraform/**/*.tf")])
BALANCER = """
resource "exoscale_nlb_service" "http" {
  zone             = "at-vie-1"
  nlb_id           = "x"
  instance_pool_id = "y"
  name             = "http"
  port             = 80
  %s
}
"""
CHECK = "target_port = 8080\n healthcheck {\n port = 8080\n }\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_asks_only_for_what_the_providers_know(file: Path) -> None:
    assert mistakes(file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_variable_and_output_is_described_and_every_variable_has_a_type(file: Path) -> None:
    body = hcl2.loads(file.read_text())
    for kind, needed in (("variable", {"type", "description"}), ("output", {"description"})):
        for block in body.get(kind, []):
            for name, fields in block.items():
                assert needed <= fields.keys(), (kind, name)


def test_no_file_shows_the_pool_s_members_or_gives_the_size_back_to_terraform() -> None:
    """Each scaling would be a change of the plan, and undone by the next apply."""
    for file in FILES:
        assert not re.search(
            r"(?<!parameters)\.(instances|virtual_machines|size)\b", file.read_text()
        ), file
    pool = hcl2.loads((ROOT / "terraform/pool/main.tf").read_text())
    bodies = [block['"exoscale_instance_pool"'] for block in pool["resource"]
              if '"exoscale_instance_pool"' in block]  # fmt: skip
    (members,) = bodies
    assert members['"members"']["lifecycle"][0]["ignore_changes"] == ["size"]


def test_the_root_module_alone_says_which_providers_and_leaves_out_what_has_failed() -> None:
    said = {
        file.relative_to(ROOT): block["exoscale"].get("version", "").strip('"')
        for file in FILES
        for terraform in hcl2.loads(file.read_text()).get("terraform", [])
        for block in terraform.get("required_providers", [])
    }
    constraint = SpecifierSet(said.pop(Path("versions.tf")))
    assert set(said.values()) == {""}
    assert all(constraint.contains(version) for version in ("0.60.0", "0.69.3", "0.70.9"))
    assert not any(
        constraint.contains(version) for version in ("0.59.9", "0.71.0", "0.73.0", "1.0.0")
    )


ROLE = 'resource "exoscale_iam_role" "a" {\n name = "a"\n policy = %s\n}'
RULES = '{ services = { compute = { rules = [{ action = "allow", when = "x" }] } } }'
POOL = """
resource "exoscale_instance_pool" "a" {
  zone             = "at-vie-1"
  name             = "a"
  template_id      = "b"
  size             = 1
  service_offering = "c"
  min_available    = 1
}
"""
OUTPUT = 'output "a" {\n value = %s\n}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BALANCER % CHECK, []),
        (BALANCER % (CHECK + "retries = 2"), ["retries is not known"]),
        (BALANCER % CHECK.replace("{", "{\n speed = 1"), ["healthcheck: speed is not known"]),
        (BALANCER % CHECK.replace(" port = 8080", ""), ["healthcheck: port is required"]),
        (BALANCER % "target_port = 8080", ["a block healthcheck is required"]),
        (BALANCER % "target_port = 8080\n healthcheck = 1", ["healthcheck is a block, not an"]),
        (BALANCER % CHECK.removeprefix("target_port = 8080"), ["target_port is required"]),
        (BALANCER % (CHECK + 'state = "running"'), ["state is what the provider says"]),
        ('resource "exoscale_server" "a" {}', ["no resource exoscale_server is known"]),
        ('data "exoscale_nlb" "a" {}', ["no data exoscale_nlb is known"]),
        ('provider "exoscale" {\n token = 1 \n}', ["provider exoscale: token is not known"]),
        (OUTPUT % "exoscale_nlb.a.adress", ["exoscale_nlb.a.adress is not known"]),
        (OUTPUT % "exoscale_nlb.a[0].adress", ["exoscale_nlb.a.adress is not known"]),
        (OUTPUT % "data.exoscale_template.a.size", ["exoscale_template.a.size is not known"]),
        (OUTPUT % "exoscale_instance_pool.a.virtual_machines", ["virtual_machines is deprecated"]),
        (ROLE % '{ default = "deny" }', ["policy: default is not known"]),
        (ROLE % RULES, ["policy.services.rules: when is not known"]),
        (POOL, ["service_offering is deprecated", "min_available is not known to provider 0.60"]),
        ('resource "exoscale_nlb" "a" {', ["no HCL"]),
    ],
)
def test_a_mistake_is_found_and_named(text: str, said: list[str]) -> None:
    found = mistakes(text)
    assert len(found) == len(said), found
    for line, words in zip(found, said, strict=True):
        assert words in line

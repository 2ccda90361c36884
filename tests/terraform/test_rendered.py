"""What the servers get, judged by the programs that will read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import string
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.stack import bundle

from .conftest import ROOT
from .test_userdata import VARIABLES, files, text

ROOTFS = Path("/var/cache/exotide")
Render = Callable[[Mapping[str, Any]], dict[str, str]]
KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKdF2hm0UKXGQpSLXW7bE0Yq1o0vQ1bX7nq7wYl3a9uE me"


def needs(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"NOT TESTED: {program} is not installed")
    return path


def passes(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


@pytest.fixture(scope="session", params=["grafana", "alertmanager"])
def rendered(render: Render, request: pytest.FixtureRequest) -> dict[str, str]:
    more = {"slowapp_environment": {"LOAD_SECONDS": "5"}, "ssh_public_key": KEY_LINE}
    return render(VARIABLES | more | {"alerting": request.param})


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The monitoring server's files, below a folder instead of /."""
    folder = tmp_path_factory.mktemp("root")
    files = bundle.bundle_files("grafana") | bundle.bundle_files("alertmanager")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def schema_command(file: Path) -> list[str]:
    """What judges a cloud-config: cloud-init of this machine, or that of the machines' Debian."""
    if found := shutil.which("cloud-init"):
        return [found, "schema", "--config-file", str(file)]
    roots = [path.parents[2] for path in ROOTFS.glob("debian-*/usr/bin/cloud-init")]
    if not roots or os.geteuid() != 0:
        pytest.skip("NOT TESTED: cloud-init is neither installed nor in a root file system (root)")
    inside = 'mount --bind "$1" "$2/mnt" && exec chroot "$2" cloud-init schema --config-file "$3"'
    where = (str(file.parent), str(roots[0]), f"/mnt/{file.name}")
    return ["unshare", "--mount", "sh", "-c", inside, "sh", *where]


@pytest.mark.parametrize("server", ["member", "monitoring"])
def test_cloud_init_knows_every_key(rendered: dict[str, str], server: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(text(rendered[server]))
    bad.write_text(text(rendered[server]).replace('"path":', '"paths":'))
    assert "Valid" in passes(*schema_command(good))
    done = subprocess.run(schema_command(bad), check=False, capture_output=True, text=True)
    assert "write_files" in done.stdout + done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("server", ["member", "monitoring"])
def test_yamllint_finds_nothing_but_long_lines(rendered: dict[str, str], server: str) -> None:
    off = ("line-length", "document-start", "comments", "braces")
    rules = dict.fromkeys(off, "disable") | {"indentation": {"indent-sequences": "whatever"}}
    config = json.dumps({"extends": "default", "rules": rules})
    command = (sys.executable, "-m", "yamllint", "--strict", "-d", config, "-")
    passes(*command, input=text(rendered[server]))


def test_the_scripts_compile_and_shellcheck_finds_nothing(
    rendered: dict[str, str], tmp_path: Path
) -> None:
    shellcheck = needs("shellcheck")
    both = files(rendered["member"]) | files(rendered["monitoring"])
    scripts = {path: entry["content"] for path, entry in both.items()}
    for path in ("/opt/exotide/slowapp.py", "/opt/exotide/bootstrap.py"):
        compile(scripts[path], path, "exec")
    (tmp_path / "exporter.sh").write_text(scripts["/opt/exotide/exporter.sh"])
    passes(shellcheck, "--shell=sh", tmp_path / "exporter.sh")


def placed(rendered: dict[str, str], unpacked: Path, folder: Path) -> list[Path]:
    """Put all units of both servers in one folder; the programs that they start are stand-ins."""
    units = [*files(rendered["member"]).items(), *files(rendered["monitoring"]).items()]
    found = {Path(path).name: entry["content"] for path, entry in units if ".service" in path}
    for path in (unpacked / "etc/systemd/system").glob("*.service"):
        found[path.name] = path.read_text()
    # What is added to units of Debian's and Grafana's, on a base that has nothing else.
    for path in (unpacked / "etc/systemd/system").glob("*.service.d/*.conf"):
        name = path.parent.name.removesuffix(".service.d")
        found[f"{name}.service"] = f"[Service]\nExecStart=/bin/true\n{path.read_text()}"
    for name, content in found.items():
        path = folder / name
        path.write_text(re.sub(r"(?m)^(Exec\w+=)[^ \n]+", r"\g<1>/bin/true", content))
    return [folder / name for name in sorted(found)]


def test_systemd_understands_every_line_of_the_units(
    rendered: dict[str, str], unpacked: Path, tmp_path: Path
) -> None:
    analyze = needs("systemd-analyze")
    units = placed(rendered, unpacked, tmp_path)
    assert len(units) == 9
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = (analyze, "verify", "--man=no", "--recursive-errors=no")
    assert passes(*command, *units, env=environment).strip() == ""
    wrong = units[0]
    wrong.write_text(wrong.read_text().replace("[Service]", "[Service]\nProtectHomes=yes"))
    done = subprocess.run(
        (*command, wrong), check=False, capture_output=True, text=True, env=environment
    )
    assert "ProtectHomes" in done.stdout + done.stderr


def test_prometheus_and_alertmanager_take_their_configuration(unpacked: Path) -> None:
    passes(needs("promtool"), "check", "config", unpacked / "srv/prometheus/prometheus.yml")
    rules = sorted((unpacked / "srv/prometheus/rules").glob("*.yml"))
    assert "SUCCESS" in passes(needs("promtool"), "check", "rules", *rules)
    alertmanager = unpacked / "srv/alertmanager/alertmanager.yml"
    assert "SUCCESS" in passes(needs("amtool"), "check-config", alertmanager)


PRINTABLE = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])
ANY = st.text(st.one_of(PRINTABLE, st.sampled_from("\"'\\$`{}%#:&*!|>?[]~@ \t,-=")), max_size=40)
WORDS = ANY.map(lambda word: unicodedata.normalize("NFC", word))
"""Any line of text. Terraform keeps all text in the normal form NFC."""
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,15}", fullmatch=True).filter(
    lambda name: name not in {"PATH", "IFS", "PS4", "_", "PWD", "OLDPWD", "SHLVL", "OPTIND"}
)
CASES = st.fixed_dictionaries(
    {
        "grafana_password": WORDS,
        "secret": WORDS,
        "pool_id": st.text(string.ascii_letters + string.digits + "-", max_size=36),
        "slowapp_environment": st.dictionaries(NAMES, WORDS, max_size=4),
    }
)


@pytest.fixture(scope="session")
def render_many(
    terraform: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[dict[str, Any]]], list[dict[str, str]]]:
    """Evaluate terraform/userdata with several sets of variables at once."""

    def outputs(cases: list[dict[str, Any]]) -> list[dict[str, str]]:
        folder = tmp_path_factory.mktemp("many")
        fixed = VARIABLES | {"alerting": "grafana", "for_each": "${var.cases}"}
        module = fixed | {
            "source": os.path.relpath(ROOT / "terraform/userdata", folder),
            "grafana_password": "${each.value.grafana_password}",
            "pool_id": "${each.value.pool_id}",
            "slowapp_environment": "${each.value.slowapp_environment}",
            "autoscaler_key": {"key": "EXOa", "secret": "${each.value.secret}"},
        }
        kind = (
            "map(object({ grafana_password = string, secret = string, pool_id = string,"
            " slowapp_environment = map(string) }))"
        )
        config = {
            "variable": {"cases": {"type": kind}},
            "module": {"userdata": module},
            "output": {"all": {"value": "${module.userdata}", "sensitive": True}},
        }
        named = {f"case{number}": case for number, case in enumerate(cases)}
        (folder / "main.tf.json").write_text(json.dumps(config))
        (folder / "terraform.tfvars.json").write_text(json.dumps({"cases": named}))
        terraform(folder, "init", "-no-color")
        terraform(folder, "apply", "-auto-approve", "-no-color")
        answer = json.loads(terraform(folder, "output", "-json"))["all"]["value"]
        return [answer[name] for name in named]

    return outputs


def as_a_shell_reads(environment: str, names: list[str]) -> dict[str, str]:
    """Read an environment file; in double quotes a shell and systemd agree."""
    script = '. /dev/stdin\nfor name; do eval "printf \'%s\\\\0\' \\"\\$$name\\""; done'
    done = subprocess.run(
        ("sh", "-c", script, "sh", *names),
        check=True,
        capture_output=True,
        input=environment.encode(),
    )
    return dict(zip(names, done.stdout.decode().split("\0"), strict=False))


@settings(max_examples=4, deadline=None)
@given(cases=st.lists(CASES, min_size=8, max_size=12))
def test_whatever_is_valid_reaches_the_servers_unchanged(
    render_many: Callable[[list[dict[str, Any]]], list[dict[str, str]]],
    cases: list[dict[str, Any]],
) -> None:
    for case, user_data in zip(cases, render_many(cases), strict=True):
        stack = json.loads(files(user_data["monitoring"])["/etc/exotide/stack.json"]["content"])
        assert stack["grafana_password"] == case["grafana_password"]
        assert stack["autoscaler"]["secret"] == case["secret"]
        assert stack["pool_id"] == case["pool_id"]
        given_names = case["slowapp_environment"]
        written = files(user_data["member"]).get("/etc/exotide/slowapp.env", {"content": ""})
        assert as_a_shell_reads(written["content"], list(given_names)) == given_names

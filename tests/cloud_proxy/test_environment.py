"""What `exotide cloud env` prints: enough for every tool, and closed to everything else."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exotide.cloud import command
from exotide.cloud.directory import Entry, living, publish
from exotide.cloud.drivers import Character
from exotide.cloud.service import Access

SECRET = "it's hush"


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder with one cloud that lives as long as the test."""
    (tmp_path / "aaaaaa").mkdir()
    with (tmp_path / "aaaaaa/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tell(tmp_path, ca_file=Path("/data/an n/ca.pem"))
        yield tmp_path


def tell(folder: Path, ca_file: Path | None) -> None:
    access = Access(port=8480, key="EXOkey", secret=SECRET)
    entry = Entry(
        cloud_id="aaaaaa",
        pid=1,
        access=access,
        fabric_ip="198.18.3.1",
        character=Character(servers="processes"),
        ca_file=ca_file,
    )
    publish(folder / "aaaaaa", entry)
    assert living(folder) == [entry]


def shell(script: str, **before: str) -> dict[str, str]:
    """Evaluate in a shell that had other settings before; give what programs then see."""
    ended = subprocess.run(
        ["sh", "-c", 'set -eu\neval "$SCRIPT"\nunset SCRIPT\nenv -0'],
        env={"PATH": os.environ["PATH"], "SCRIPT": script} | before,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in ended.stdout.split("\0") if line)


def test_the_exports_reach_every_kind_of_client(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.env(run_dir=run_dir) == 0
    seen = shell(
        capsys.readouterr().out,
        EXOSCALE_KEY="EXOreal",
        EXOSCALE_SECRET="real",
        TF_VAR_exoscale_key="EXOreal",
        TF_VAR_agents_api_endpoint="http://real/v2",
        EXOSCALE_API_ENVIRONMENT="ppapi",
        EXOSCALE_ACCOUNT="work",
        NO_PROXY="exoscale.com",
    )
    assert not seen.keys() & {"EXOSCALE_API_ENVIRONMENT", "EXOSCALE_ACCOUNT"}
    assert "real" not in " ".join(seen.values())
    assert seen["EXOSCALE_API_KEY"] == seen["EXOSCALE_KEY"] == "EXOkey"
    assert seen["EXOSCALE_API_SECRET"] == seen["EXOSCALE_SECRET"] == SECRET
    assert seen["EXOSCALE_API_ENDPOINT"] == "http://127.0.0.1:8480/z/at-vie-1/v2"
    assert seen["EXOSCALE_ZONE"] == "at-vie-1"
    assert seen["TF_VAR_exoscale_key"] == "EXOkey"
    assert seen["TF_VAR_exoscale_secret"] == SECRET
    assert seen["TF_VAR_agents_api_endpoint"] == "http://198.18.3.1:8480/z/at-vie-1/v2"
    assert seen["HTTPS_PROXY"] == seen["https_proxy"] == "http://127.0.0.1:8480"
    assert seen["NO_PROXY"] == seen["no_proxy"] == "localhost,127.0.0.1,::1"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        assert seen[name] == "/data/an n/ca.pem"


def test_unset_takes_back_all_of_it(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.env(run_dir=run_dir) == 0
    assert command.env(unset=True, run_dir=run_dir) == 0
    said = capsys.readouterr().out
    assert shell(said).keys() <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    assert SECRET not in said.splitlines()[-1]


def test_direct_mode_sets_no_proxy_and_no_authority(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.env(mode="direct", json=True, run_dir=run_dir) == 0
    direct = json.loads(capsys.readouterr().out)
    assert command.env(json=True, run_dir=run_dir) == 0
    proxied = json.loads(capsys.readouterr().out)
    assert direct.items() < proxied.items()
    assert proxied.keys() - direct.keys() == {
        "HTTPS_PROXY",
        "https_proxy",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    }


def test_a_cloud_without_an_authority_says_so_and_still_has_direct_mode(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(run_dir, ca_file=None)
    assert command.env(run_dir=run_dir) == 2
    assert "use --mode direct" in capsys.readouterr().err
    assert command.env(mode="direct", run_dir=run_dir) == 0

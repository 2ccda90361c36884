"""Whose account it is, and where: from the environment, with a clear word on what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exotide.access.zones import Zones
from exotide.check.access import grafana_password, read_access
from exotide.check.errors import CannotRun
from exotide.cloud.testing import RunningCloud

KEYS = {"EXOSCALE_API_KEY": "EXOkey", "EXOSCALE_API_SECRET": "hush"}
LOCAL = {**KEYS, "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:8480/v2"}
KNOWN = {
    "at-vie-1": "http://127.0.0.1:8480/z/at-vie-1/v2",
    "ch-dk-2": "http://127.0.0.1:8480/z/ch-dk-2/v2",
}


def local(_: str) -> Zones:
    return Zones(endpoints=KNOWN, time_s=None)


def public(endpoint: str) -> Zones:
    assert endpoint == "https://api-at-vie-1.exoscale.com/v2"
    return Zones(endpoints={"at-vie-1": endpoint}, time_s=None)


def test_without_an_endpoint_it_is_the_real_cloud() -> None:
    access = read_access(KEYS, ask=public)
    assert (access.key, access.secret, access.zone) == ("EXOkey", "hush", "at-vie-1")
    assert access.is_public
    assert access.cloud.line == (
        "the real Exoscale, zone at-vie-1: https://api-at-vie-1.exoscale.com/v2"
    )
    assert "hush" not in repr(access)


def test_the_endpoint_of_a_zone_is_asked_for_where_an_endpoint_is_given() -> None:
    access = read_access(LOCAL, zone="ch-dk-2", ask=local)
    assert access.endpoint == "http://127.0.0.1:8480/z/ch-dk-2/v2"
    assert not access.is_public
    assert access.cloud.line.startswith("a local cloud, zone ch-dk-2: http://127.0.0.1:8480/z/")
    assert read_access({**LOCAL, "TF_VAR_zone": "ch-dk-2"}, ask=local).zone == "ch-dk-2"


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        pytest.param({}, "export EXOSCALE_KEY and EXOSCALE_SECRET", id="nothing"),
        pytest.param({**LOCAL, "EXOSCALE_API_SECRET": "a\nb"}, "one line", id="two-lines"),
        pytest.param(
            {**LOCAL, "EXOSCALE_ZONE": "bg-sof-1"},
            "no zone bg-sof-1 there; --zone may be: at-vie-1, ch-dk-2",
            id="zone",
        ),
        pytest.param({**KEYS, "EXOSCALE_API_ENDPOINT": "here"}, "got: 'here'", id="endpoint"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], word: str) -> None:
    with pytest.raises(CannotRun, match=word):
        read_access(environ, ask=local)


def test_a_cloud_tells_the_endpoints_of_its_zones(cloud: RunningCloud) -> None:
    base = f"http://127.0.0.1:{cloud.access.port}"
    environ = {**KEYS, "EXOSCALE_API_ENDPOINT": f"{base}/v2"}
    assert read_access(environ).endpoint == f"{base}/z/at-vie-1/v2"
    assert read_access(environ, zone="ch-gva-2").endpoint == f"{base}/z/ch-gva-2/v2"


def state(folder: Path, pool_id: str) -> None:
    outputs = {"pool_id": {"value": pool_id}, "grafana_password": {"value": "from the state"}}
    (folder / "terraform.tfstate").write_text(json.dumps({"outputs": outputs}))


def test_grafana_s_password_is_that_of_the_file_the_environment_or_the_state(
    tmp_path: Path,
) -> None:
    state(tmp_path, "p1")
    file = tmp_path / "password"
    file.write_text("from the file\n")
    environ = {"EXOTIDE_GRAFANA_PASSWORD": "from the environment"}

    def found(environ: dict[str, str], file: Path | None) -> str:
        return grafana_password(environ, file=file, folder=tmp_path, pool_ids={"p1", "p2"})

    assert found(environ, file) == "from the file"
    assert found(environ, None) == "from the environment"
    assert found({}, None) == "from the state"


def test_a_state_of_another_stack_or_none_gives_no_password(tmp_path: Path) -> None:
    assert grafana_password({}, file=None, folder=tmp_path, pool_ids={"p1"}) == ""
    state(tmp_path, "p9")
    assert grafana_password({}, file=None, folder=tmp_path, pool_ids={"p1"}) == ""
    (tmp_path / "terraform.tfstate").write_text("{")
    assert grafana_password({}, file=None, folder=tmp_path, pool_ids={"p1"}) == ""


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"--grafana-password-file cannot be read.*missing"):
        grafana_password({}, file=tmp_path / "missing", folder=tmp_path, pool_ids=set())

"""Whose account it is, and where: from the environment, with a clear word on what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exotide.check.access import grafana_password, read_access, zones
from exotide.check.errors import CannotRun
from exotide.cloud.testing import RunningCloud

KEYS = {"EXOSCALE_API_KEY": "EXOkey", "EXOSCALE_API_SECRET": "hush"}
LOCAL = {**KEYS, "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:8480/v2"}
KNOWN = {
    "at-vie-1": "http://127.0.0.1:8480/z/at-vie-1/v2",
    "de-fra-1": "http://127.0.0.1:8480/z/de-fra-1/v2",
}


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("EXOSCALE_API_KEY", "EXOSCALE_API_SECRET"),
        ("EXOSCALE_KEY", "EXOSCALE_SECRET"),
        ("TF_VAR_exoscale_key", "TF_VAR_exoscale_secret"),
    ],
)
def test_a_key_is_found_under_each_name_that_tools_use(key: str, secret: str) -> None:
    access = read_access({key: "EXOkey", secret: "hush"})
    assert (access.key, access.secret, access.zone) == ("EXOkey", "hush", "at-vie-1")
    assert access.endpoint == "https://api-at-vie-1.exoscale.com/v2"
    assert access.is_public
    assert "hush" not in repr(access)


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        pytest.param({}, "set EXOSCALE_API_KEY and EXOSCALE_API_SECRET", id="nothing"),
        pytest.param({"EXOSCALE_KEY": "EXOkey"}, "EXOSCALE_SECRET is not set", id="half"),
        pytest.param({**KEYS, "EXOSCALE_API_SECRET": "a\nb"}, "one line", id="two-lines"),
        pytest.param({**KEYS, "EXOSCALE_ZONE": "vienna"}, "at-vie-1, got: 'vienna'", id="zone"),
        pytest.param({**KEYS, "EXOSCALE_API_ENDPOINT": "here"}, "got: 'here'", id="endpoint"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], word: str) -> None:
    with pytest.raises(CannotRun, match=word.replace("(", "\\(")):
        read_access(environ)


def test_the_endpoint_of_a_zone_is_asked_for_where_an_endpoint_is_given() -> None:
    access = read_access(LOCAL, zone="de-fra-1", ask=lambda _: KNOWN)
    assert access.endpoint == "http://127.0.0.1:8480/z/de-fra-1/v2"
    assert not access.is_public
    assert read_access({**LOCAL, "TF_VAR_zone": "at-vie-1"}, ask=lambda _: KNOWN).zone == "at-vie-1"


def test_a_zone_that_the_endpoint_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(CannotRun, match="no zone bg-sof-1; --zone may be: at-vie-1, de-fra-1"):
        read_access(LOCAL, zone="bg-sof-1", ask=lambda _: KNOWN)


def test_a_cloud_tells_the_endpoints_of_its_zones(cloud: RunningCloud) -> None:
    base = f"http://127.0.0.1:{cloud.access.port}"
    environ = {**KEYS, "EXOSCALE_API_ENDPOINT": f"{base}/v2"}
    assert read_access(environ).endpoint == f"{base}/z/at-vie-1/v2"
    assert read_access(environ, zone="ch-gva-2").endpoint == f"{base}/z/ch-gva-2/v2"


def test_an_endpoint_that_is_no_api_is_named() -> None:
    access = read_access(LOCAL, ask=lambda _: KNOWN)
    with pytest.raises(CannotRun, match="EXOSCALE_API_ENDPOINT is no Exoscale API, got: http"):
        zones(access.settings())


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

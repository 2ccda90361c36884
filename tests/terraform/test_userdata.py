from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from exotide.stack import bundle
from exotide.stack.alerting import grafana_files, monitoring_files

LIMIT_CHARS = 32_768
SECRET = "s3cret-of-the-autoscaler-0123456789abcdefghijkl"
VARIABLES = {
    "zone": "at-vie-1",
    "endpoint": "https://api-at-vie-1.exoscale.com/v2",
    "pool_id": "6e1a1ac6-9d93-43ae-a250-43392d8a90d4",
    "servicediscovery_key": {"key": "EXO" + 24 * "a", "secret": "d1scovery-" + 33 * "b"},
    "autoscaler_key": {"key": "EXO" + 24 * "c", "secret": SECRET},
    "grafana_password": 24 * "f",
}
Render = Callable[[Mapping[str, Any]], dict[str, str]]


def text(user_data: str) -> str:
    return gzip.decompress(base64.b64decode(user_data)).decode()


def files(user_data: str) -> dict[str, dict[str, Any]]:
    return {each["path"]: each for each in yaml.safe_load(text(user_data))["write_files"]}


@pytest.fixture(scope="session", params=["grafana", "alertmanager"])
def rendered(render: Render, request: pytest.FixtureRequest) -> dict[str, str]:
    return render(VARIABLES | {"alerting": request.param})


def test_what_is_generated_is_what_the_sources_say_now() -> None:
    folder = bundle.GENERATED
    packed = bundle.unpacked((folder / "bundle.tar.xz").read_bytes())
    assert packed == bundle.bundle_files(), "run `make bundle`"
    small = {name: (folder / name).read_text() for name in bundle.SCRIPTS}
    assert small == bundle.scripts(), "run `make bundle`"


def test_comments_stay_behind_and_nothing_else_does() -> None:
    files = bundle.bundle_files()
    whole = {f"srv/{name}": each for name, each in (monitoring_files() | grafana_files()).items()}
    parsed = [name for name in files if name.endswith((".yml", ".yaml"))]
    assert len(parsed) > 5
    for name in parsed:
        assert yaml.safe_load(files[name]) == yaml.safe_load(whole[name])
        assert not re.search(r"(?m)^\s*#", files[name])
    for name in ("srv/grafana/dashboards/pool.json", "srv/alertmanager/self.json"):
        assert json.loads(files[name]) == json.loads(whole[name])
    for path in (bundle.ROOT / "terraform/userdata/monitoring/root").rglob("*.*"):
        if path.is_file():
            kept = files[str(path.relative_to(bundle.ROOT / "terraform/userdata/monitoring/root"))]
            assert kept.splitlines() == [
                line for line in path.read_text().splitlines() if not line.startswith("#")
            ]


def test_both_user_data_fit_into_what_the_api_takes(rendered: dict[str, str]) -> None:
    sizes = {name: len(value) for name, value in rendered.items()}
    assert max(sizes.values()) <= LIMIT_CHARS, sizes


def test_the_longest_usual_ssh_key_fits_too(render: Render) -> None:
    """RSA with 4096 bits: nothing in it can be compressed."""
    key = base64.b64encode(hashlib.shake_256(b"key").digest(537)).decode()
    rendered = render(VARIABLES | {"alerting": "grafana", "ssh_public_key": f"ssh-rsa {key} me"})
    sizes = {name: len(value) for name, value in rendered.items()}
    assert max(sizes.values()) <= LIMIT_CHARS, sizes


def test_what_is_too_long_is_refused_by_the_name_of_its_variable(render: Render) -> None:
    noise = base64.b64encode(hashlib.shake_256(b"noise").digest(2000)).decode()
    variables = {"alerting": "grafana", "slowapp_environment": {"NOISE": noise}}
    with pytest.raises(AssertionError, match=r"slowapp_environment\s+and\s+ssh_public_key"):
        render(VARIABLES | variables)


def test_the_two_parts_of_the_bundle_make_the_whole(rendered: dict[str, str]) -> None:
    settings = json.loads(files(rendered["monitoring"])["/etc/exotide/stack.json"]["content"])
    first = files(rendered["monitoring"])["/opt/exotide/bundle.part"]["content"]
    (second,) = [
        line.removeprefix("#exotide-bundle:")
        for line in text(rendered["member"]).splitlines()
        if line.startswith("#exotide-bundle:")
    ]
    whole = base64.b64decode(first + second, validate=True)
    assert whole == (bundle.GENERATED / "bundle.tar.xz").read_bytes()
    assert settings["bundle_sha256"] == hashlib.sha256(whole).hexdigest()


def test_members_learn_no_secret_and_the_monitoring_server_s_are_root_s_alone(
    rendered: dict[str, str],
) -> None:
    assert SECRET not in text(rendered["member"])
    holding = {
        path: entry
        for path, entry in files(rendered["monitoring"]).items()
        if SECRET in entry["content"]
    }
    assert {path: entry["permissions"] for path, entry in holding.items()} == {
        "/etc/exotide/stack.json": "0600"
    }

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
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


@pytest.fixture(scope="session", params=bundle.ALERTING)
def alerting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def rendered(render: Render, alerting: str) -> dict[str, str]:
    return render(VARIABLES | {"alerting": alerting})


def test_what_is_generated_is_what_the_sources_say_now(alerting: str) -> None:
    folder = bundle.GENERATED
    packed = bundle.unpacked((folder / bundle.name_of(alerting)).read_bytes())
    assert packed == bundle.bundle_files(alerting), "run `make bundle`"
    small = {name: (folder / name).read_text() for name in bundle.SCRIPTS}
    assert small == bundle.scripts(), "run `make bundle`"


def test_comments_stay_behind_and_nothing_else_does() -> None:
    files = bundle.bundle_files("grafana") | bundle.bundle_files("alertmanager")
    whole = {f"srv/{name}": each for name, each in (monitoring_files() | grafana_files()).items()}
    parsed = [name for name in files if name.endswith((".yml", ".yaml", ".json"))]
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


def test_what_only_the_other_alerting_needs_stays_out() -> None:
    grafana, alertmanager = map(bundle.bundle_files, bundle.ALERTING)
    assert not [name for name in grafana if "alertmanager" in name]
    assert not [name for name in alertmanager if "grafana" in name]
    shared = set(grafana) & set(alertmanager)
    assert {"srv/prometheus/prometheus.yml", "opt/exotide/requirements.txt"} < shared
    assert {name: grafana[name] for name in shared} == {n: alertmanager[n] for n in shared}


def test_the_agents_run_from_what_the_bundle_has_of_them(tmp_path: Path) -> None:
    for name, content in bundle.bundle_files("grafana").items():
        if name.startswith("opt/exotide/lib/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
    library = tmp_path / "opt/exotide/lib"
    for agent in bundle.AGENTS:
        # -P and the path first: neither the repository nor what is installed may help.
        code = f"import exotide_{agent}.service, exotide_{agent}.cli as m; print(m.__file__)"
        done = subprocess.run(
            (sys.executable, "-P", "-c", code),
            env={"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith(str(library)), done.stderr


def test_modules_that_nobody_imports_stay_out(tmp_path: Path) -> None:
    texts = {
        "p/__init__.py": "",
        "p/__main__.py": "from p.a import b",
        "p/a/__init__.py": "from .c import C",
        "p/a/b.py": "def later():\n    from ..d import x",
        "p/a/c.py": "import json, p.e\nclass C: pass",
        "p/d.py": "x = 1",
        "p/e.py": "",
        "p/unused.py": "import p.f",
        "p/f.py": "",
        "q/__init__.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [str(path.relative_to(tmp_path)) for path in bundle.imported("p.__main__", tmp_path)]
    assert found == sorted(set(texts) - {"p/unused.py", "p/f.py", "q/__init__.py"})


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


def test_the_two_parts_of_the_bundle_make_the_whole(
    rendered: dict[str, str], alerting: str
) -> None:
    settings = json.loads(files(rendered["monitoring"])["/etc/exotide/stack.json"]["content"])
    first = files(rendered["monitoring"])["/opt/exotide/bundle.part"]["content"]
    (second,) = [
        line.removeprefix("#exotide-bundle:")
        for line in text(rendered["member"]).splitlines()
        if line.startswith("#exotide-bundle:")
    ]
    whole = base64.b64decode(first + second, validate=True)
    assert whole == (bundle.GENERATED / bundle.name_of(alerting)).read_bytes()
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

"""Terraform or OpenTofu, whichever is there; OpenTofu is built from source where Go is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RC = "disable_checkpoint = true\n"


def find_program() -> tuple[str, ...] | None:
    """Prefer what is installed; `go tool` builds OpenTofu once and then takes it from its cache."""
    for name in ("tofu", "terraform"):
        if found := shutil.which(name):
            return (found,)
    go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    return (go, "-C", str(ROOT / "tools"), "tool", "tofu") if go else None


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a command of it in a folder; gives what it prints."""
    program = find_program()
    if program is None:
        pytest.skip("neither tofu nor terraform nor go is installed; install one of them")
    rc = tmp_path_factory.mktemp("terraform") / "cli.tfrc"
    rc.write_text(RC)
    environment = os.environ | {"TF_CLI_CONFIG_FILE": str(rc), "TF_INPUT": "0"}

    def run(folder: Path, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            (*program, f"-chdir={folder}", *arguments),
            check=False,
            capture_output=True,
            text=True,
            env=environment | {f"TF_VAR_{name}": value for name, value in variables.items()},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(
    terraform: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Evaluate terraform/userdata with these variables; gives both user-data."""

    def outputs(variables: Mapping[str, Any]) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("userdata")
        module: dict[str, Any] = {"source": os.path.relpath(ROOT / "terraform/userdata", folder)}
        shown = {
            name: {"value": f"${{module.userdata.{name}}}", "sensitive": True}
            for name in ("member", "monitoring")
        }
        config = {"module": {"userdata": module | dict(variables)}, "output": shown}
        (folder / "main.tf.json").write_text(json.dumps(config))
        terraform(folder, "init", "-no-color")
        terraform(folder, "apply", "-auto-approve", "-no-color")
        answer = json.loads(terraform(folder, "output", "-json"))
        return {name: answer[name]["value"] for name in shown}

    return outputs

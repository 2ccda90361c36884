"""Terraform or OpenTofu, whichever is there, and what it makes of terraform/userdata."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
RC = "disable_checkpoint = true\n"
Run: TypeAlias = Callable[..., str]


def find_program() -> tuple[str, ...] | None:
    """Prefer what is installed; `go tool` builds OpenTofu once and then takes it from its cache."""
    for name in ("tofu", "terraform"):
        if found := shutil.which(name):
            return (found,)
    go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    return (go, "-C", str(ROOT / "tools"), "tool", "tofu") if go else None


def runner(program: tuple[str, ...], settings: Path) -> Run:
    """Give what runs a command of it in a folder and returns what it prints."""
    rc = settings / "cli.tfrc"
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


def rendered(run: Run, folder: Path, variables: Mapping[str, Any]) -> dict[str, str]:
    """Evaluate terraform/userdata with these variables in an empty folder; both user-data."""
    module: dict[str, Any] = {"source": os.path.relpath(ROOT / "terraform/userdata", folder)}
    shown = {
        name: {"value": f"${{module.userdata.{name}}}", "sensitive": True}
        for name in ("member", "monitoring")
    }
    config = {"module": {"userdata": module | dict(variables)}, "output": shown}
    (folder / "main.tf.json").write_text(json.dumps(config))
    run(folder, "init", "-no-color")
    run(folder, "apply", "-auto-approve", "-no-color")
    answer = json.loads(run(folder, "output", "-json"))
    return {name: answer[name]["value"] for name in shown}

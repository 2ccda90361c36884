"""Terraform (or OpenTofu) with the official provider, in a folder of its own, offline."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .programs import provider_version

_REGISTRIES: Final = ("registry.terraform.io", "registry.opentofu.org")
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_WITHIN_S: Final = 240.0
_NOTHING: Final = (["no-op"], ["read"])

Runner = Callable[..., list[str]]
"""Gives the command that runs the given words where the cloud can be reached."""


class TerraformFailed(Exception):
    """A command failed; the message is all that it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What terraform would do."""

    is_empty: bool
    """Nothing at all, outputs included."""
    actions: dict[str, list[str]]
    """By resource address: create, update, delete; resources that stay are left out."""
    attributes: dict[str, set[str]]
    """By resource address: what an update changes."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One folder with a configuration and its state."""

    folder: Path
    terraform: Path
    environment: Mapping[str, str] = field(repr=False)
    """All that terraform sees of the environment, apart from its own settings."""
    run_in: Runner = lambda *words: list(words)

    @classmethod
    def made(
        cls,
        folder: Path,
        *files: Path,
        terraform: Path,
        provider: Path,
        environment: Mapping[str, str],
        run_in: Runner,
    ) -> Workspace:
        """
        Copy the configuration, make the provider known, and run init.

        Raises:
            Misnamed: The provider's file name does not tell its version.
            TerraformFailed: init did not work.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        _mirror(folder / "mirror", provider)
        (folder / "terraform.rc").write_text(
            "disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n"
            f'    path    = "{folder / "mirror"}"\n    include = ["exoscale/exoscale"]\n  }}\n}}\n'
        )
        made = cls(folder=folder, terraform=terraform, environment=environment, run_in=run_in)
        made.run("init", "-no-color")
        return made

    def apply(self, **variables: object) -> str:
        """Bring the cloud to the configuration; raise TerraformFailed if it does not get there."""
        return self.run("apply", "-auto-approve", "-no-color", *_options(variables))

    def destroy(self, **variables: object) -> str:
        """Delete all that the state knows."""
        return self.run("destroy", "-auto-approve", "-no-color", *_options(variables))

    def plan(self, **variables: object) -> Plan:
        """Refresh and compare."""
        options = ("-detailed-exitcode", "-no-color", "-out=plan.bin", *_options(variables))
        ended = self.start("plan", *options)
        if ended.returncode not in {0, 2}:
            raise TerraformFailed(ended.stdout + ended.stderr)
        changes = json.loads(self.run("show", "-json", "plan.bin")).get("resource_changes", [])
        made = [each for each in changes if each["change"]["actions"] not in _NOTHING]
        return Plan(
            is_empty=ended.returncode == 0,
            actions={each["address"]: each["change"]["actions"] for each in made},
            attributes={each["address"]: _changed(each["change"]) for each in made},
            text=ended.stdout,
        )

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of every resource in the state, in modules too, by address."""
        state = json.loads(self.run("show", "-json"))
        return _in_module(state.get("values", {}).get("root_module", {}))

    def outputs(self) -> dict[str, Any]:
        """Return the outputs, secret ones too."""
        shown = json.loads(self.run("output", "-json"))
        return {name: each["value"] for name, each in shown.items()}

    def run(self, *words: str) -> str:
        """Run a command and give what it printed."""
        ended = self.start(*words)
        if ended.returncode != 0:
            raise TerraformFailed(ended.stdout + ended.stderr)
        return ended.stdout

    def start(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command however it ends."""
        process = self.begin(*words)
        try:
            said, complained = process.communicate(timeout=_WITHIN_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(words, process.returncode, said, complained)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command, for who wants to interrupt it."""
        own = {
            "HOME": str(self.folder),
            "TF_CLI_CONFIG_FILE": str(self.folder / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
            "TF_INPUT": "0",
            "TF_IN_AUTOMATION": "1",
        }
        return subprocess.Popen(
            self.run_in(str(self.terraform), *words),
            cwd=self.folder,
            env=own | dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _in_module(module: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {each["address"]: each["values"] for each in module.get("resources", [])}
    for child in module.get("child_modules", []):
        found |= _in_module(child)
    return found


def _changed(change: Mapping[str, Any]) -> set[str]:
    before, after = change["before"] or {}, change["after"] or {}
    unknown = {name for name, each in change["after_unknown"].items() if each is True}
    return unknown | {name for name in after if after[name] != before.get(name)}


def _mirror(folder: Path, provider: Path) -> None:
    """Lay out a provider as a filesystem mirror, so that init asks no registry."""
    version = provider_version(provider)
    machine = platform.machine()
    for registry in _REGISTRIES:
        place = folder / registry / "exoscale/exoscale" / version
        place /= f"linux_{_MACHINES.get(machine, machine)}"
        place.mkdir(parents=True, exist_ok=True)
        link = place / f"terraform-provider-exoscale_v{version}"
        if not link.exists():
            link.symlink_to(provider)


def _options(variables: Mapping[str, object]) -> list[str]:
    return [f"-var={name}={value}" for name, value in variables.items()]

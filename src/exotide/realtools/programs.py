"""Where the official tools are on this machine; none of them is part of this project."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class NotHere(Exception):
    """A tool was not found; the message says how to get it."""


def terraform() -> Path:
    """Find Terraform or OpenTofu, or raise NotHere."""
    return _find(
        "EXOTIDE_TERRAFORM",
        ("terraform", "tofu"),
        "install Terraform or OpenTofu (https://opentofu.org/docs/intro/install)",
    )


def opentofu() -> Path:
    """Find OpenTofu, or raise NotHere."""
    return _find("EXOTIDE_TOFU", ("tofu",), "install OpenTofu")


def provider() -> Path:
    """Find the provider's binary (`terraform-provider-exoscale_v<version>`), or raise NotHere."""
    return _find(
        "EXOTIDE_TERRAFORM_PROVIDER",
        ("terraform-provider-exoscale",),
        "take a release of the provider for this machine from its project's page",
    ).resolve()  # its name tells its version


def exo() -> Path:
    """Find the `exo` command line, or raise NotHere."""
    return _find(
        "EXOTIDE_EXO",
        ("exo",),
        "install a release of exo from its project's page",
    )


def _find(variable: str, names: tuple[str, ...], how: str) -> Path:
    named = os.environ.get(variable)
    if named:
        if not os.access(named, os.X_OK):
            raise NotHere(f"{variable}={named} is no program; {how}")
        return Path(named).absolute()
    for name in names:
        if found := shutil.which(name):
            return Path(found).absolute()  # a link may be what a version manager goes by
    raise NotHere(f"no {' or '.join(names)} on the PATH; {how}, and set {variable} to its path")

"""Where the official tools are on this machine; none of them is part of this project."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

_VERSION: Final = re.compile(r"_v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$")


class NotHere(Exception):
    """A tool was not found; the message says how to get it."""


class Misnamed(Exception):
    """A provider's file name does not tell its version; the message says what is expected."""


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
    found = _find(
        "EXOTIDE_TERRAFORM_PROVIDER",
        ("terraform-provider-exoscale",),
        "take a release of the provider for this machine from its project's page",
    )
    return found if _VERSION.search(found.name) else found.resolve()


def provider_version(file: Path) -> str:
    """
    Tell a provider's version by its file name, as releases have it.

    Terraform takes it from nowhere else, and refuses one that a configuration does not allow.

    Raises:
        Misnamed: There is no version in it.
    """
    found = _VERSION.search(file.name)
    if found is None:
        raise Misnamed(
            f"{file}: the name of a provider's file must end with its version, such as "
            f"terraform-provider-exoscale_v0.70.1; rename it, or make a link of such a name and "
            "set EXOTIDE_TERRAFORM_PROVIDER to that"
        )
    return found[1]


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

"""Terraform or OpenTofu, whichever is there; OpenTofu is built from source where Go is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from .rendering import ROOT, Run, find_program, rendered, runner

__all__ = ["ROOT", "find_program"]


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of it in a folder; gives what it prints."""
    program = find_program()
    if program is None:
        pytest.skip("neither tofu nor terraform nor go is installed; install one of them")
    return runner(program, tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def render(
    terraform: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Evaluate terraform/userdata with these variables; gives both user-data."""
    return lambda variables: rendered(terraform, tmp_path_factory.mktemp("userdata"), variables)

"""What a command was asked for: options, environment, folder. All wrong ones end with CannotRun."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from exotide.access.keys import PAIRS, Key
from exotide.realtools import programs
from exotide.stack.durations import parse_s

from .errors import CannotRun
from .state import State

DEFAULT_NAME: Final = "exotide"
DEFAULT_ZONE: Final = "at-vie-1"
NEVER: Final = "never"
_LONGEST_TTL_S: Final = 8760 * 3600.0
_SHORTEST_TTL_S: Final = 1.0
_TF_VAR: Final = "TF_VAR_"
AGENTS_KEY: Final = "TF_VAR_agents_key"
AGENTS_SECRET: Final = "TF_VAR_agents_secret"  # noqa: S105 - the name of a variable
_SECRET: Final = ("exoscale_key", "exoscale_secret", "agents_key", "agents_secret")
_OURS: Final = "time_to_live_h"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MARKS: Final = ("main.tf", "terraform/userdata")
"""What a folder has that is the root module."""
_CHECKOUT: Final = Path(__file__).resolve().parents[3]


def root(given: Path | None, *, here: Path) -> Path:
    """Find the folder of the root module: the given one, the current one, or this checkout."""
    if given is not None:
        folder = (here / given).resolve()
        if not _is_root(folder):
            raise CannotRun(f"--dir must be a folder with {' and '.join(_MARKS)}, got: {folder}")
        return folder
    for folder in (here, _CHECKOUT):
        if _is_root(folder):
            return folder
    raise CannotRun(
        f"neither {here} nor {_CHECKOUT} has {' and '.join(_MARKS)}; go to a checkout of "
        "exotide, or name one with --dir"
    )


def for_terraform(key: Key) -> dict[str, str]:
    """What the root module reads of a key."""
    return dict(zip(PAIRS[0], (key.key, key.secret), strict=True))


def agents_key(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Key and secret that the agents are given, as far as the environment tells."""
    key, secret = environ.get(AGENTS_KEY, ""), environ.get(AGENTS_SECRET, "")
    return (key, secret) if key and secret else None


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of the root module that the environment sets, by their names."""
    return {
        name.removeprefix(_TF_VAR): each
        for name, each in environ.items()
        if name.startswith(_TF_VAR)
    }


def program(environ: Mapping[str, str], *, before: str | None) -> Path:
    """Find Terraform or OpenTofu: the one that is named, the one of before, or the first one."""
    if before and not environ.get("EXOTIDE_TERRAFORM") and Path(before).is_file():
        return Path(before)
    try:
        return programs.terraform()
    except programs.NotHere as error:
        raise CannotRun(str(error)) from error


def variables(words: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise CannotRun(f"--var needs NAME=VALUE, got: {name}")
        if name in _SECRET:
            raise CannotRun(
                f"--var {name}: secrets do not belong on a command line, where everyone can read "
                f"them; export TF_VAR_{name} instead"
            )
        if name == _OURS:
            raise CannotRun(f"--var {name}: use --ttl, as in --ttl 2h")
        found[name] = value
    return found


def ttl_s(text: str) -> float | None:
    """Read a time to live; None: never."""
    if text == NEVER:
        return None
    try:
        seconds = parse_s(text)
    except ValueError as error:
        raise CannotRun(
            f"--ttl must be a time such as 90m, 2h or 1d, or {NEVER}, got: {text}"
        ) from error
    if not _SHORTEST_TTL_S <= seconds <= _LONGEST_TTL_S:
        raise CannotRun(f"--ttl must be from 1s to 365d, got: {text}")
    return seconds


def chosen(
    variable: str,
    *,
    given: Mapping[str, str],
    environ: Mapping[str, str],
    known: State,
    default: str,
) -> str:
    """Tell what a variable of the root module will be, as far as it can be told without it."""
    pool = known.first("exoscale_instance_pool")
    in_state = "" if pool is None else str(pool.attributes.get(variable) or "")
    return given.get(variable) or environ.get(f"TF_VAR_{variable}") or in_state or default


def endpoint(environ: Mapping[str, str], *, zone: str) -> str:
    """Tell which API the tools will ask."""
    return environ.get("EXOSCALE_API_ENDPOINT") or f"https://api-{zone}.exoscale.com/v2"


def _is_root(folder: Path) -> bool:
    return all((folder / mark).exists() for mark in _MARKS)

"""What a command was asked for: options, environment, folder. All wrong ones end with CannotRun."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.realtools import programs
from exotide.stack.durations import parse_s

from .errors import CannotRun
from .state import State

DEFAULT_NAME: Final = "exotide"
DEFAULT_ZONE: Final = "at-vie-1"
NEVER: Final = "never"
_LONGEST_TTL_S: Final = 8760 * 3600.0
_SHORTEST_TTL_S: Final = 1.0
_SECRET: Final = ("exoscale_key", "exoscale_secret")
_OURS: Final = "time_to_live_h"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MARKS: Final = ("main.tf", "terraform/userdata")
"""What a folder has that is the root module."""
_CHECKOUT: Final = Path(__file__).resolve().parents[3]
_KEYS: Final = ("TF_VAR_exoscale_key", "EXOSCALE_KEY", "EXOSCALE_API_KEY")
_SECRETS: Final = ("TF_VAR_exoscale_secret", "EXOSCALE_SECRET", "EXOSCALE_API_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The account's key."""

    key: str
    secret: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """What the root module reads."""
        return {_KEYS[0]: self.key, _SECRETS[0]: self.secret}


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


def credentials(environ: Mapping[str, str]) -> Credentials:
    """Read the key from the environment; on the command line everyone could read it."""
    key = next((environ[name] for name in _KEYS if environ.get(name)), "")
    secret = next((environ[name] for name in _SECRETS if environ.get(name)), "")
    missing = [
        f"{_SHORT[kind]} is not set"
        for kind, value in zip(_SHORT, (key, secret), strict=True)
        if not value
    ]
    if missing:
        raise CannotRun(
            f"{' and '.join(missing)}; make a key in the portal (IAM, API keys) and export both, "
            'or use a local cloud: eval "$(exotide cloud env)"'
        )
    return Credentials(key=key, secret=secret)


_SHORT: Final = {"key": "EXOSCALE_KEY", "secret": "EXOSCALE_SECRET"}


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

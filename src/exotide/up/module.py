"""What the root module's variables will be, as Terraform itself evaluates them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EXPRESSION: Final = (
    "jsonencode({ name = var.name, zone = var.zone, template = var.template, "
    "min_size = var.min_size, max_size = local.max_size, makes_keys = local.makes_keys, "
    "agents_endpoint = var.agents_api_endpoint })"
)
"""For `terraform console`, which asks no cloud; nothing of it is secret."""
LOCK_FILE: Final = ".terraform.lock.hcl"
_PROVIDER: Final = re.compile(
    r'provider "[^"]*/exoscale/exoscale" \{\s*version\s*=\s*"(\d+)\.(\d+)[^"]*"'
)
OBEYS_ENDPOINT: Final = (0, 71)
"""From this version on the provider asks EXOSCALE_API_ENDPOINT for all that it wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """The variables that matter before anything is made; files of variables are in them."""

    name: str
    zone: str
    template: str
    min_size: int
    max_size: int
    """With the budget taken into account."""
    makes_keys: bool
    """Whether each agent gets a key of its own, which takes `iam`."""
    agents_endpoint: str

    @classmethod
    def read(cls, said: str) -> Module | None:
        """Read what `terraform console` said of EXPRESSION; None if that is not an answer."""
        for line in said.splitlines():
            try:
                values = json.loads(json.loads(line))
                return cls(
                    **{name: str(values[name]) for name in ("name", "zone", "template")},
                    min_size=int(values["min_size"]),
                    max_size=int(values["max_size"]),
                    makes_keys=bool(values["makes_keys"]),
                    agents_endpoint=str(values["agents_endpoint"]),
                )
            except (ValueError, LookupError, TypeError):
                continue
        return None

    @classmethod
    def guessed(cls, name: str, zone: str, told: Mapping[str, str]) -> Module:
        """
        Say what is known without Terraform's answer.

        An empty template and a largest size of 0 mean that they are not known.

        Args:
            told: Variables of the command line and the environment, by their names.
        """
        return cls(
            name=name,
            zone=zone,
            template=told.get("template", ""),
            min_size=_number(told.get("min_size"), otherwise=1),
            max_size=_number(told.get("max_size"), otherwise=0),
            makes_keys=not told.get("agents_key"),
            agents_endpoint=told.get("agents_api_endpoint", ""),
        )


def _number(text: str | None, *, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise


def provider_version(folder: Path) -> tuple[int, int] | None:
    """Tell which provider `init` has chosen; None: not known."""
    try:
        found = _PROVIDER.search((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (int(found[1]), int(found[2])) if found else None

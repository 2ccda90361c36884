"""Which templates a zone offers; public ones come and go."""

from __future__ import annotations

from typing import Final

from exotide.stack.api import Api
from exotide.stack.errors import CloudUnavailable

FITTING: Final = "Debian"
"""What the stack's servers boot."""


def offered(api: Api) -> dict[str, str]:
    """
    Names of all templates of the zone by id, the account's own among them.

    Raises:
        StackError: they cannot be read.
    """
    try:
        return {
            each["id"]: each["name"]
            for visibility in ("public", "private")
            for each in api.call("list_templates", visibility=visibility)["templates"]
        }
    except (LookupError, TypeError) as error:
        raise CloudUnavailable(f"templates: the answer is not as expected: {error!r}") from error


def choice(names: dict[str, str]) -> str:
    """Say which there are: those that fit, or else all."""
    unique = sorted(set(names.values()))
    fitting = [each for each in unique if FITTING in each]
    return "; ".join(fitting or unique) or "none"

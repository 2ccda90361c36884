"""The account's key, from the environment; on a command line everyone could read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .errors import NoAccess

PAIRS: Final = (
    ("TF_VAR_exoscale_key", "TF_VAR_exoscale_secret"),
    ("EXOSCALE_KEY", "EXOSCALE_SECRET"),
    ("EXOSCALE_API_KEY", "EXOSCALE_API_SECRET"),
)
"""Names that tools read; Terraform prefers the first, and so do all commands here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, and which variable it is from."""

    key: str
    secret: str = field(repr=False)
    variable: str
    others: tuple[str, ...] = ()
    """Variables that hold another key, which is passed over."""

    @property
    def remark(self) -> str:
        """Which key is used, if the shell has more than one; else empty."""
        if not self.others:
            return ""
        return f"key {self.key} of {self.variable} is used, not that of {', '.join(self.others)}"


def read_key(environ: Mapping[str, str]) -> Key:
    """
    Find the first pair of variables that is whole.

    Raises:
        NoAccess: there is none; names what is missing.
    """
    whole = [(key, secret) for key, secret in PAIRS if environ.get(key) and environ.get(secret)]
    if not whole:
        raise NoAccess(_missing(environ))
    (variable, secret), *rest = whole
    used = environ[variable]
    others = tuple(name for name, _ in rest if environ[name] != used)
    return Key(key=used, secret=environ[secret], variable=variable, others=others)


def _missing(environ: Mapping[str, str]) -> str:
    for key, secret in PAIRS:
        if environ.get(key) or environ.get(secret):
            missing = secret if environ.get(key) else key
            return f"{missing} is not set, but its other half is: set both"
    return (
        "no API key in the environment: make one in the portal (IAM, API keys) and export "
        'EXOSCALE_KEY and EXOSCALE_SECRET, or use a local cloud: eval "$(exotide cloud env)"'
    )

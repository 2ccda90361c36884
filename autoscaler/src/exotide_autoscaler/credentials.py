"""
Secrets from files: systemd's LoadCredential keeps them out of the environment of the unit.

The same file stands in both agents, since the image of each is built from its folder alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import SettingsError

NAMES: Final = ("EXOSCALE_KEY", "EXOSCALE_SECRET", "EXOTIDE_WEBHOOK_TOKEN")


def with_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """
    Add what lies in the folder CREDENTIALS_DIRECTORY; a variable that is set wins.

    Raises:
        SettingsError: a file is there and cannot be read.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    found = {} if not folder else _read(Path(folder))
    return found | {name: value for name, value in environ.items() if value or name not in found}


def _read(folder: Path) -> dict[str, str]:
    found = {}
    for name in NAMES:
        try:
            found[name] = (folder / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read from {folder / name}: {type(error).__name__}"
            raise SettingsError([(name, problem)]) from error
    return found

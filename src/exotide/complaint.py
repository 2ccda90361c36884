"""How a command says why it cannot do what it was asked for."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import Final

_WHOLE: Final = re.compile(r'eval "\$\([^)]*\)"')
"""What would be another command if it were broken."""
_GLUE: Final = "\0"


def complain(text: str, *, code: int) -> int:
    """
    Write an error to the standard error; on a terminal it is broken at words.

    Returns:
        The given exit code, for `return complain(...)`.
    """
    lines = f"error: {text}".splitlines()
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in _broken(line, width)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return code


def _broken(line: str, width: int) -> list[str]:
    """What is longer than a line, such as a path or an id, is left whole for copying."""
    line = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), line)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    broken = textwrap.wrap(
        line,
        max(width, 20),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [each.replace(_GLUE, " ") for each in broken] or [""]

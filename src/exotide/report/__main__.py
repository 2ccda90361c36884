"""
Draws a recorded run again: `python -m exotide.report RUN.json OUT.svg` (or OUT.html).

The picture in the README is made so from the JSON of a demo.
"""

from __future__ import annotations

import sys
from pathlib import Path

from exotide.report.errors import ReportError
from exotide.report.page import picture, render
from exotide.report.run import from_json


def main(arguments: list[str]) -> int:
    """Draw; exit status 2 for a wrong call or an unreadable run."""
    if len(arguments) != 2 or Path(arguments[1]).suffix not in {".svg", ".html"}:
        sys.stderr.write("usage: python -m exotide.report RUN.json OUT.svg|OUT.html\n")
        return 2
    source, target = map(Path, arguments)
    try:
        run = from_json(source.read_text())
    except (OSError, ReportError) as error:
        sys.stderr.write(f"error: {source} is not the JSON of a demo: {error}\n")
        return 2
    target.write_text(picture(run) if target.suffix == ".svg" else render(run))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

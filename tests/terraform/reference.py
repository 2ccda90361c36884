"""Makes docs/reference/terraform.md from the root module: `python -m tests.terraform.reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hcl2

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/reference/terraform.md"
HEAD: Final = """\
# The root module

Made by `make reference` from `variables.tf` and `outputs.tf`; a test fails when it is stale.
How to use it: [guide](../guides/exoscale.md).
"""


def page() -> str:
    """Write the page."""
    return "\n".join((HEAD, *_variables(), "", *_outputs(), ""))


def _variables() -> Iterator[str]:
    yield "## Variables"
    yield "| name | type | default | what it is |"
    yield "| --- | --- | --- | --- |"
    for name, fields in _blocks("variables.tf", "variable"):
        default = f"`{_literal(fields['default'])}`" if "default" in fields else "**needed**"
        kind = _text(fields["type"]).removeprefix("${").removesuffix("}")
        yield f"| `{name}` | {kind} | {default} | {_text(fields['description'])} |"


def _outputs() -> Iterator[str]:
    yield "## Outputs"
    yield "| name | what it is |"
    yield "| --- | --- |"
    for name, fields in _blocks("outputs.tf", "output"):
        secret = " (secret)" if fields.get("sensitive") else ""
        yield f"| `{name}`{secret} | {_text(fields['description'])} |"


def _blocks(file: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in hcl2.loads((ROOT / file).read_text())[kind]:
        for name, fields in block.items():
            yield _text(name), fields


def _text(value: str) -> str:
    """Read a string as HCL means it, without its quotes and escapes."""
    return str(json.loads(value)) if value.startswith('"') else value


def _literal(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()

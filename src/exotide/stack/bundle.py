"""
The monitoring server's files as one small archive, for servers that get everything by user-data.

It is a JSON object of texts by their paths, packed by zpaq: user-data is small, and what Python
unpacks by itself is a fifth larger.

    python -m exotide.stack.bundle [--speed N] [FOLDER]      `make bundle` writes the committed one

Comments, docstrings, annotations and the blanks of JSON stay behind. Names of modules, classes and
functions stay, so that a traceback can be read.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from python_minifier import RemoveAnnotationsOptions, minify

from .alerting import grafana_files, monitoring_files

ROOT: Final = Path(__file__).resolve().parents[3]
GENERATED: Final = ROOT / "terraform/userdata/generated"
SCRIPTS: Final = {
    "slowapp.py": "slowapp/slowapp.py",
    "bootstrap.py": "terraform/userdata/monitoring/bootstrap.py",
}
"""Programs that go into user-data by themselves, by their name there."""
ALERTING: Final = ("grafana", "alertmanager")
"""What may send the alerts; each has a bundle of its own."""
AGENTS: Final = ("autoscaler", "servicediscovery")
COMMENTED: Final = frozenset({".yml", ".yaml", ".service", ".conf", ""})
"""Suffixes of files in which a line that begins with # says nothing to programs."""
_ANNOTATIONS: Final = RemoveAnnotationsOptions(
    remove_variable_annotations=True,
    remove_return_annotations=True,
    remove_argument_annotations=True,
    remove_class_attribute_annotations=False,  # the fields of dataclasses are made of them
)
_PACKED_NAME: Final = "bundle.json"
_TREE: Final = "terraform/userdata/monitoring/root"


def bundle_files(alerting: str, *, speed: float = 1.0) -> dict[str, str]:
    """
    Text of each file by its path below `/`.

    Args:
        alerting: `grafana` or `alertmanager`; what only the other one needs stays out.
        speed: How many times faster than the assignment's own numbers.
    """
    read = monitoring_files(speed=speed) | grafana_files(speed=speed)
    files = {f"srv/{name}": text for name, text in read.items()}
    for path in sorted((ROOT / _TREE).rglob("*")):
        if path.is_file():
            files[str(path.relative_to(ROOT / _TREE))] = path.read_text(encoding="utf-8")
    # The process servers read these arguments from a file; Debian's unit has its own.
    extra = " ".join(files.pop("srv/prometheus/prometheus.args").split())
    files["etc/default/prometheus"] = files["etc/default/prometheus"].replace('"\n', f' {extra}"\n')
    other = next(name for name in ALERTING if name != alerting)
    files = {name: _plain(name, text) for name, text in files.items() if other not in name}
    for agent in AGENTS:
        files |= _agent(agent)
    pins = [(ROOT / agent / "requirements.txt").read_text() for agent in AGENTS]
    requirements = {line for text in pins for line in text.splitlines(keepends=True)}
    files["opt/exotide/requirements.txt"] = "".join(sorted(requirements))
    return files


def archive(files: dict[str, str]) -> bytes:
    """Pack files."""
    ordered = {name: files[name] for name in sorted(files)}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _PACKED_NAME).write_text(text, encoding="utf-8")
        _zpaq(folder, "add", "bundle.zpaq", _PACKED_NAME, "-method", "5")
        return (Path(folder) / "bundle.zpaq").read_bytes()


def unpacked(bundle: bytes) -> dict[str, str]:
    """Read an archive back."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bundle.zpaq").write_bytes(bundle)
        _zpaq(folder, "extract", "bundle.zpaq")
        files: dict[str, str] = json.loads((Path(folder) / _PACKED_NAME).read_bytes())
    return files


def _zpaq(folder: str, *arguments: str) -> None:
    subprocess.run(("zpaq", *arguments), cwd=folder, check=True, capture_output=True)


def _agent(agent: str) -> dict[str, str]:
    name, source = f"exotide_{agent}", ROOT / agent / "src"
    files = {
        f"opt/exotide/lib/{path.relative_to(source)}": _small(path)
        for path in imported(f"{name}.__main__", source)
    }
    project = tomllib.loads((ROOT / agent / "pyproject.toml").read_text())["project"]
    label = f"{name}-{project['version']}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    return files | {f"opt/exotide/lib/{label}/METADATA": metadata}


def imported(module: str, source: Path) -> list[Path]:
    """Files below `source` that a module needs: its own, those it imports, and so on."""
    found: dict[str, Path] = {}
    wanted = [module]
    while wanted:
        name = wanted.pop()
        place = source / name.replace(".", "/")
        path = next(filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py")), None)
        if path is None or name in found:
            continue  # a name inside a module, or another distribution's
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        wanted += [name.rpartition(".")[0], *_imports(ast.parse(path.read_bytes()), package)]
    return sorted(found.values())


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Give whatever may be a module among the names that are imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _plain(name: str, text: str) -> str:
    """What programs read of a file: no lines of comments, no indentation of JSON."""
    if Path(name).suffix == ".json":
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    if Path(name).suffix not in COMMENTED:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#"))


def _small(path: Path) -> str:
    return minify(
        path.read_text(encoding="utf-8"),
        remove_literal_statements=True,
        remove_annotations=_ANNOTATIONS,
        rename_locals=True,
        hoist_literals=False,
    )


def name_of(alerting: str) -> str:
    """Name of the bundle's file for this alerting."""
    return f"bundle-{alerting}.zpaq"


def write(folder: Path, *, speed: float = 1.0) -> None:
    """Write the bundles and the scripts; an archive that says the same is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for alerting in ALERTING:
        files, out = bundle_files(alerting, speed=speed), folder / name_of(alerting)
        if not out.exists() or unpacked(out.read_bytes()) != files:
            out.write_bytes(archive(files))
    for name, text in scripts().items():
        (folder / name).write_text(text, encoding="utf-8")


def scripts() -> dict[str, str]:
    """Text of each script, small."""
    return {name: _small(ROOT / path) for name, path in SCRIPTS.items()}


def main() -> None:
    """Write what user-data is made of."""
    parser = argparse.ArgumentParser(description="Write what user-data is made of.")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("folder", type=Path, nargs="?", default=GENERATED)
    arguments = parser.parse_args()
    write(arguments.folder, speed=arguments.speed)


if __name__ == "__main__":
    main()

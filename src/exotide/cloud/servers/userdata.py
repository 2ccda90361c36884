"""The part of cloud-init that a process server honours: `write_files` below /srv."""

from __future__ import annotations

import base64
import binascii
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

import structlog
import yaml

from exotide.cloud.servers.errors import BadUserData

log = structlog.get_logger(__name__)

HEADER: Final = b"#cloud-config"
ROOT: Final = PurePosixPath("/srv")
BASE64: Final = {"b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"}
GZIP: Final = {"gz", "gzip", *(name for name in BASE64 if name.startswith("gz"))}
PLAIN: Final = {"", "text/plain"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file that user-data wants."""

    path: PurePosixPath
    """As the server sees it."""
    content: bytes = field(repr=False)
    """Never shown: it may be a secret."""
    mode: int = 0o644
    append: bool = False


def parse(user_data: bytes) -> tuple[File, ...]:
    """
    Give the files below /srv that user-data wants; none for user-data that is no cloud-config.

    Other files are left out: the rest of a process server's file system is the host's.

    Raises:
        BadUserData: with the field and its value, except for contents.
    """
    if not user_data.lstrip().startswith(HEADER):
        return ()
    try:
        document = yaml.safe_load(user_data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" in line {where.line + 1}" if where is not None else ""
        raise BadUserData(f"user-data: is no valid YAML{place}") from None
    if document is None:
        return ()
    if not isinstance(document, dict):
        raise BadUserData("user-data: must be a mapping, such as `write_files: [...]`")
    entries = document.get("write_files") or []
    if not isinstance(entries, list):
        raise BadUserData("user-data: write_files must be a list")
    read = [_file(entry, f"write_files[{index}]") for index, entry in enumerate(entries)]
    elsewhere = [str(file.path) for file in read if not file.path.is_relative_to(ROOT)]
    if elsewhere:
        log.warning("user_data_files_left_out", paths=elsewhere, hint="only /srv is the server's")
    return tuple(file for file in read if file.path.is_relative_to(ROOT))


def fitted(files: tuple[File, ...], fit: Callable[[str], str]) -> tuple[File, ...]:
    """Change the text of all files; what is no text stays as it is."""
    return tuple(replace(file, content=_fitted(file.content, fit)) for file in files)


def write(files: tuple[File, ...], srv: Path) -> None:
    """Write the files into the folder that the server sees as /srv."""
    for file in files:
        path = srv / file.path.relative_to(ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # never readable by others, not even while it is written
        with path.open("ab" if file.append else "wb") as target:
            target.write(file.content)
        path.chmod(file.mode)


def _fitted(content: bytes, fit: Callable[[str], str]) -> bytes:
    try:
        return fit(content.decode()).encode()
    except UnicodeDecodeError:
        return content


def _file(entry: object, name: str) -> File:
    if not isinstance(entry, Mapping):
        raise BadUserData(f"user-data: {name} must be a mapping with path and content")
    return File(
        path=_path(entry.get("path"), name),
        content=_content(entry.get("content"), str(entry.get("encoding") or ""), name),
        mode=_mode(entry.get("permissions", "0644"), name),
        append=bool(entry.get("append", False)),
    )


def _path(value: object, name: str) -> PurePosixPath:
    path = PurePosixPath(str(value))
    names_file = path.is_absolute() and path != ROOT and ".." not in path.parts
    if not isinstance(value, str) or not names_file:
        raise BadUserData(f"user-data: {name}.path must be a file's absolute path, got: {value}")
    return path


def _content(value: object, encoding: str, name: str) -> bytes:
    if encoding not in BASE64 | GZIP | PLAIN:
        raise BadUserData(
            f"user-data: {name}.encoding must be b64, gz+b64 or none, got: {encoding}"
        )
    data = value if isinstance(value, bytes) else str("" if value is None else value).encode()
    try:
        if encoding in BASE64:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        return gzip.decompress(data) if encoding in GZIP else data
    except (binascii.Error, OSError, EOFError):
        raise BadUserData(f"user-data: {name}.content is not what {encoding} gives") from None


def _mode(value: object, name: str) -> int:
    try:
        # YAML reads 0644 without quotes as the octal number that it means.
        mode = value if isinstance(value, int) else int(str(value), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise BadUserData(f"user-data: {name}.permissions must be like '0644', got: {value}")
    return mode

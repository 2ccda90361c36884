"""The part of cloud-init that a process server honours: `write_files` below /srv."""

from __future__ import annotations

import base64
import binascii
import zlib
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
WITH_GZIP_HEADER: Final = 31
MOST_BYTES: Final = 1 << 20
"""Of all files together, unzipped."""
MOST_SHOWN: Final = 10
MOST_SHOWN_CHARACTERS: Final = 80
YES: Final = {"true", "yes", "on", "1"}
MOST_ALIASES: Final = 100
MOST_DEPTH: Final = 50
MOST_NODES: Final = 20_000
"""Real user-data has some hundred."""


class _TooMuch(yaml.YAMLError):
    """A document that is small and means something huge."""


class _Loader(yaml.BaseLoader):
    """Reads text alone, of bounded depth and with few aliases: numbers can take minutes to read."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._aliases = self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._aliases += self.check_event(yaml.AliasEvent)
        if self._aliases > MOST_ALIASES:
            raise _TooMuch(f"has more than {MOST_ALIASES} aliases")
        if self._nodes > MOST_NODES:
            raise _TooMuch(f"has more than {MOST_NODES} values")
        if self._depth >= MOST_DEPTH:
            raise _TooMuch(f"is nested deeper than {MOST_DEPTH}")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file that user-data wants."""

    path: PurePosixPath
    """As the server sees it."""
    content: bytes = field(repr=False)
    """Never shown: it may be a secret."""
    mode: int = 0o644
    append: bool = False


def understood(user_data: bytes, *, server: str) -> tuple[File, ...]:
    """Give the files as `parse` does; none, and a warning, for what it cannot honour."""
    try:
        return parse(user_data)
    except BadUserData as error:
        # A server boots whatever it is told, and its cloud-init complains inside.
        log.warning("user_data_has_no_effect", server=server, reason=str(error))
        return ()


def parse(user_data: bytes) -> tuple[File, ...]:
    """
    Give the files below /srv that user-data wants; none for user-data that is no cloud-config.

    Other files are left out: the rest of a process server's file system is the host's. It may take
    a second: keep it off the event loop.

    Raises:
        BadUserData: with the field and its value, except for contents.
    """
    if not user_data.lstrip().startswith(HEADER):
        return ()
    try:
        document = yaml.load(user_data, Loader=_Loader)  # noqa: S506 - it reads text alone
    except _TooMuch as error:
        raise BadUserData(f"user-data: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
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
    read = _files(entries)
    elsewhere = [str(file.path) for file in read if not file.path.is_relative_to(ROOT)]
    if elsewhere:
        shown = [_shown(path) for path in elsewhere[:MOST_SHOWN]]
        log.warning("user_data_files_left_out", paths=shown, hint="only /srv is the server's")
    return tuple(file for file in read if file.path.is_relative_to(ROOT))


def fitted(files: tuple[File, ...], fit: Callable[[str], str]) -> tuple[File, ...]:
    """Change the text of all files; what is no text stays as it is."""
    return tuple(replace(file, content=_fitted(file.content, fit)) for file in files)


def write(files: tuple[File, ...], srv: Path) -> None:
    """Write the files into the folder that the server sees as /srv; what cannot be is left out."""
    for file in files:
        try:
            _write(file, srv / file.path.relative_to(ROOT))
        except OSError as error:  # a name that is too long, or a file where a folder is wanted
            log.warning(
                "user_data_file_left_out", path=_shown(str(file.path)), reason=error.strerror
            )


def _write(file: File, path: Path) -> None:
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


def _files(entries: list[object]) -> list[File]:
    found: list[File] = []
    left_bytes = MOST_BYTES
    for index, entry in enumerate(entries):
        found.append(_file(entry, f"write_files[{index}]"))
        left_bytes -= len(found[-1].content)
        if left_bytes < 0:
            raise BadUserData(f"user-data: write_files must be at most {MOST_BYTES} bytes together")
    return found


def _file(entry: object, name: str) -> File:
    if not isinstance(entry, Mapping):
        raise BadUserData(f"user-data: {name} must be a mapping with path and content")
    return File(
        path=_path(_text(entry, "path", name), name),
        content=_content(_text(entry, "content", name), _text(entry, "encoding", name), name),
        mode=_mode(_text(entry, "permissions", name) or "0644", name),
        append=_text(entry, "append", name).lower() in YES,
    )


def _text(entry: Mapping[object, object], key: str, name: str) -> str:
    """Give a text; whatever else there is may be huge, and is not shown."""
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise BadUserData(f"user-data: {name}.{key} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadUserData(f"user-data: {name}.{key} is no valid text") from None
    return value


def _shown(value: str) -> str:
    return value[:MOST_SHOWN_CHARACTERS]


def _path(value: str, name: str) -> PurePosixPath:
    path = PurePosixPath(value)
    names_file = path.is_absolute() and path != ROOT and ".." not in path.parts
    names_file = names_file and "\0" not in value
    if not names_file:
        raise BadUserData(
            f"user-data: {name}.path must be a file's absolute path, got: {_shown(value)}"
        )
    return path


def _content(value: str, encoding: str, name: str) -> bytes:
    if encoding not in BASE64 | GZIP | PLAIN:
        raise BadUserData(
            f"user-data: {name}.encoding must be b64, gz+b64 or none, got: {_shown(encoding)}"
        )
    data = value.encode()
    try:
        if encoding in BASE64:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        return _unzipped(data, name) if encoding in GZIP else data
    except (binascii.Error, zlib.error):
        raise BadUserData(f"user-data: {name}.content is not what {encoding} gives") from None


def _unzipped(data: bytes, name: str) -> bytes:
    unzip = zlib.decompressobj(WITH_GZIP_HEADER)
    plain = unzip.decompress(data, MOST_BYTES)
    if not unzip.eof:
        raise BadUserData(f"user-data: {name}.content must be whole and at most {MOST_BYTES} bytes")
    return plain


def _mode(value: str, name: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise BadUserData(
            f"user-data: {name}.permissions must be like '0644', got: {_shown(value)}"
        )
    return mode

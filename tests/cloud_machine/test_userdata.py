"""User-data: the files that a process server gets."""

from __future__ import annotations

import base64
import contextlib
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exotide.cloud.servers import userdata
from exotide.cloud.servers.errors import BadUserData


def config(*entries: object) -> bytes:
    return b"#cloud-config\n" + yaml.safe_dump({"write_files": list(entries)}).encode()


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        pytest.param(None, "a: ü\n", id="plain"),
        pytest.param("b64", base64.b64encode("a: ü\n".encode()).decode(), id="b64"),
        pytest.param(
            "gz+b64", base64.b64encode(gzip.compress("a: ü\n".encode())).decode(), id="gz+b64"
        ),
    ],
)
def test_files_are_written_as_they_were_meant(
    tmp_path: Path, encoding: str | None, content: str
) -> None:
    entry = {"path": "/srv/a/b.yml", "content": content, "permissions": "0600"}
    files = userdata.parse(config(entry | ({"encoding": encoding} if encoding else {})))
    userdata.write(files, tmp_path)
    assert (tmp_path / "a/b.yml").read_text() == "a: ü\n"
    assert (tmp_path / "a/b.yml").stat().st_mode & 0o777 == 0o600


def test_permissions_without_quotes_are_octal_and_default_to_0644() -> None:
    data = b"#cloud-config\nwrite_files:\n- {path: /srv/x, permissions: 0755}\n- {path: /srv/y}\n"
    assert [file.mode for file in userdata.parse(data)] == [0o755, 0o644]


def test_user_data_that_is_no_cloud_config_has_no_files() -> None:
    assert userdata.parse(b"#!/bin/sh\necho hello\n") == ()
    assert userdata.parse(b"") == ()
    assert userdata.parse(b"#cloud-config\npackages: [nginx]\n") == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(
            {"path": "/srv/../etc/x"}, r"write_files\[0\].path .* got: /srv/../etc/x", id="dots"
        ),
        pytest.param({"path": "/srv"}, "absolute path", id="srv-itself"),
        pytest.param({"path": "srv/x"}, "absolute path", id="relative"),
        pytest.param({}, "absolute path", id="no-path"),
        pytest.param({"path": "/srv/x", "encoding": "rot13"}, "got: rot13", id="encoding"),
        pytest.param({"path": "/srv/x", "permissions": "rw"}, "got: rw", id="permissions"),
        pytest.param(
            {"path": "/srv/x", "encoding": "b64", "content": "s3cret"}, "b64", id="base64"
        ),
        pytest.param("text", "must be a mapping", id="no-mapping"),
    ],
)
def test_a_bad_entry_is_named(entry: object, message: str) -> None:
    with pytest.raises(BadUserData, match=message) as caught:
        userdata.parse(config(entry))
    assert "s3cret" not in str(caught.value)


@contextlib.contextmanager
def heard() -> Iterator[list[Any]]:
    """What is logged, also if another test made the module's logger a silent one for good."""
    kept, userdata.log = userdata.log, structlog.get_logger()
    structlog.reset_defaults()
    try:
        with capture_logs() as logs:
            yield logs
    finally:
        userdata.log = kept


def test_files_elsewhere_are_left_out_and_the_server_boots_all_the_same(tmp_path: Path) -> None:
    with heard() as logs:
        files = userdata.parse(config({"path": "/etc/passwd"}, {"path": "/srv/x"}))
    userdata.write(files, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert logs[0]["paths"] == ["/etc/passwd"]


def test_broken_yaml_is_named_by_line_and_shows_no_content() -> None:
    with pytest.raises(BadUserData, match="line 3") as caught:
        userdata.parse(b"#cloud-config\npassword: hunter2\n\tx: [\n")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def bomb(levels: int, inner: str = "x") -> str:
    """Nested aliases: each level is nine times the one before."""
    lines = [f"a0: &a0 [{', '.join([inner] * 9)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


ZEROS = base64.b64encode(gzip.compress(bytes(64 << 20), 9)).decode()
HOSTILE = [
    pytest.param(bomb(9) + "write_files: [{path: *a8}]", id="aliases-as-path"),
    pytest.param(bomb(9) + "write_files: [{path: /srv/x, content: *a8}]", id="aliases-as-content"),
    pytest.param(bomb(9) + "write_files: [{path: /srv/x, encoding: *a8}]", id="aliases-as-word"),
    pytest.param(bomb(40), id="many-aliases"),
    pytest.param(f"write_files: [{{path: /srv/x, encoding: gz+b64, content: {ZEROS}}}]", id="gzip"),
    pytest.param("x: " + "[" * 5_000 + "]" * 5_000, id="deep"),
    pytest.param("x: [" + "{a: 1}, " * 30_000 + "]", id="many"),
    pytest.param(
        "write_files: [{path: /srv/x, permissions: 1" + ":1" * 100_000 + "}]", id="number"
    ),
    pytest.param("write_files: &a [*a]", id="holds-itself"),
    pytest.param("x: !!python/object/apply:os.system [id]\nwrite_files: 7", id="tag"),
    pytest.param('write_files: [{path: /srv/x, content: "\\ud800"}]', id="no-utf-8"),
    pytest.param('write_files: [{path: "/srv/a\\0b"}]', id="zero-byte"),
    pytest.param("\x00\xff", id="no-text"),
    pytest.param("a: b: c", id="no-yaml"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_user_data_is_refused_soon_and_has_no_effect(text: str) -> None:
    began_s = time.process_time()
    with heard() as logs:
        assert userdata.understood(f"#cloud-config\n{text}\n".encode("latin-1"), server="s") == ()
    assert time.process_time() - began_s < 3.0
    (told,) = logs
    assert (told["event"], told["server"]) == ("user_data_has_no_effect", "s")
    assert len(str(told["reason"])) < 300


@given(st.binary(max_size=300))
def test_no_user_data_raises_anything_but_its_own_error(data: bytes) -> None:
    with contextlib.suppress(BadUserData):
        userdata.parse(b"#cloud-config\n" + data)


def test_all_files_together_have_a_limit() -> None:
    entry = {"path": "/srv/x", "content": "y" * (600 << 10)}
    assert userdata.parse(config(entry))
    with pytest.raises(BadUserData, match="together"):
        userdata.parse(config(entry, entry))

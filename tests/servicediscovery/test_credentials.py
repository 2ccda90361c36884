from __future__ import annotations

from pathlib import Path

import pytest
from exotide_servicediscovery.credentials import with_credentials
from exotide_servicediscovery.errors import SettingsError


def test_secrets_come_from_the_files_of_systemd_s_credentials(tmp_path: Path) -> None:
    (tmp_path / "EXOSCALE_SECRET").write_text("hidden\n")
    environ = with_credentials({"CREDENTIALS_DIRECTORY": str(tmp_path), "A": "b"})
    assert environ == {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "A": "b",
        "EXOSCALE_SECRET": "hidden",
    }


def test_a_variable_that_is_set_wins_over_the_file_and_an_empty_one_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "EXOSCALE_KEY").write_text("from-file")
    (tmp_path / "EXOSCALE_SECRET").write_text("from-file")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "EXOSCALE_KEY": "set", "EXOSCALE_SECRET": ""}
    found = with_credentials(environ)
    assert (found["EXOSCALE_KEY"], found["EXOSCALE_SECRET"]) == ("set", "from-file")


def test_without_a_folder_the_environment_is_as_it_was() -> None:
    assert with_credentials({"EXOSCALE_KEY": "set", "B": ""}) == {"EXOSCALE_KEY": "set", "B": ""}


def test_a_file_that_cannot_be_read_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    (tmp_path / "EXOSCALE_SECRET").write_bytes(b"\xff\xfehidden")
    with pytest.raises(SettingsError, match=r"EXOSCALE_SECRET .*cannot be read") as raised:
        with_credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "hidden" not in str(raised.value)

"""What is refused before anything begins, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.up import options
from exotide.up.errors import CannotRun
from exotide.up.options import Credentials
from exotide.up.state import Known, State

POOL = State(
    resources=(
        Known(type="exoscale_instance_pool", name="web", id="p", attributes={"name": "web"}),
    )
)


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"EXOSCALE_KEY": "EXOa", "EXOSCALE_SECRET": "s"}, "EXOa"),
        ({"EXOSCALE_API_KEY": "EXOb", "EXOSCALE_API_SECRET": "s"}, "EXOb"),
        ({"EXOSCALE_KEY": "EXOa", "TF_VAR_exoscale_key": "EXOc", "EXOSCALE_SECRET": "s"}, "EXOc"),
    ],
)
def test_the_key_comes_from_the_environment(environ: dict[str, str], key: str) -> None:
    found = options.credentials(environ)
    assert found == Credentials(key=key, secret="s")
    assert found.environment() == {"TF_VAR_exoscale_key": key, "TF_VAR_exoscale_secret": "s"}
    assert "secret" not in repr(found).replace("Credentials", "")


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({}, "EXOSCALE_KEY is not set and EXOSCALE_SECRET is not set"),
        ({"EXOSCALE_KEY": "EXOa"}, "^EXOSCALE_SECRET is not set; make a key in the portal"),
    ],
)
def test_a_missing_key_is_named_with_the_next_step(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(CannotRun, match=complaint):
        options.credentials(environ)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("never", None)],
)
def test_a_time_to_live_is_read(text: str, seconds: float | None) -> None:
    assert options.ttl_s(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "-1h", "two hours", "0s", "366d", "1.5h"])
def test_a_wrong_time_to_live_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(CannotRun, match=rf"--ttl must be .*got: {text}$"):
        options.ttl_s(text)


def test_variables_are_read() -> None:
    assert options.variables(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("novalue", "needs NAME=VALUE, got: novalue"),
        ("1a=2", "needs NAME=VALUE, got: 1a"),
        ("exoscale_secret=hush", "export TF_VAR_exoscale_secret instead"),
        ("exoscale_key=EXOa", "export TF_VAR_exoscale_key instead"),
        ("time_to_live_h=2", "use --ttl, as in --ttl 2h"),
    ],
)
def test_a_wrong_variable_is_refused_and_its_value_not_repeated(word: str, complaint: str) -> None:
    with pytest.raises(CannotRun, match=complaint) as refused:
        options.variables([word])
    assert "hush" not in str(refused.value)


def made(folder: Path) -> Path:
    (folder / "terraform/userdata").mkdir(parents=True)
    (folder / "main.tf").touch()
    return folder


def test_the_folder_is_the_given_one_else_the_current_one_else_the_checkout(
    tmp_path: Path,
) -> None:
    given, here, nothing = made(tmp_path / "a"), made(tmp_path / "b"), tmp_path / "c"
    checkout = Path(__file__).resolve().parents[2]
    assert options.root(Path("a"), here=tmp_path) == given
    assert options.root(None, here=here) == here
    assert options.root(None, here=nothing) == checkout
    with pytest.raises(CannotRun, match=r"--dir must be a folder with main.tf and .*/c$"):
        options.root(nothing, here=here)


def test_the_name_is_that_of_the_variable_the_environment_or_the_state() -> None:
    environ = {"TF_VAR_name": "env"}
    chosen = [
        options.chosen("name", given=given, environ=environ, known=known, default="exotide")
        for given, environ, known in (
            ({"name": "var"}, environ, POOL),
            ({}, environ, POOL),
            ({}, {}, POOL),
            ({}, {}, State()),
        )
    ]
    assert chosen == ["var", "env", "web", "exotide"]


def test_the_program_of_before_is_used_again_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, named = tmp_path / "tofu", tmp_path / "terraform"
    for file in (before, named):
        file.touch(mode=0o755)
    assert options.program({}, before=str(before)) == before
    monkeypatch.setenv("EXOTIDE_TERRAFORM", str(named))
    named_only = {"EXOTIDE_TERRAFORM": str(named)}
    assert options.program(named_only, before=str(before)) == named
    monkeypatch.setenv("EXOTIDE_TERRAFORM", str(tmp_path / "nothing"))
    with pytest.raises(CannotRun, match="is no program; install Terraform or OpenTofu"):
        options.program({}, before=str(tmp_path / "gone"))

"""What is refused before anything begins, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.access.keys import Key
from exotide.up import options
from exotide.up.errors import CannotRun
from exotide.up.state import Known, State

POOL = State(
    resources=(
        Known(type="exoscale_instance_pool", name="web", id="p", attributes={"name": "web"}),
    )
)


def test_terraform_is_told_the_key_by_the_root_module_s_variables() -> None:
    key = Key(key="EXOa", secret="s", variable="EXOSCALE_KEY")
    assert options.for_terraform(key) == {
        "TF_VAR_exoscale_key": "EXOa",
        "TF_VAR_exoscale_secret": "s",
    }


def test_the_agents_key_is_known_with_its_secret_alone() -> None:
    both = {"TF_VAR_agents_key": "EXOa", "TF_VAR_agents_secret": "s"}
    assert options.agents_key(both) == ("EXOa", "s")
    assert options.agents_key({"TF_VAR_agents_key": "EXOa"}) is None
    assert options.from_environment({**both, "PATH": "/bin"}) == {
        "agents_key": "EXOa",
        "agents_secret": "s",
    }


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
        ("agents_secret=hush", "export TF_VAR_agents_secret instead"),
        ("agents_key=EXOa", "export TF_VAR_agents_key instead"),
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

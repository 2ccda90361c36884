"""Where the official tools are looked for, and what is said if they are not as they must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.realtools.programs import Misnamed, NotHere, provider, provider_version
from exotide.realtools.terraform import Workspace


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("terraform-provider-exoscale_v0.70.1", "0.70.1"),
        ("terraform-provider-exoscale_v1.0.0-rc.1", "1.0.0-rc.1"),
    ],
)
def test_a_provider_s_name_tells_its_version(name: str, version: str) -> None:
    assert provider_version(Path("/opt") / name) == version


@pytest.mark.parametrize(
    "name",
    ["terraform-provider-exoscale", "provider_v1", "terraform-provider-exoscale_v0.70.1.zip"],
)
def test_a_provider_whose_name_has_no_version_is_told_what_it_must_be(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.touch(mode=0o755)
    with pytest.raises(Misnamed, match=r"must end with its version, such as .*_v0\.70\.1; rename"):
        Workspace.made(
            tmp_path / "work",
            terraform=tmp_path / "never-run",
            provider=file,
            environment={},
            run_in=lambda *words: list(words),
        )


def test_a_link_may_give_the_version_or_lead_to_what_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, named = tmp_path / "built", tmp_path / "terraform-provider-exoscale_v0.70.1"
    built.touch(mode=0o755)
    named.symlink_to(built)
    monkeypatch.setenv("EXOTIDE_TERRAFORM_PROVIDER", str(named))
    assert provider_version(provider()) == "0.70.1"
    real, plain = tmp_path / "x_v0.65.1", tmp_path / "terraform-provider-exoscale"
    real.touch(mode=0o755)
    plain.symlink_to(real)
    monkeypatch.setenv("EXOTIDE_TERRAFORM_PROVIDER", str(plain))
    assert provider_version(provider()) == "0.65.1"
    monkeypatch.setenv("EXOTIDE_TERRAFORM_PROVIDER", str(tmp_path / "nothing"))
    with pytest.raises(NotHere, match="is no program; take a release"):
        provider()

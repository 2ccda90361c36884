"""Whose key it is."""

from __future__ import annotations

import pytest

from exotide.access.errors import NoAccess
from exotide.access.keys import PAIRS, read_key


@pytest.mark.parametrize(("key", "secret"), PAIRS)
def test_a_key_is_found_under_each_name_that_tools_use(key: str, secret: str) -> None:
    found = read_key({key: "EXOkey", secret: "hush"})
    assert (found.key, found.secret, found.variable, found.remark) == ("EXOkey", "hush", key, "")
    assert "hush" not in repr(found)


def test_halves_of_two_keys_are_never_put_together() -> None:
    environ = {"TF_VAR_exoscale_key": "EXOa", "EXOSCALE_KEY": "EXOb", "EXOSCALE_SECRET": "b"}
    found = read_key(environ)
    assert (found.key, found.secret) == ("EXOb", "b")


def test_of_two_keys_the_one_that_terraform_takes_is_used_and_that_is_said() -> None:
    local = {"TF_VAR_exoscale_key": "EXOlocal", "TF_VAR_exoscale_secret": "l"}
    own = {"EXOSCALE_KEY": "EXOown", "EXOSCALE_SECRET": "o"}
    found = read_key({**own, **local})
    assert found.key == "EXOlocal"
    assert found.remark == ("key EXOlocal of TF_VAR_exoscale_key is used, not that of EXOSCALE_KEY")


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({}, r"make one in the portal \(IAM, API keys\) and export EXOSCALE_KEY and EXOSCALE_SECR"),
        ({"EXOSCALE_KEY": "EXOa"}, "^EXOSCALE_SECRET is not set, but its other half is"),
        ({"EXOSCALE_API_SECRET": "s"}, "^EXOSCALE_API_KEY is not set"),
    ],
)
def test_a_missing_key_is_named_with_the_next_step(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(NoAccess, match=complaint):
        read_key(environ)

"""What the bootstrap of the monitoring server decides by itself, without a server."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "terraform/userdata/monitoring/bootstrap.py"
POOL_URL = "https://api-at-vie-1.exoscale.com/v2/instance-pool"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap: Any = load()


class Mirror:
    """Fails so often, then works; remembers the pauses that were made meanwhile."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0
        self.pauses_s: list[float] = []
        self.told: list[str] = []

    def attempt(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise bootstrap.Failed(f"no answer {self.calls}")


def test_the_signature_is_that_of_the_published_vector() -> None:
    header = bootstrap.authorization(
        POOL_URL, "EXOtestkey000000000000000", "testsecret", 1_767_225_600
    )
    assert header == (
        "EXO2-HMAC-SHA256 credential=EXOtestkey000000000000000,expires=1767225600,"
        "signature=CIB5qHzeLLNJQU3TcJefW21kk8HjNa0bvfYWKy9gWL8="
    )


@given(st.integers(0, 5))
def test_a_mirror_that_fails_for_a_while_is_asked_again_with_growing_pauses(failures: int) -> None:
    mirror = Mirror(failures)
    bootstrap.again("apt", mirror.attempt, pause=mirror.pauses_s.append, tell=mirror.told.append)
    assert mirror.calls == failures + 1
    assert mirror.pauses_s == [2, 4, 8, 16, 32][:failures]
    assert mirror.told == [
        f"apt: no answer {number}; again in {2**number} s" for number in range(1, failures + 1)
    ]


def test_a_mirror_that_never_works_is_given_up_and_its_last_words_are_told() -> None:
    mirror = Mirror(100)
    with pytest.raises(bootstrap.Failed, match=r"failed 6 times; last: no answer 6"):
        bootstrap.again(
            "apt", mirror.attempt, pause=mirror.pauses_s.append, tell=mirror.told.append
        )
    assert sum(mirror.pauses_s) == 62


def test_what_no_second_attempt_can_repair_is_not_repeated() -> None:
    pauses_s: list[float] = []
    with pytest.raises(KeyError):
        bootstrap.again("settings", lambda: dict[str, None]()["missing"], pause=pauses_s.append)
    assert pauses_s == []


@pytest.mark.parametrize("packed", [True, False])
def test_the_second_part_is_found_in_the_pool_s_user_data(*, packed: bool) -> None:
    text = b"#cloud-config\n#exotide-bundle:QUJD\nwrite_files: []\n"
    shown = base64.b64encode(gzip.compress(text) if packed else text).decode()
    assert bootstrap.part_in(shown) == "QUJD"


def test_user_data_without_a_bundle_says_what_to_do() -> None:
    with pytest.raises(bootstrap.Failed, match="apply the stack again"):
        bootstrap.part_in(base64.b64encode(b"#cloud-config\n").decode())


def test_prices_become_a_series_and_unknown_ones_do_not() -> None:
    rules = json.loads(bootstrap.price_rules({"base": 0.05, "member": 0.01}))
    (group,) = rules["groups"]
    assert group["rules"] == [
        {
            "record": "exotide:stack:eur_per_hour",
            "expr": "0.05 + 0.01 * exotide_autoscaler_pool_size",
        }
    ]
    assert bootstrap.price_rules(None) == "groups: []\n"


def test_the_page_shows_what_is_done_and_what_failed_and_no_markup_of_others() -> None:
    state = {
        "steps": ["unpack the bundle", "install packages", "check the services"],
        "done": ["unpack the bundle"],
        "now": "install packages",
        "error": "mirror said <b>no</b>",
    }
    shown = bootstrap.page(state)
    assert "<li>[done] unpack the bundle</li>" in shown
    assert "<li>[now] install packages - FAILED: mirror said &lt;b&gt;no&lt;/b&gt;</li>" in shown
    assert "<li>[to do] check the services</li>" in shown
    assert bootstrap.page({}).startswith("<!doctype html>")


def test_a_file_is_replaced_whole_and_never_has_wider_rights(tmp_path: Path) -> None:
    file = tmp_path / "folder/secret"
    bootstrap.write(file, "one", mode=0o600)
    bootstrap.write(file, "two", mode=0o600)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("two", 0o600)
    assert [path.name for path in file.parent.iterdir()] == ["secret"]


def new_key(home: Path, name: str) -> tuple[str, str]:
    """Make an OpenPGP key; gives its text and its fingerprint."""
    gpg = ("gpg", "--batch", "--quiet", "--homedir", str(home))
    make = ("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign")
    subprocess.run((*gpg, *make), check=True, capture_output=True)
    listed = subprocess.run(
        (*gpg, "--list-keys", "--with-colons", name), check=True, capture_output=True, text=True
    )
    (print_,) = [line.split(":")[9] for line in listed.stdout.splitlines() if line[:3] == "fpr"]
    text = subprocess.run(
        (*gpg, "--armor", "--export", print_), check=True, capture_output=True, text=True
    )
    return text.stdout, print_


def test_a_repository_s_key_is_trusted_by_its_fingerprint_and_no_other_beside_it(
    tmp_path: Path,
) -> None:
    if not shutil.which("gpg-agent"):
        pytest.skip("NOT TESTED: gpg and gpg-agent, which make keys, are not installed")
    tmp_path.chmod(0o700)
    good, fingerprint = new_key(tmp_path, "good@example.invalid")
    other, other_print = new_key(tmp_path, "other@example.invalid")
    subprocess.run(("gpgconf", "--homedir", str(tmp_path), "--kill", "all"), check=True)
    taken = bootstrap.trusted_key(other + good, fingerprint)
    shown = subprocess.run(
        ("gpg", "--show-keys", "--with-colons"),
        check=True,
        capture_output=True,
        text=True,
        input=taken,
    )
    assert fingerprint in shown.stdout
    assert other_print not in shown.stdout
    for offered in (other, "no key at all"):
        with pytest.raises(bootstrap.Failed):
            bootstrap.trusted_key(offered, fingerprint)

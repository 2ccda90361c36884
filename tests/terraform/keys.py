"""OpenPGP keys that are made for a test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def new_key(home: Path, name: str) -> tuple[str, str]:
    """Make one in a folder of gpg's; gives its public text and its fingerprint."""
    if not shutil.which("gpg-agent"):
        pytest.skip("NOT TESTED: gpg and gpg-agent, which make keys, are not installed")
    home.chmod(0o700)
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


def end_agent(home: Path) -> None:
    """End what gpg left running for a folder."""
    subprocess.run(("gpgconf", "--homedir", str(home), "--kill", "all"), check=True)

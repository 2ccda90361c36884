"""`scripts/setup` is broken off in the middle of an installation, and services may start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APT = """#!/bin/sh
echo "$@" >> "$APT_LOG"
exec sleep 60
"""
SUDO = """#!/bin/sh
exec "$@"
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_however_setup_ends_nothing_forbids_services_to_start(
    tmp_path: Path, number: signal.Signals
) -> None:
    policy, programs = tmp_path / "policy-rc.d", tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", APT), ("sudo", SUDO)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in (
        "sh",
        "grep",
        "tee",
        "chmod",
        "rm",
        "sleep",
        "id",
        "sort",
        "sed",
        "env",
        "dirname",
    ):
        found = next(
            Path(place, name) for place in ("/usr/bin", "/bin") if Path(place, name).exists()
        )
        (programs / name).symlink_to(found)
    environment = {
        "PATH": str(programs),  # without the programs that setup installs
        "PYTHON": os.path.realpath("/proc/self/exe"),
        "POLICY_RC_D": str(policy),
        "APT_LOG": str(tmp_path / "apt.log"),
    }
    setup = subprocess.Popen(
        ["/bin/bash", str(ROOT / "scripts/setup")],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        ends_at = time.monotonic() + 20
        while not (tmp_path / "apt.log").exists():
            assert setup.poll() is None
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        assert subprocess.run([policy], check=False).returncode == 101
        os.killpg(setup.pid, number)
        setup.wait(20)
    finally:
        if setup.poll() is None:
            os.killpg(setup.pid, signal.SIGKILL)
            setup.wait()
    assert not policy.exists() or subprocess.run([policy], check=False).returncode == 0
    assert policy.exists() == (number == signal.SIGKILL)

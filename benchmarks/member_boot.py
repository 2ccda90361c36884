"""
From the API call that makes a member to its first answer on its own address, stage by stage.

The member is a machine (`exotide cloud --servers machines`) with the user-data that Terraform
renders. Host and machine read the same monotonic clock.
Run as root from the repository: .venv/bin/python benchmarks/member_boot.py
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.machines.deployed import text_of
from tests.machines.site import ZONE, Cloud, Machine, clouds, eventually, fetch
from tests.terraform.rendering import find_program, rendered, runner

ROUNDS: Final = 5
STAGES: Final = (
    "network, groups, disk, container",
    "systemd until cloud-init",
    "cloud-init until the files are written",
    "until the application is started",
    "until its first answer",
)


def user_data(cloud: Cloud) -> str:
    """What a member is told."""
    program = find_program()
    assert program is not None, "install tofu, terraform or go"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = {"zone": ZONE, "endpoint": cloud.agent_url, "alerting": "alertmanager"}
        return text_of(rendered(runner(program, folder), folder, variables)["member"])


def boot(cloud: Cloud, text: str, number: int) -> list[float]:
    """Make a member; seconds of each stage."""
    began_s = time.monotonic()
    member = cloud.create(f"member-{number}", text)
    ip = member.ip
    url = f"http://{ip}:8080/health"
    eventually(lambda: fetch(url), within_s=60, what="an answer", pause_s=0.01)
    answered_s = time.monotonic()
    member.finished()
    moments_s = [
        began_s,
        started_s(member),
        moment_s(member, "cloud-init-local", "ExecMainStartTimestampMonotonic"),
        moment_s(member, "cloud-init", "ActiveEnterTimestampMonotonic"),
        moment_s(member, "slowapp", "ActiveEnterTimestampMonotonic"),
        answered_s,
    ]
    member.delete()
    return [after - before for before, after in itertools.pairwise(moments_s)]


def started_s(member: Machine) -> float:
    """When the machine's first process started."""
    stat = Path(f"/proc/{member.pid_1()}/stat").read_text().rpartition(")")[2].split()
    return int(stat[19]) / os.sysconf("SC_CLK_TCK")


def moment_s(member: Machine, unit: str, name: str) -> float:
    """When a unit had come so far."""
    return int(member.says("systemctl", "show", "--value", f"--property={name}", unit)) / 1e6


def main() -> None:
    """Boot some members, one after the other."""
    with clouds() as begin:
        cloud = begin()
        text = user_data(cloud)
        rounds = [boot(cloud, text, number) for number in range(ROUNDS)]
    stages = [statistics.median(stage) for stage in zip(*rounds, strict=True)]
    report = {
        "create_to_first_answer_s": [round(sum(each), 2) for each in rounds],
        "median_s": {name: round(took_s, 2) for name, took_s in zip(STAGES, stages, strict=True)},
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

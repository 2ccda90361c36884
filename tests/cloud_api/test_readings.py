"""What the real cloud leaves open about policies, chosen at the start of a local one."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exoscale.api.exceptions import ExoscaleAPIAuthException

from exotide.cloud.directory import living

from .test_emulated import EXOTIDE

BY_EITHER = "operation == 'get-security-group' && (parameters.id == '{0}' || true)"
BY_ID = "parameters.id == '{0}'"
BY_RESOURCE = "resources.security_group.id == '{0}'"
READINGS = {
    (): {BY_ID, BY_RESOURCE, BY_EITHER},
    ("no-path-parameters",): {BY_RESOURCE, BY_EITHER},
    ("no-resources",): {BY_ID, BY_EITHER},
    ("no-path-parameters", "no-resources", "failing-refuses"): {BY_EITHER},
}
"""By which rules a key may see a group, under which readings."""


@pytest.mark.parametrize("readings", READINGS, ids=lambda each: "+".join(each) or "none")
def test_a_cloud_judges_by_the_readings_that_it_was_started_with(
    tmp_path: Path, connect: Any, readings: tuple[str, ...]
) -> None:
    options = [word for reading in readings for word in ("--iam", reading)]
    options += ["--port", "0", "--run-dir", str(tmp_path), "--servers", "none"]
    command = [*EXOTIDE, "cloud", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "is ready" in process.stdout.readline()
            (found,) = living(tmp_path)
            access = found.access
            owner = connect(access.key, access.secret, access.endpoint)
            group = owner.create_security_group(name="web")["reference"]["id"]
            allowed = {
                rule
                for rule in (BY_ID, BY_RESOURCE, BY_EITHER)
                if _may_see(owner, connect, access.endpoint, group, rule.format(group))
            }
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert allowed == READINGS[readings]


def _may_see(owner: Any, connect: Any, url: str, group: str, expression: str) -> bool:
    rules = [{"action": "allow", "expression": expression}]
    services = {"compute": {"type": "rules", "rules": rules}}
    policy = {"default-service-strategy": "deny", "services": services}
    role = owner.create_iam_role(name=f"role {expression}"[:99], policy=policy)["reference"]["id"]
    key = owner.create_api_key(name="key", role_id=role)
    try:
        connect(key["key"], key["secret"], url).get_security_group(id=group)
    except ExoscaleAPIAuthException:
        return False
    return True

"""Role and files decide what a server runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.cloud.servers import permissions, programs, roles
from exotide.cloud.servers.errors import HostUnsuitable, MissingProgram, NoPermission
from exotide.cloud.servers.roles import Kit, Program


def chosen(role: str | None, srv: Path, *, command: str | None = None) -> dict[str, Program]:
    kit = Kit(slowapp=Path(__file__), command=command)
    found = roles.programs(role, srv=srv, procfs=srv / "p", kit=kit)
    return {program.name: program for program in found}


def touch(srv: Path, *names: str) -> None:
    for name in names:
        (srv / name).parent.mkdir(parents=True, exist_ok=True)
        (srv / name).touch()


def test_a_member_runs_the_application_and_the_exporter(tmp_path: Path) -> None:
    found = chosen("member", tmp_path)
    assert list(found) == ["slowapp", "node-exporter"]
    assert found["slowapp"].port == 8080
    assert found["node-exporter"].exporter
    assert f"--path.procfs={tmp_path}/p" in found["node-exporter"].argv


def test_a_monitoring_server_runs_what_its_user_data_configured(tmp_path: Path) -> None:
    assert list(chosen("monitoring", tmp_path)) == ["node-exporter"]
    touch(
        tmp_path,
        "prometheus/prometheus.yml",
        "alertmanager/alertmanager.yml",
        "service-discovery/agent.env",
        "autoscaler/agent.env",
    )
    (tmp_path / "prometheus/prometheus.args").write_text("--log.level=warn\n\n")
    found = chosen("monitoring", tmp_path)
    assert list(found) == [
        *("prometheus", "alertmanager", "exotide-servicediscovery", "exotide-autoscaler"),
        "node-exporter",
    ]
    assert found["prometheus"].argv[-1] == "--log.level=warn"
    assert found["exotide-autoscaler"].env_file == "/srv/autoscaler/agent.env"


def test_a_server_without_a_role_runs_the_given_command(tmp_path: Path) -> None:
    assert list(chosen(None, tmp_path)) == ["node-exporter"]
    found = chosen(None, tmp_path, command="sleep 9")
    assert found["command"].argv == ("/bin/sh", "-c", "sleep 9")


def test_a_role_of_somebody_else_is_only_a_label(tmp_path: Path) -> None:
    assert list(chosen("database", tmp_path)) == ["node-exporter"]
    assert list(chosen("web", tmp_path, command="sleep 9")) == ["command", "node-exporter"]


def test_no_program_inherits_the_environment_of_the_cloud() -> None:
    assert set(roles.ENVIRONMENT) == {"PATH", "HOME", "LANG", "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(
    ("program", "package"), [("haproxy", "haproxy"), ("ip", "iproute2"), ("nsenter", "util-linux")]
)
def test_a_missing_program_names_its_package(program: str, package: str, tmp_path: Path) -> None:
    with pytest.raises(MissingProgram, match=f"apt-get install {package}"):
        programs.find(program, path=str(tmp_path))


def test_missing_capabilities_are_named_before_anything_is_made() -> None:
    with pytest.raises(NoPermission, match="CAP_NET_ADMIN and CAP_SYS_ADMIN"):
        permissions.check("Name:\tx\nCapEff:\t0000000000000000\n")
    assert permissions.missing_capabilities("CapEff:\t0000000000001000\n") == ["CAP_SYS_ADMIN"]


def test_a_checkout_below_srv_is_refused() -> None:
    with pytest.raises(HostUnsuitable, match="below /srv"):
        permissions.check_place(Path("/srv/exotide/slowapp.py"))

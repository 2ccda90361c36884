"""What a process server runs: role and files decide, as units and user-data would on a VM."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.cloud.ports import ServerFailed
from exotide.cloud.servers.programs import SYSTEM_PATH, find, find_agent

MEMBER: Final = "member"
MONITORING: Final = "monitoring"
COLLECTORS: Final = ("cpu", "loadavg", "meminfo", "stat", "time", "uname")
"""What is this server's own. The other default collectors would report the host as the server."""
NETWORK_COLLECTORS: Final = ("netdev", "netstat", "sockstat")
"""Its own, too, where it has a network of its own."""
ENVIRONMENT: Final = {
    "PATH": SYSTEM_PATH,
    "HOME": "/srv",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}
"""All that a program inherits: the cloud's own environment may hold secrets."""
ADDRESS: Final = "EXOTIDE_SERVER_IP"
NAME: Final = "EXOTIDE_SERVER_NAME"
"""Tell every program where it runs: without root, servers share a network, perhaps a name."""
EVERYWHERE: Final = "0.0.0.0"
MOST_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program of a server."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    env_file: str | None = None
    """As the server sees it; read at each start, need not exist."""
    port: int | None = None
    """It has booted when this port listens; None: as soon as it runs."""
    exporter: bool = False
    """Stopped while the synthesised procfs is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the host offers to servers."""

    slowapp: Path
    command: str | None = None
    """Shell command for servers without a role."""
    own_network: bool = True
    """Whether servers have one each."""


def default_slowapp() -> Path:
    """Find slowapp.py in the checkout that this package lies in."""
    return Path(__file__).resolve().parents[4] / "slowapp" / "slowapp.py"


def programs(role: str | None, *, srv: Path, procfs: Path, kit: Kit) -> tuple[Program, ...]:
    """
    Choose the programs of a server whose user-data files lie in `srv`.

    A program whose configuration was not written is left out, as its unit would be. Any other role
    is a label like others, as on the real cloud.

    Raises:
        ServerFailed: for a slowapp that is not there.
        MissingProgram: naming the package.
    """
    exporter = node_exporter(procfs, own_network=kit.own_network)
    if role == MEMBER:
        return (slowapp(kit.slowapp), exporter)
    if role == MONITORING:
        return (*monitoring(srv), exporter)
    if kit.command:
        command = Program(name="command", argv=("/bin/sh", "-c", kit.command))
        return (command, exporter)
    return (exporter,)


def node_exporter(procfs: Path, *, own_network: bool = True) -> Program:
    """Report this server's own numbers on port 9100."""
    names = COLLECTORS + (NETWORK_COLLECTORS if own_network else ())
    collectors = (f"--collector.{name}" for name in names)
    return Program(
        name="node-exporter",
        argv=(
            find("node-exporter"),
            f"--web.listen-address={EVERYWHERE}:9100",
            f"--path.procfs={procfs}",
            "--collector.disable-defaults",
            *collectors,
        ),
        env={"GOMAXPROCS": "1"},  # a fraction of a core needs no more threads
        port=9100,
        exporter=True,
    )


def slowapp(script: Path) -> Program:
    """Serve the deliberately slow application on port 8080."""
    if not script.is_file():
        raise ServerFailed(f"slowapp is not at {script}; run from a checkout of the project")
    return Program(
        name="slowapp",
        argv=(sys.executable, str(script)),
        env={"LISTEN_ADDRESS": EVERYWHERE},
        env_file="/srv/slowapp/slowapp.env",
        port=8080,
    )


def monitoring(srv: Path) -> tuple[Program, ...]:
    """See, alert and act: what the monitoring server's user-data configured."""
    chosen: list[Program] = []
    if (srv / "prometheus/prometheus.yml").exists():
        chosen.append(_prometheus(srv))
    if (srv / "alertmanager/alertmanager.yml").exists():
        chosen.append(_alertmanager())
    if (srv / "service-discovery/agent.env").exists():
        chosen.append(_agent("exotide-servicediscovery", "/srv/service-discovery/agent.env"))
    if (srv / "autoscaler/agent.env").exists():
        chosen.append(_agent("exotide-autoscaler", "/srv/autoscaler/agent.env"))
    return tuple(chosen)


def _prometheus(srv: Path) -> Program:
    lines = _read(srv / "prometheus/prometheus.args", below=srv).splitlines()
    return Program(
        name="prometheus",
        argv=(
            find("prometheus"),
            "--config.file=/srv/prometheus/prometheus.yml",
            "--storage.tsdb.path=/srv/prometheus/data",
            f"--web.listen-address={EVERYWHERE}:9090",
            *(line.strip() for line in lines if line.strip()),
        ),
        port=9090,
    )


def _read(file: Path, *, below: Path) -> str:
    """Read a small file that the server may have replaced: by a link to elsewhere, by a pipe."""
    if not file.resolve().is_relative_to(below.resolve()):
        return ""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return opened.read(MOST_READ_BYTES).decode(errors="replace")


def _alertmanager() -> Program:
    return Program(
        name="alertmanager",
        argv=(
            find("alertmanager"),
            "--config.file=/srv/alertmanager/alertmanager.yml",
            "--storage.path=/srv/alertmanager/data",
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
        ),
        port=9093,
    )


def _agent(command: str, env_file: str) -> Program:
    return Program(
        name=command,
        argv=(find_agent(command),),
        env={"EXOTIDE_LISTEN_ADDRESS": EVERYWHERE},
        env_file=env_file,
    )

"""`exotide cloud`: run a local Exoscale, find the one that runs, end it."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import structlog
from cyclopts import App, Parameter, validators

from exotide.cloud import control_command, drivers
from exotide.cloud.api.catalogue import QUOTAS
from exotide.cloud.api.iam.model import Reading
from exotide.cloud.api.world import Pace
from exotide.cloud.balancer_config import Manner
from exotide.cloud.daemon import Settings, remove, run
from exotide.cloud.directory import RUN_DIR, Entry, doom, find, living, resting
from exotide.cloud.errors import CloudUnusable, NoCloud
from exotide.cloud.ports import CloudFault
from exotide.cloud.proxy.authority import default_folder
from exotide.cloud.proxy.environment import Mode, environment, exports, unsets
from exotide.cloud.servers.machines.rootfs import Release

app = App(name="cloud", help="A local Exoscale: the API, and real servers behind it.")
control_command.register(app)

DOWN_WITHIN_S: Final = 60.0

_Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65_535))]
_Positive = Annotated[float, Parameter(validator=validators.Number(gt=0))]
_NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]


def _check_quotas(_: object, quotas: dict[str, int] | None) -> None:
    for name, limit in (quotas or {}).items():
        if name not in QUOTAS:
            raise ValueError(f"quota {name} is not one of {', '.join(QUOTAS)}")
        if limit < 0:
            raise ValueError(f"quota {name} must be 0 or more, got: {limit}")


@app.default
def start(
    *,
    port: _Port | None = None,
    run_dir: Path = RUN_DIR,
    state: Path | None = None,
    speed: _Positive = 1.0,
    boot_delay_s: _NotNegative = 0.0,
    vcpu_cores: _Positive | None = None,
    command: str | None = None,
    servers: drivers.Name = "auto",
    balancer: Manner = "attentive",
    machine_packages: tuple[Path, ...] = (),
    machine_release: Release = "bookworm",
    quota: Annotated[dict[str, int] | None, Parameter(validator=_check_quotas)] = None,
    iam: tuple[Reading, ...] = (),
    ca_dir: Path | None = None,
) -> int:
    """
    Run a local cloud until Ctrl-C or TERM.

    Exit status: 0 after a clean end, 2 if it could not start.

    Parameters
    ----------
    port
        Where the API listens, on 127.0.0.1; 0 takes a free one. By default 8480, or where a kept
        cloud listened before.
    run_dir
        Folder for the servers' files and logs, and for finding this cloud.
    state
        Folder in which this cloud is kept: it goes on with the next start on the same folder. Its
        servers and load balancers run on meanwhile, if they are of the kind `processes`. By
        default nothing is kept.
    speed
        Divides the boot delay and the pauses between health checks.
    boot_delay_s
        Seconds between a server's power-on and its first program, at speed 1.
    vcpu_cores
        Cores of this machine that one vCPU may use; by default as there is room.
    command
        Shell command that servers without the label `role` run.
    servers
        What servers are made of: `processes` with networks of their own (needs root), `loopback`
        addresses of this machine (for anyone), `machines` that boot Debian and run their real
        user-data (needs root), or `none`, for work on the API alone. By itself it takes processes
        where they are possible, else loopback, and says so.
    balancer
        How load balancers treat members: `attentive` ones are told of each change at once, and let
        who leaves finish; `plain` ones go by their health checks alone, as the real one may.
    machine_packages
        Debian package files (.deb) that machines have beside Debian's own, such as Grafana's.
    machine_release
        Which Debian machines boot, 12 (bookworm) or 13 (trixie), whatever their template.
    quota
        Limits of the organisation that differ from a new one's: --quota.instance 250.
    iam
        How policies are judged where the real cloud's documentation leaves it open, several if
        need be: `no-path-parameters` (`parameters` has nothing of the path), `no-resources`
        (`resources` is empty), `failing-refuses` (a rule that cannot be evaluated refuses).
    ca_dir
        Folder of the proxy's certificate authority; by default /var/lib/exotide/ca for root,
        ~/.local/share/exotide/ca for others. Made at the first start; later starts use it again.
    """
    _log_to_stderr()
    pace = Pace(speed=speed, boot_delay_s=boot_delay_s)
    settings = Settings(
        port=port,
        run_dir=run_dir,
        state=None if state is None else state.absolute(),
        pace=pace,
        servers=servers,
        balancer=balancer,
        machine_packages=tuple(path.absolute() for path in machine_packages),
        machine_release=machine_release,
        quotas=quota or {},
        iam=frozenset(iam),
        vcpu_cores=vcpu_cores,
        command=command,
        ca_dir=ca_dir or default_folder(),
    )
    return _guarded(
        lambda: asyncio.run(run(settings, on_ready=lambda cloud: _announce(cloud, run_dir)))
    )


@app.command
def env(
    *,
    port: _Port | None = None,
    mode: Mode = "proxy",
    unset: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    run_dir: Path = RUN_DIR,
) -> int:
    """
    Print what to export, for `eval "$(exotide cloud env)"`. It holds the secret.

    Parameters
    ----------
    port
        Which cloud, if several run.
    mode
        proxy: every tool reaches this cloud, and no https connection anything else.
        direct: only tools that ask EXOSCALE_API_ENDPOINT reach it; others reach the real Exoscale.
    unset
        Print what takes the exports back.
    json
        Print the variables as JSON.
    run_dir
        Where the cloud keeps its files.
    """

    def show() -> None:
        cloud = find(port, run_dir=run_dir)
        variables = _environment(cloud, mode)
        _say(unsets(variables) if unset else _as_json(variables) if json else exports(variables))

    return _guarded(show)


@app.command
def status(*, json: bool = False, run_dir: Path = RUN_DIR) -> int:
    """
    Tell which local clouds run, and what theirs cannot do. Exit status 1 if there is none.

    Parameters
    ----------
    json
        Print JSON.
    run_dir
        Where clouds keep their files.
    """
    clouds = living(run_dir)
    if json:
        _print_json(clouds)
    elif not clouds:
        _say("no local cloud runs")
    for cloud in () if json else clouds:
        _say(f"cloud {cloud.cloud_id}: {cloud.access.endpoint} (process {cloud.pid})")
        _describe(cloud)
    for cloud_id, folder in () if json else resting(run_dir):
        _say(f"cloud {cloud_id} rests, and its servers run on: exotide cloud --state {folder}")
    return 0 if clouds else 1


@app.command
def down(*, port: _Port | None = None, run_dir: Path = RUN_DIR, state: Path | None = None) -> int:
    """
    Stop a local cloud and wait until nothing of it is left: no server, and no kept state.

    Parameters
    ----------
    port
        Which cloud, if several run.
    run_dir
        Where the cloud keeps its files.
    state
        Which cloud, by the folder in which it is kept; it need not run.
    """
    _log_to_stderr()
    return _guarded(lambda: _end(port, run_dir, None if state is None else state.absolute()))


def _end(port: int | None, run_dir: Path, state: Path | None) -> None:
    if state is None:
        _stop(find(port, run_dir=run_dir), run_dir)
        return
    running = [cloud for cloud in living(run_dir) if cloud.state == state]
    if running:
        _stop(running[0], run_dir)
    else:
        _say(f"cloud {asyncio.run(remove(state))} is gone")


def _stop(cloud: Entry, run_dir: Path) -> None:
    doom(run_dir / cloud.cloud_id)
    cloud.end()
    deadline = time.monotonic() + DOWN_WITHIN_S
    while any(other.cloud_id == cloud.cloud_id for other in living(run_dir)):
        if time.monotonic() > deadline:
            raise NoCloud(
                f"cloud {cloud.cloud_id} (process {cloud.pid}) still runs after "
                f"{DOWN_WITHIN_S:g} s; see its log, or kill -9 it: the next start cleans up"
            )
        time.sleep(0.05)
    _say(f"cloud {cloud.cloud_id} is gone")


def _announce(cloud: Entry, run_dir: Path) -> None:
    """Print the secret to people only: what is not a terminal may be a log."""
    port = cloud.access.port
    _say(f"local cloud {cloud.cloud_id} is ready: {cloud.access.endpoint}")
    _describe(cloud)
    where = "" if run_dir == RUN_DIR else f" --run-dir {shlex.quote(str(run_dir.absolute()))}"
    _say(f'to use it: eval "$(exotide cloud env --port {port}{where})"')
    if sys.stdout.isatty():
        _say(exports(_environment(cloud, "proxy")))


def _environment(cloud: Entry, mode: Mode) -> dict[str, str]:
    return environment(cloud.access, ca_file=cloud.ca_file, mode=mode, fabric_ip=cloud.fabric_ip)


def _as_json(variables: Mapping[str, str]) -> str:
    return json.dumps(variables, indent=2)


def _describe(cloud: Entry) -> None:
    """Tell what the servers are and, one per line, what they cannot do."""
    character = cloud.character
    why = f"; chosen since {character.why}" if character.why else ""
    _say(f"  servers: {character.servers}{why}")
    for limit in character.limits:
        _say(f"  limit: {limit}")
    if cloud.state is not None:
        lasts = character.servers in drivers.LASTING
        fate = "run on when it ends" if lasts else "end with it, and its pools then make new ones"
        _say(f"  kept in: {cloud.state}, until: exotide cloud down; its servers {fate}")


def _print_json(clouds: list[Entry]) -> None:
    shown = [
        {"cloud_id": cloud.cloud_id}
        | {name: value for name, value in cloud.as_json().items() if name != "secret"}
        for cloud in clouds
    ]
    _say(json.dumps({"clouds": shown}, indent=2))


def _guarded(work: Callable[[], None]) -> int:
    try:
        work()
    except (CloudUnusable, CloudFault) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _log_to_stderr() -> None:
    """JSON unless a person watches; never the values of variables, which may be secrets."""
    is_watched = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(
                [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
                if is_watched
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

"""`exotide check`: the acceptance contract against a stack that exists, on any endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter, validators
from rich.console import Console

from exotide.complaint import complain
from exotide.stopping import Stopped, stoppable

from .contract import PARTS
from .errors import CannotRun
from .ports import Program, Screen
from .report import Report, to_json, to_table
from .screen import LiveScreen, PlainScreen
from .session import Order, run

PLAIN_WIDTH: Final = 160
STDOUT: Final = Path("-")

_Port = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65_535))]
_Positive = Annotated[float, Parameter(validator=validators.Number(gt=0))]
_Flag = Annotated[bool, Parameter(negative="")]


def check(
    part: Literal["1", "2", "3", "all"] = "all",
    /,
    *,
    zone: str = "",
    name: str = "",
    on: Literal["exoscale", "local"] | None = None,
    yes: _Flag = False,
    look_only: _Flag = False,
    json: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    http_port: _Port = 80,
    grafana_password_file: Path | None = None,
    engine: Literal["podman", "docker"] = "podman",
    autoscaler_image: str = "",
    servicediscovery_image: str = "",
    speed: _Positive = 1.0,
    patience: _Positive = 1.0,
) -> int:
    """
    Check the acceptance contract against a stack: what to run after `terraform apply`.

    The API key comes from TF_VAR_exoscale_key and TF_VAR_exoscale_secret, EXOSCALE_KEY and
    EXOSCALE_SECRET, or EXOSCALE_API_KEY and EXOSCALE_API_SECRET. A local cloud is found by
    EXOSCALE_API_ENDPOINT, as `exotide cloud env` exports it.

    Exit status: 0 if nothing failed, 1 if something did, 2 if it could not run, 130 on Ctrl-C; what
    passed late did not fail.

    Parameters
    ----------
    part
        1: pool and load balancer. 2: monitoring. 3: autoscaling. What a part needs of an earlier
        one is checked, too.
    zone
        Where the stack is; by default EXOSCALE_ZONE, else at-vie-1.
    name
        Name of the stack, if the zone holds more than one: the variable `name` of Terraform.
    on
        How long servers are waited for: `exoscale` gives them minutes beyond the contract's limits,
        and what comes then has passed late; `local` gives them the contract's limits. By default
        as the endpoint is.
    yes
        Do not ask before members are deleted, load is made, and a pool is made that costs money.
    look_only
        Leave that out; what depends on it is skipped.
    json
        Write the results to this file, too; `-` for the standard output.
    http_port
        Where the load balancer's port 80 is reached; 8080 on a local cloud without root.
    grafana_password_file
        File with the password of Grafana's admin; by default it is taken from the variable
        EXOTIDE_GRAFANA_PASSWORD, or from the terraform.tfstate of this folder.
    engine
        What runs the images below.
    autoscaler_image
        Check this image of the autoscaler, instead of the installed program.
    servicediscovery_image
        The same for the service discovery.
    speed
        How many times faster than the contract this stack's alerts were made.
    patience
        Multiplies the time that is waited; what comes after the contract's limits has passed late.
    """
    order = Order(
        parts=PARTS if part == "all" else (int(part),),
        zone=zone,
        name=name,
        is_slow=None if on is None else on == "exoscale",
        http_port=http_port,
        yes=yes,
        look_only=look_only,
        password_file=grafana_password_file,
        speed=speed,
        patience=patience,
        engine=engine,
        images={
            Program.AUTOSCALER: autoscaler_image,
            Program.DISCOVERY: servicediscovery_image,
        },
    )
    console = _console(json)
    try:
        _writable(json)
        with stoppable():
            report = run(order, os.environ, _screen(console), confirm=_confirm(console))
    except CannotRun as error:
        return complain(str(error), code=2)
    except Stopped as stopped:
        return complain(f"{stopped}; nothing was begun", code=stopped.exit_code)
    _tell(report, console, json)
    return report.exit_code


def _console(json: Path | None) -> Console:
    """Progress and table; on the standard error if JSON goes to the standard output."""
    console = Console(stderr=json == STDOUT)
    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)
    return console


def _screen(console: Console) -> Screen:
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


def _confirm(console: Console) -> Callable[[], bool] | None:
    if not (console.is_terminal and sys.stdin.isatty()):
        return None

    def ask() -> bool:
        console.print("go on? [y/N] ", end="", markup=False, highlight=False)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    return ask


def _writable(json: Path | None) -> None:
    """Better to fail now than after half an hour."""
    if json is not None and json != STDOUT and (json.is_dir() or not json.parent.is_dir()):
        raise CannotRun(f"--json: cannot write here, choose a file in a folder that exists: {json}")


def _tell(report: Report, console: Console, json: Path | None) -> None:
    console.print()
    console.print(to_table(report))
    if json == STDOUT:
        sys.stdout.write(to_json(report))
    elif json is not None:
        json.write_text(to_json(report), encoding="utf-8")

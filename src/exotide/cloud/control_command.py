"""`exotide cloud fault ...`, `kill`, `hang`, `resume`, `pace`, `reset`: trouble on demand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from cyclopts import App, Parameter, validators

from exotide.cloud.control_client import ControlClient
from exotide.cloud.directory import RUN_DIR, find
from exotide.cloud.errors import CloudUnusable
from exotide.cloud.faults.model import Effect

Kind = Literal[
    "latency",
    "server-error",
    "rate-limit",
    "refusal",
    "broken-body",
    "drop",
    "lag",
    "wrong-field",
    "foreign-change",
    "shortfall",
    "staggered",
    "fall-back",
    "stuck-state",
    "protection",
    "failing-operation",
    "stuck-operation",
    "early-success",
    "boot-failure",
    "slow-boot",
    "no-capacity",
    "death",
    "hang",
    "quota",
]

_MEANINGS: Final = "\n".join(
    f"- {each.kind}: {(each.__doc__ or '').strip().rstrip('.')}" for each in get_args(Effect)
)

fault = App(
    name="fault",
    help="Let requests, pools, operations and servers of a local cloud fail.",
    help_epilogue=f"Kinds of faults, for `add`:\n\n{_MEANINGS}",
    help_format="markdown",
)

_TALLY: Final = ("id", "kind", "state", "seen", "struck", "holds")
_USUAL: Final[Mapping[str, object]] = {"probability": 1, "after": 0, "from_s": 0}
"""Not worth a word in a line of text."""
_Flag = Parameter(negative="")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which cloud, and how to answer."""

    port: Annotated[int | None, Parameter(validator=validators.Number(gte=0, lte=65_535))] = None
    """Which cloud, if several run."""
    run_dir: Path = RUN_DIR
    """Where the cloud keeps its files."""
    json: Annotated[bool, _Flag] = False
    """Print JSON."""

    def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Ask the control API of that cloud; raises CloudUnusable."""
        cloud = find(self.port, run_dir=self.run_dir)
        return ControlClient(cloud, run_dir=self.run_dir).ask(method, path, body)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a fault may have; which kind has what is in docs/reference/faults.md."""

    operation: str | None = None
    """Operations by name, as scale-instance-pool or 'list-*'."""
    zone: str | None = None
    """Only in this zone."""
    pool: str | None = None
    """Only about this instance pool: id or name."""
    instance: str | None = None
    """Only about this server: id or name."""
    probability: float | None = None
    """How many of those that are meant are struck: above 0, up to 1 (the default)."""
    after: int | None = None
    """So many pass first."""
    count: int | None = None
    """So many are struck at most."""
    from_s: float | None = None
    """Begins after so many seconds."""
    for_s: float | None = None
    """Lasts so many seconds."""
    seed: int | None = None
    """Repeats a run: the same seed and the same requests give the same faults."""
    delay_s: str | None = None
    """Seconds: 2, uniform:LEAST:MOST or lognormal:MEDIAN:SIGMA."""
    status: int | None = None
    """Of a server-error 500 to 599 (503), of a refusal (409) or protection (403) 400 to 499."""
    message: str | None = None
    """What the error says; of a protection with {id}, {name} and {operation} filled in."""
    carried_out: Annotated[bool | None, _Flag] = None
    """The request or the work takes effect all the same."""
    failing_reads: int | None = None
    """After a drop or a server-error so many reads fail, too."""
    retry_after_s: int | None = None
    """What a rate-limit sends as Retry-After; 1 by default."""
    form: str | None = None
    """Of a broken-body: truncated (the default), html, wrong-type or empty."""
    moment: str | None = None
    """Of a drop: before the request takes effect (the default), after, or in the middle."""
    reason: str | None = None
    """Of a failing-operation: busy, conflict, fault (default), interrupted, partial, unknown."""
    release_after_s: float | None = None
    """What a fault holds goes on by itself after so many seconds."""
    behind_s: float | None = None
    """Of a lag: how old what is read is, in seconds."""
    field: str | None = None
    """Of a wrong-field: its name."""
    value: str | None = None
    """Of a wrong-field: JSON, or a word; without it the field is missing."""
    of: str | None = None
    """Of a wrong-field: only in objects with this id or name."""
    change: str | None = None
    """Of a foreign-change: grow (the default), shrink, evict, delete, protect or update."""
    comes: int | None = None
    """Of a shortfall: so many members come all the same; 0 by default."""
    gives_up: Annotated[bool | None, _Flag] = None
    """Of a shortfall: the size falls to what has come."""
    late_size: Annotated[bool | None, _Flag] = None
    """Of staggered: the size follows the members."""
    fresh: Annotated[bool | None, _Flag] = None
    """Of a fall-back: new members come in the place of those that left."""
    state: str | None = None
    """Of a stuck-state: the word that is shown, known or not."""
    accepts: Annotated[bool | None, _Flag] = None
    """Of a stuck-state: further changes are accepted all the same."""
    stays: Annotated[bool | None, _Flag] = None
    """Of a boot-failure or death: the member stays, in state error, until it is released."""
    resource: str | None = None
    """Which quota; instance by default."""
    limit: int | None = None
    """The quota's limit; 0 by default."""


@fault.command
def add(kind: Kind, /, *, wanted: Wanted | None = None, where: Where | None = None) -> int:
    """
    Add a fault; it counts from now on.

    Parameters
    ----------
    kind
        What goes wrong.
    """
    body = {"kind": kind, **_given(wanted or Wanted())}
    hint = "see: exotide cloud fault add --help"
    return _run(where, lambda cloud: cloud.ask("POST", "/faults", body), _line, hint=hint)


@fault.command(name="list")
def list_faults(*, where: Where | None = None) -> int:
    """List the faults with what they have met."""
    return _run(where, lambda cloud: cloud.ask("GET", "/faults"), _lines)


@fault.command
def remove(fault_id: str, /, *, where: Where | None = None) -> int:
    """
    Remove a fault; what it holds goes on.

    Parameters
    ----------
    fault_id
        As `exotide cloud fault list` shows it.
    """
    return _run(
        where,
        lambda cloud: cloud.ask("DELETE", f"/faults/{fault_id}"),
        lambda said: f"fault {fault_id} is removed; it held {said['released']}",
    )


@fault.command
def release(fault_id: str, /, *, where: Where | None = None) -> int:
    """
    Let the operations, pools and members go on that a fault holds; the fault stays.

    Parameters
    ----------
    fault_id
        As `exotide cloud fault list` shows it.
    """
    return _run(
        where,
        lambda cloud: cloud.ask("POST", f"/faults/{fault_id}/release"),
        lambda said: f"fault {fault_id} held {said['released']}",
    )


@fault.command
def clear(*, where: Where | None = None) -> int:
    """Remove all faults."""
    return _run(
        where,
        lambda cloud: cloud.ask("DELETE", "/faults"),
        lambda said: f"{said['removed']} faults are removed",
    )


def kill(server: str, /, *, where: Where | None = None) -> int:
    """
    Let a server die at once; a pool replaces it.

    Parameters
    ----------
    server
        Its id or name.
    """
    return _break(where, "kill", server, "is dead")


def hang(server: str, /, *, where: Where | None = None) -> int:
    """
    Let a server stand still: nothing in it runs or ends, its ports answer nothing.

    Parameters
    ----------
    server
        Its id or name.
    """
    return _break(where, "hang", server, "stands still")


def resume(server: str, /, *, where: Where | None = None) -> int:
    """
    Let a server go on that stands still.

    Parameters
    ----------
    server
        Its id or name.
    """
    return _break(where, "resume", server, "goes on")


def pace(
    *,
    speed: float | None = None,
    boot_delay_s: float | None = None,
    operation_delay_s: float | None = None,
    where: Where | None = None,
) -> int:
    """
    Show or change how fast things happen; what has begun keeps its pace.

    Parameters
    ----------
    speed
        Divides the boot delay and the pauses between health checks and between retries.
    boot_delay_s
        Seconds between a server's power-on and its first program, at speed 1.
    operation_delay_s
        Seconds that every operation stays pending at least.
    """
    body = {
        "speed": speed,
        "boot_delay_s": boot_delay_s,
        "operation_delay_s": operation_delay_s,
    }
    return _run(
        where,
        lambda cloud: cloud.ask("PATCH", "/pace", body),
        lambda said: "\n".join(f"{name}: {value:g}" for name, value in said["pace"].items()),
    )


def reset(*, where: Where | None = None) -> int:
    """Delete everything in a cloud, faults included; the cloud itself and its key stay."""
    return _run(
        where,
        lambda cloud: cloud.ask("POST", "/reset"),
        lambda said: f"the cloud is empty; {said['removed']} servers are gone",
    )


def register(app: App) -> None:
    """Make all of them commands of `exotide cloud`."""
    app.command(fault)
    for command in (kill, hang, resume, pace, reset):
        app.command(command)


def _break(where: Where | None, verb: str, server: str, state: str) -> int:
    return _run(
        where,
        lambda cloud: cloud.ask("POST", f"/servers/{server}/{verb}"),
        lambda said: f"server {said['name']} ({said['id']}) {state}",
    )


def _run(
    where: Where | None,
    ask: Callable[[Where], dict[str, Any]],
    text: Callable[[dict[str, Any]], str],
    *,
    hint: str = "",
) -> int:
    where = where or Where()
    try:
        said = ask(where)
    except CloudUnusable as error:
        sys.stderr.write(f"error: {error}{f'; {hint}' if hint else ''}\n")
        return 2
    sys.stdout.write(f"{json.dumps(said, indent=2) if where.json else text(said)}\n")
    return 0


def _given(wanted: Wanted) -> dict[str, object]:
    return {name: value for name, value in asdict(wanted).items() if value is not None}


def _lines(said: Mapping[str, Any]) -> str:
    return "\n".join(map(_line, said["faults"])) or "there is no fault"


def _line(shown: Mapping[str, Any]) -> str:
    """One fault in a line: what it is, what it has met, and everything that it was given."""
    given = {name: value for name, value in shown.items() if value != _USUAL.get(name, "")}
    rest = (f"{name}={_word(value)}" for name, value in given.items() if name not in _TALLY)
    holds = f", holds {shown['holds']}" if shown["holds"] else ""
    met = f"struck {shown['struck']} of {shown['seen']}{holds}"
    return f"{shown['id']} {shown['kind']}: {shown['state']}, {met}; {' '.join(rest)}"


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) or " " in str(value) else f"{value}"

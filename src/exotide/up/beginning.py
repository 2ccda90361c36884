"""What is known of the folder's stack before a command does anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from exotide.access.shell import Kind, is_public

from . import options, state, text
from .course import Phase
from .desk import CLOCKS_S, Desk
from .errors import Busy, CannotRun
from .journal import Journal
from .module import Module
from .program import SAID, FoundRun

_POOL: Final = "exoscale_instance_pool"
Named = Mapping[str, str]
"""The name and the zone of a stack that this folder may not know."""


def for_up(desk: Desk, fresh: Mapping[str, str]) -> Journal:
    """
    Give what is known of the stack that is to be made, or begin to know it; nothing is written.

    Args:
        fresh: Variables of this run, beside those of earlier ones.

    Raises:
        CannotRun: It was made elsewhere, or its state is lost.
    """
    before, known = desk.place.load(), state.load(desk.root)
    if before is not None and before.phase is Phase.RUNNING and not before.is_torn:
        if state.is_lost(desk.root):
            raise CannotRun(_lost(desk, before))
        before = None if known.is_empty else before  # it went by other hands
    variables = {**({} if before is None else before.variables), **fresh}
    told = _Told(variables=variables, environ=os.environ)
    return _journal(desk, before, known, told, runs=True)


def for_down(desk: Desk, named: Named) -> Journal:
    """
    Give what is known of the stack that is to be removed.

    Raises:
        CannotRun: It was made elsewhere, or is another than the one that is named.
    """
    before, known = desk.place.load(), state.load(desk.root)
    if before is not None:
        _check_named(before, named)
        if before.phase is Phase.RUNNING and state.is_lost(desk.root):
            desk.paper.say(_lost(desk, before), loud=True)
    variables = {} if before is None else dict(before.variables)
    told = _Told(
        variables=variables,
        named=named,
        environ={} if is_named(before, known) else os.environ,
    )
    return _journal(desk, before, known, told, runs=not known.is_empty)


def as_made(desk: Desk, journal: Journal) -> Journal:
    """The stack as it was made, whatever the variables say by now."""
    before = desk.place.load()
    return journal if before is None else replace(journal, name=before.name, zone=before.zone)


def is_named(before: Journal | None, known: state.State) -> bool:
    """Whether journal or state tell name and zone, so that no variable has to."""
    return before is not None or known.first(_POOL) is not None


def told_by(module: Module, journal: Journal) -> Journal:
    """What is known once Terraform has evaluated the variables, those in files among them."""
    return replace(journal, name=module.name, zone=module.zone, makes_keys=module.makes_keys)


def check_stays(journal: Journal, known: state.State) -> None:
    """
    See that a stack that is there keeps its name and its zone.

    Raises:
        CannotRun: It would have to be made anew, bit by bit, while it is in use.
    """
    pool = known.first(_POOL)
    if pool is None:
        return
    for what in ("name", "zone"):
        has, wanted = str(pool.attributes.get(what) or ""), getattr(journal, what)
        if has not in {"", wanted}:
            raise CannotRun(
                f"the stack of this folder has {what} {has}, and its variables say {wanted}; a "
                f"stack cannot change that. Nothing was done: take the {what} back, or destroy "
                "the stack first (exotide down), or use another folder"
            )


def is_due(journal: Journal, *, now_s: float, cloud_s: float | None) -> bool:
    """
    Tell whether a destroy was begun before, or should have been.

    Args:
        cloud_s: The same moment by the cloud's clock. None: not known.

    Raises:
        CannotRun: The time to live is over by a clock that the cloud's contradicts.
    """
    due_s = journal.destroy_after
    if journal.phase is Phase.DESTROYING:
        return True
    if due_s is None or due_s > now_s:
        return False
    if cloud_s is not None and cloud_s < due_s - CLOCKS_S:
        raise CannotRun(
            f"the stack's time to live is over at {text.moment(due_s)}; by this machine's clock "
            f"it is {text.moment(now_s)}, by the cloud's {text.moment(cloud_s)}. Nothing was "
            "done: set this machine's clock, or destroy the stack: exotide down"
        )
    return True


def check_idle(desk: Desk) -> None:
    """
    See that nobody else's Terraform works here.

    Raises:
        Busy: One does; names its process.
    """
    lock = state.lock(desk.root)
    if lock.holder is not None:
        raise Busy(
            f"process {lock.holder} works on {desk.root / state.FILE} ({lock.told}); wait for its "
            f"end, or let it stop safely: kill -INT {lock.holder}"
        )
    if lock.told:
        desk.paper.say(
            f"an earlier terraform was killed ({lock.told}); its lock on the state ended with it"
        )


def found_run(desk: Desk, journal: Journal) -> FoundRun | None:
    """Give the Terraform of an earlier run that still works."""
    process = journal.terraform
    if process is None or not process.is_alive:
        return None
    desk.paper.say(f"a terraform of an earlier run still works (process {process.pid})")
    return FoundRun(process, desk.place.folder)


def gone_cloud(desk: Desk) -> str:
    """What else to do if a local cloud does not answer, at which a stack was made."""
    if desk.shell.kind is Kind.EXOSCALE or not desk.place.file.exists():
        return ""
    return (
        f". If it is gone for good, so is the stack: remove {desk.place.file} and "
        f"{desk.root / state.FILE}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a command was told."""

    variables: Mapping[str, str]
    """Of the root module."""
    environ: Mapping[str, str]
    """Where a name and a zone may come from that nothing else tells."""
    named: Named = field(default_factory=dict)


def _journal(
    desk: Desk, before: Journal | None, known: state.State, told: _Told, *, runs: bool
) -> Journal:
    """
    Put together what is known.

    Args:
        runs: Terraform will be needed.
    """
    given = {**told.variables, **told.named}
    defaults = {"name": options.DEFAULT_NAME, "zone": options.DEFAULT_ZONE}
    if before is not None:
        defaults = {"name": before.name, "zone": before.zone}
    name, zone = (
        options.chosen(each, given=given, environ=told.environ, known=known, default=default)
        for each, default in defaults.items()
    )
    endpoint = options.endpoint(os.environ, zone=zone)
    program = _program(before) if runs else ""
    if before is None:
        since = text.unix_s(known.created_at()) or desk.operator.now()
        return Journal(
            phase=Phase.APPLYING,
            since=since,
            name=name,
            zone=zone,
            endpoint=endpoint,
            program=program,
            variables=told.variables,
            counted_at=since,
        )
    _check_cloud(desk, before, endpoint)
    return replace(
        before,
        name=name,
        zone=zone,
        program=program,
        variables=told.variables,
        torn_until=max(before.torn_until, _torn_until(desk, before)),
    )


def _program(before: Journal | None) -> str:
    return str(options.program(os.environ, before=None if before is None else before.program))


def _torn_until(desk: Desk, before: Journal) -> float:
    """An apply that nobody saw to its end has lived at least until it said something last."""
    if before.phase is not Phase.APPLYING:
        return 0.0
    try:
        return (desk.place.folder / SAID).stat().st_mtime
    except OSError:
        return 0.0


def _check_named(before: Journal, named: Named) -> None:
    for what, each in named.items():
        if each != getattr(before, what):
            raise CannotRun(
                f"--{what} {each}: the stack of this folder has {what} {getattr(before, what)}; "
                "use another folder, or leave the option out"
            )


def _check_cloud(desk: Desk, before: Journal, endpoint: str) -> None:
    if _host(endpoint) == _host(before.endpoint):
        return
    raise CannotRun(
        f"this stack was made at {before.endpoint}, and this shell uses {endpoint}, where "
        "Terraform would find nothing of it and forget it; set EXOSCALE_API_ENDPOINT as "
        'before (local cloud: eval "$(exotide cloud env)"). If that cloud no longer exists, '
        f"remove {desk.place.file} and {state.FILE}"
    )


def _host(endpoint: str) -> str:
    """Which cloud it is, whatever the zone."""
    return "exoscale" if is_public(endpoint) else urlsplit(endpoint).netloc


def _lost(desk: Desk, before: Journal) -> str:
    known = state.in_backup(desk.root)
    backup = (
        f" (in {desk.root}: cp {state.BACKUP} {state.FILE}; it knows {known} resources)"
        if known
        else ""
    )
    return (
        f"{desk.root / state.FILE} is missing or empty, though stack {before.name} was applied "
        f"here: put it back{backup}. If it is lost, remove the stack by its names: "
        "exotide down --orphans"
    )

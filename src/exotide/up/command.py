"""`exotide up` and `exotide down`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from exotide.access.errors import NoAccess
from exotide.access.shell import check_agents
from exotide.access.zones import Reached
from exotide.complaint import complain
from exotide.stack.api import Api, connect
from exotide.stack.errors import StackError

from . import beginning, options, state, text
from .course import Course, Outcome
from .desk import Desk, opened
from .errors import CannotRun
from .gate import Gate
from .journal import Journal
from .module import Module
from .session import BrokenOff, Session

INTERRUPTED = Outcome.LEFT_RUNNING.exit_code

_Folder = Annotated[Path | None, Parameter(name="--dir")]
_Vars = Annotated[tuple[str, ...], Parameter(name="--var", negative="")]
_Flag = Annotated[bool, Parameter(negative="")]


def up(
    *,
    ttl: str | None = None,
    detach: _Flag = False,
    variable: _Vars = (),
    folder: _Folder = None,
) -> int:
    """
    Build the stack with Terraform, show what it costs, and destroy it in the end.

    The key is read from EXOSCALE_KEY and EXOSCALE_SECRET (or EXOSCALE_API_KEY and _SECRET, or
    TF_VAR_exoscale_key and _secret). What an earlier run left undone is finished first.

    Exit status: 0 done; 1 something failed or is left; 2 it could not begin; 130 interrupted, and
    the stack is left running.

    Parameters
    ----------
    ttl
        Destroy the stack after this time: 90m, 2h, 1d. It holds for later runs too, until it is
        given anew; `never` takes it back. By default the stack lives until Ctrl-C.
    detach
        End as soon as the stack is built, and leave it running.
    variable
        NAME=VALUE: a variable of the root module, not a secret one. It holds for later runs too,
        until the stack is gone.
    folder
        The root module. By default the current folder if it is one, else the checkout of exotide.
    """
    return _guarded(lambda: _up(ttl, detach=detach, given=variable, folder=folder))


def down(
    *,
    orphans: _Flag = False,
    name: str | None = None,
    zone: str | None = None,
    folder: _Folder = None,
) -> int:
    """
    Destroy the stack, and list whatever is left of it.

    Exit status: as of `exotide up`.

    Parameters
    ----------
    orphans
        Remove whatever bears the stack's names, although Terraform does not know it. Without this,
        only what an interrupted apply of this folder has made is removed.
    name
        Name of the stack, if this folder no longer knows it.
    zone
        Zone of the stack, if this folder no longer knows it.
    folder
        The root module. By default the current folder if it is one, else the checkout of exotide.
    """
    return _guarded(lambda: _down(orphans=orphans, name=name, zone=zone, folder=folder))


def _up(ttl: str | None, *, detach: bool, given: tuple[str, ...], folder: Path | None) -> int:
    fresh = options.variables(given)
    ttl_s = None if ttl is None else options.ttl_s(ttl)
    with opened(folder) as desk:
        journal = beginning.for_up(desk, fresh)
        cloud = _reached(desk, journal)
        now_s = desk.operator.now()
        is_due = beginning.is_due(journal, now_s=now_s, cloud_s=cloud.time_s)
        if _see_to_its_end(desk, cloud, is_wanted=not is_due):
            journal = beginning.for_up(desk, fresh)
        module = _prepare(desk, journal, cloud)
        check_agents(desk.shell, module.agents_endpoint)
        if is_due:
            course = _finish_destroy(desk, beginning.as_made(desk, journal))
            if course.outcome is not Outcome.DONE:
                return _code(course)
            journal = beginning.for_up(desk, fresh)
        journal, cloud = _told(desk, journal, cloud, module)
        beginning.check_stays(journal, state.load(desk.root))
        if ttl is not None:
            deadline_s = None if ttl_s is None else desk.operator.now() + ttl_s
            journal = replace(journal, destroy_after=deadline_s)
        course = Course(
            deadline_s=journal.destroy_after, can_ask=desk.operator.can_ask, stays=detach
        )
        return _make(desk, journal, cloud, module, course)


def _make(desk: Desk, journal: Journal, cloud: Reached, module: Module, course: Course) -> int:
    before = desk.place.load()
    with desk.session(journal, cloud) as session, connect(desk.settings(journal, cloud)) as api:
        _check_account(desk, session, before)
        hands = session.hands
        hands.proven = {} if before is None else before.variables
        hands.journal = replace(journal, key=desk.key.key)
        gate = Gate(api=api, module=module, known=state.load(desk.root))
        with _agents(desk, journal, cloud, module) as agents:
            for line in gate.opened(agents):
                desk.paper.say(line)
        if not session.clear():
            return Outcome.LEFT_OVER.exit_code
        hands.journal = _sized(desk, hands.journal, gate)
        return _code(session.up(course))


def _sized(desk: Desk, journal: Journal, gate: Gate) -> Journal:
    """Lower the largest size to what the quota leaves, and say so."""
    size = gate.size(before=gate.known.max_size(), lowered_from=journal.lowered_from)
    if size.remark:
        desk.paper.say(size.remark)
    wanted = gate.module.max_size
    if size.max_size == wanted:
        return replace(journal, max_size=0, lowered_from=0)
    return replace(journal, max_size=size.max_size, lowered_from=wanted)


@contextmanager
def _agents(desk: Desk, journal: Journal, cloud: Reached, module: Module) -> Iterator[Api | None]:
    """Give a client with the key that the agents are given, as far as it is known here."""
    pair = options.agents_key(os.environ)
    if module.makes_keys or pair is None:
        yield None
        return
    key, secret = pair
    with connect(replace(desk.settings(journal, cloud), key=key, secret=secret)) as api:
        yield api


def _down(*, orphans: bool, name: str | None, zone: str | None, folder: Path | None) -> int:
    with opened(folder) as desk:
        named = {key: each for key, each in (("name", name), ("zone", zone)) if each}
        before = desk.place.load()
        is_ours = before is not None or not state.load(desk.root).is_empty
        journal = beginning.for_down(desk, named)
        cloud = _reached(desk, journal)
        if _see_to_its_end(desk, cloud, is_wanted=False):
            journal = beginning.for_down(desk, named)
        known = state.load(desk.root)
        if not known.is_empty:
            module = _prepare(desk, journal, cloud)
            journal = replace(journal, makes_keys=module.makes_keys)
            if not beginning.is_named(before, known):
                journal, cloud = _told(desk, journal, cloud, module)
        with desk.session(journal, cloud, sweeps=orphans) as session:
            _check_account(desk, session, before)
            course = session.down(Course(can_ask=desk.operator.can_ask))
        if not is_ours:
            desk.place.forget()  # what was found is not this folder's
        return _code(course)


def _reached(desk: Desk, journal: Journal) -> Reached:
    try:
        cloud = desk.reach(journal.zone)
    except NoAccess as error:
        raise CannotRun(f"{error}{beginning.gone_cloud(desk)}") from error
    if desk.key.remark:
        desk.paper.say(desk.key.remark)
    return cloud


def _check_account(desk: Desk, session: Session, before: Journal | None) -> None:
    """See that another key than before is of the same account."""
    if before is None or before.key in {"", desk.key.key} or state.load(desk.root).is_empty:
        return
    if not session.knows_account():
        raise CannotRun(
            f"the stack was made with key {before.key}, and the account of key {desk.key.key} has "
            f"nothing of it; nothing was done. Use a key of the same account. If the stack has "
            f"really gone, remove {desk.place.file} and {desk.root / state.FILE}"
        )


def _finish_destroy(desk: Desk, journal: Journal) -> Course:
    due_s = journal.destroy_after
    is_over = due_s is not None and due_s <= desk.operator.now()
    why = f"its time to live was over at {text.moment(due_s or 0)}"
    why = why if is_over else "an earlier destroy did not get to its end"
    desk.paper.say(f"stack {journal.name} is destroyed first, as {why}; then it is made anew")
    with desk.session(journal, _reached(desk, journal)) as session:
        _check_account(desk, session, journal)
        return session.down(Course(can_ask=desk.operator.can_ask))


def _see_to_its_end(desk: Desk, cloud: Reached, *, is_wanted: bool) -> bool:
    """
    Wait for a Terraform of an earlier run; tell whether there was one.

    Raises BrokenOff, and Busy for anyone else's.
    """
    before = desk.place.load()
    run = None if before is None else beginning.found_run(desk, before)
    if run is None or before is None:
        beginning.check_idle(desk)
        return False
    with desk.session(before, cloud) as session:
        session.finish(run, stop=not is_wanted)
    return True


def _prepare(desk: Desk, journal: Journal, cloud: Reached) -> Module:
    """Make Terraform ready, and ask it what the variables come to."""
    desk.paper.say(f"stack {journal.name}, by {journal.program} in {desk.root}")
    program = desk.program(journal, cloud)
    for line in program.prepare():
        desk.paper.say(line)
    desk.check_provider()
    module = program.evaluated(journal.variables)
    if module is None:
        told = {**options.from_environment(os.environ), **journal.variables}
        module = Module.guessed(journal.name, journal.zone, told)
    return module


def _told(desk: Desk, journal: Journal, cloud: Reached, module: Module) -> tuple[Journal, Reached]:
    """What Terraform says of the variables holds, of those in files, too."""
    told = beginning.told_by(module, journal)
    if (told.name, told.zone) != (journal.name, journal.zone):
        desk.paper.say(f"by its variables it is stack {told.name} in {told.zone}")
    return told, cloud if told.zone == cloud.zone else _reached(desk, told)


def _code(course: Course) -> int:
    assert course.outcome is not None
    return course.outcome.exit_code


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except (CannotRun, NoAccess, StackError) as error:
        return complain(str(error), code=2)
    except (BrokenOff, KeyboardInterrupt):
        sys.stderr.write("interrupted before anything was begun\n")
        return INTERRUPTED

"""`exotide up` and `exotide down`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console as RichConsole

from exotide.stack.errors import SettingsError, StackError
from exotide.stack.settings import StackSettings

from . import options, state, text
from .cloud import ApiCloud
from .course import Course, Outcome, Phase, Question
from .errors import Busy, CannotRun
from .hands import Hands
from .journal import Journal, Place, held
from .operator import Console
from .program import FoundRun, Program
from .screen import Paper, opened_log
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """All that both commands work with."""

    operator: Console
    place: Place
    root: Path
    credentials: options.Credentials
    aside: ThreadPoolExecutor
    paper: Paper

    def program(self, journal: Journal) -> Program:
        """Terraform, with the key in its environment."""
        return Program(
            path=Path(journal.program),
            folder=self.root,
            logs=self.place.folder,
            environment=os.environ | self.credentials.environment(),
        )

    @contextmanager
    def session(self, journal: Journal, *, sweeps: bool = False) -> Iterator[Session]:
        """Give a session on a stack."""
        try:
            settings = StackSettings(
                key=self.credentials.key,
                secret=self.credentials.secret,
                endpoint=os.environ.get("EXOSCALE_API_ENDPOINT", ""),
                zone=journal.zone,
                name=journal.name,
            )
        except SettingsError as error:
            raise CannotRun(str(error)) from error
        cloud = ApiCloud(settings)
        hands = Hands(
            terraform=self.program(journal),
            cloud=cloud,
            screen=self.paper,
            now=self.operator.now,
            place=self.place,
            root=self.root,
            aside=self.aside,
            journal=journal,
            sweeps=sweeps,
        )
        try:
            yield Session(hands=hands, operator=self.operator, screen=self.paper)
        finally:
            cloud.close()


@contextmanager
def _desk(folder: Path | None) -> Iterator[_Desk]:
    root = options.root(folder, here=Path.cwd())
    credentials = options.credentials(os.environ)
    with (
        held(root) as place,
        opened_log(place.folder) as log,
        Console() as operator,
        ThreadPoolExecutor(1) as aside,
    ):
        paper = Paper(RichConsole(), log, now=operator.now, hidden=credentials.secret)
        try:
            yield _Desk(
                operator=operator,
                place=place,
                root=root,
                credentials=credentials,
                aside=aside,
                paper=paper,
            )
        finally:
            paper.close()


def _up(ttl: str | None, *, detach: bool, given: tuple[str, ...], folder: Path | None) -> int:
    fresh = options.variables(given)
    ttl_s = None if ttl is None else options.ttl_s(ttl)
    with _desk(folder) as desk:
        journal, asked = _journal(desk, fresh), frozenset[Question]()
        is_due = _is_due(desk, journal)
        _see_to_its_end(desk, journal, is_wanted=not is_due)
        _prepare(desk, journal)
        if is_due:
            course = _finish_destroy(desk, journal)
            if course.outcome is not Outcome.DONE:
                return _code(course)
            journal, asked = _journal(desk, fresh), course.asked
        if ttl is not None:
            deadline_s = None if ttl_s is None else desk.operator.now() + ttl_s
            journal = replace(journal, destroy_after=deadline_s)
        course = Course(
            deadline_s=journal.destroy_after,
            can_ask=desk.operator.can_ask,
            stays=detach,
            asked=asked,
        )
        return _make(desk, journal, course)


def _make(desk: _Desk, journal: Journal, course: Course) -> int:
    before = desk.place.load()
    with desk.session(journal) as session:
        session.hands.proven = {} if before is None else before.variables
        if not session.clear():
            return Outcome.LEFT_OVER.exit_code
        return _code(session.up(course))


def _down(*, orphans: bool, name: str | None, zone: str | None, folder: Path | None) -> int:
    with _desk(folder) as desk:
        given = {"name": name, "zone": zone}
        is_ours = desk.place.load() is not None or not state.load(desk.root).is_empty
        journal = _journal(desk, {}, named={key: each for key, each in given.items() if each})
        _see_to_its_end(desk, journal, is_wanted=False)
        if not state.load(desk.root).is_empty:
            _prepare(desk, journal)
        with desk.session(journal, sweeps=orphans) as session:
            course = session.down(Course(can_ask=desk.operator.can_ask))
        if not is_ours:
            desk.place.forget()  # what was found is not this folder's
        return _code(course)


def _journal(
    desk: _Desk, fresh: Mapping[str, str], *, named: Mapping[str, str] | None = None
) -> Journal:
    """
    Give what is known of the stack, or begin to know it; nothing is written yet.

    Args:
        fresh: Variables of this run, beside those of earlier ones.
        named: The name and the zone of a stack that this folder may not know.
    """
    before, known = _before(desk), state.load(desk.root)
    variables = {**({} if before is None else before.variables), **fresh}
    told = variables | dict(named or {})
    defaults = (
        {"name": options.DEFAULT_NAME, "zone": options.DEFAULT_ZONE}
        if before is None
        else {"name": before.name, "zone": before.zone}
    )
    name, zone = (
        options.chosen(each, given=told, environ=os.environ, known=known, default=default)
        for each, default in defaults.items()
    )
    endpoint = options.endpoint(os.environ, zone=zone)
    if before is None:
        since = text.unix_s(known.created_at()) or desk.operator.now()
        return Journal(
            phase=Phase.APPLYING,
            since=since,
            name=name,
            zone=zone,
            endpoint=endpoint,
            program=_found_program(
                before=None, is_needed=bool(fresh) or named is None or not known.is_empty
            ),
            variables=variables,
            counted_at=since,
        )
    _check_same(before, endpoint=endpoint, named=named or {}, file=desk.place.file)
    program = _found_program(before=before.program, is_needed=named is None or not known.is_empty)
    return replace(before, name=name, zone=zone, program=program, variables=variables)


def _before(desk: _Desk) -> Journal | None:
    """Read the journal, unless its stack has gone by other hands."""
    journal = desk.place.load()
    if journal is None or journal.is_torn or journal.phase is not Phase.RUNNING:
        return journal
    return None if state.load(desk.root).is_empty else journal


def _found_program(*, before: str | None, is_needed: bool) -> str:
    return str(options.program(os.environ, before=before)) if is_needed else ""


def _check_same(before: Journal, *, endpoint: str, named: Mapping[str, str], file: Path) -> None:
    for what, each in named.items():
        if each != getattr(before, what):
            raise CannotRun(
                f"--{what} {each}: the stack of this folder has {what} {getattr(before, what)}; "
                "use another folder, or leave the option out"
            )
    if endpoint != before.endpoint:
        raise CannotRun(
            f"this stack was made at {before.endpoint}, and this shell uses {endpoint}, where "
            "Terraform would find nothing of it and forget it; set EXOSCALE_API_ENDPOINT as "
            'before (local cloud: eval "$(exotide cloud env)"). If that cloud no longer exists, '
            f"remove {file} and {state.FILE}"
        )


def _is_due(desk: _Desk, journal: Journal) -> bool:
    """Whether a destroy was begun before, or should have been."""
    due_s = journal.destroy_after
    is_over = due_s is not None and due_s <= desk.operator.now()
    return is_over or journal.phase is Phase.DESTROYING


def _finish_destroy(desk: _Desk, journal: Journal) -> Course:
    due_s = journal.destroy_after
    is_over = due_s is not None and due_s <= desk.operator.now()
    why = f"its time to live was over at {text.moment(due_s or 0)}"
    why = why if is_over else "an earlier destroy did not get to its end"
    desk.paper.say(f"stack {journal.name} is destroyed first, as {why}; then it is made anew")
    with desk.session(journal) as session:
        return session.down(Course(can_ask=desk.operator.can_ask))


def _see_to_its_end(desk: _Desk, journal: Journal, *, is_wanted: bool) -> None:
    """Wait for a Terraform of an earlier run; raises BrokenOff, and Busy for anyone else's."""
    process, lock = journal.terraform, state.lock(desk.root)
    if process is not None and process.is_alive:
        desk.paper.say(f"a terraform of an earlier run still works (process {process.pid})")
        with desk.session(journal) as session:
            session.finish(FoundRun(process, desk.place.folder), stop=not is_wanted)
        return
    if lock.holder is not None:
        raise Busy(
            f"process {lock.holder} works on {desk.root / state.FILE} ({lock.told}); wait for its "
            f"end, or let it stop safely: kill -INT {lock.holder}"
        )
    if lock.told:
        desk.paper.say(
            f"an earlier terraform was killed ({lock.told}); its lock on the state ended with it"
        )


def _prepare(desk: _Desk, journal: Journal) -> None:
    desk.paper.say(
        f"stack {journal.name} in {journal.zone} at {journal.endpoint}, by {journal.program} "
        f"in {desk.root}"
    )
    for line in desk.program(journal).prepare():
        desk.paper.say(line)


def _code(course: Course) -> int:
    assert course.outcome is not None
    return course.outcome.exit_code


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except (CannotRun, StackError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (BrokenOff, KeyboardInterrupt):
        sys.stderr.write("interrupted before anything was begun\n")
        return INTERRUPTED

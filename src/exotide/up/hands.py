"""
The work itself: applying, destroying, looking for what is left, and keeping the journal.

What takes a while is a generator, which the session's loop takes a step further at each tick.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from exotide.cost.prices import StackPrices, UnknownPrice, stack_prices
from exotide.stack.errors import AccessDenied, CloudUnavailable, StackError

from . import state, text
from .cloud import Cloud
from .course import Applied, Destroyed, Event, Phase
from .errors import CannotRun
from .journal import Journal, Place
from .leftovers import Found, Leftover
from .messages import Change, Message, Outputs, Summary, Trouble, Working, pause_s
from .meter import Meter
from .program import Run, Terraform
from .screen import Screen
from .state import Known, State

T = TypeVar("T")
Work: TypeAlias = Generator[None, None, T]

_LOOKS_AFTER_S: Final = (2.0, 4.0, 8.0, 16.0)
"""What has been deleted may be listed for a moment longer."""
_LEAVING: Final = {"destroying", "deleting", "stopping", "stopped"}
_ACCESS: Final = {"exoscale_iam_role", "exoscale_iam_api_key"}
_HALTED: Final = "execution halted"
_POOL: Final = "exoscale_instance_pool"
_SERVER: Final = "exoscale_compute_instance"
_WHOLE_S: Final = 0.1
"""
Terraform drops the fraction of a second from the sum of creation and time to live; with this, a
fraction lost in the hours does not make it a second earlier, which would be a change of the stack.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What bears the stack's names although the stack is about to be made."""

    found: tuple[Leftover, ...] = ()
    why: str = text.NOT_OURS
    """Why it is there still, and the next step."""


@dataclass(slots=True, kw_only=True)
class Hands:
    """One stack, its Terraform and its cloud."""

    terraform: Terraform
    cloud: Cloud
    screen: Screen
    now: Callable[[], float]
    place: Place
    root: Path
    """Where the state is."""
    aside: Executor
    """Where calls of the API wait, so that signals and questions do not."""
    journal: Journal
    sweeps: bool = False
    """What bears the stack's names is removed in any case, although no state knows it."""
    proven: Mapping[str, str] = field(default_factory=dict)
    """Variables with which the stack was applied before."""
    is_stopping: bool = False
    is_gone: bool = False
    """Nothing of the stack is left."""
    meter: Meter | None = None
    began_s: float = 0.0
    under_way: dict[str, float] = field(default_factory=dict)
    """Since when Terraform works on which resource."""
    _run: Run | None = None
    _damage: str = ""
    """Why the state cannot be read."""
    _has_changed: bool = False
    _errors: list[Trouble] = field(default_factory=list)
    _ids: frozenset[str] = frozenset()
    _has_had_access: bool = False
    """The state has known roles or keys."""

    def applying(self) -> Work[Event]:
        """Make the stack, or finish it."""
        self.keep(phase=Phase.APPLYING, is_torn=True)
        run = self._begin(self.terraform.apply)
        outputs = yield from self.follow(run)
        known = self._known()
        is_whole = run.ended() == 0
        deadline_s = None
        if is_whole:
            values = {} if outputs is None else outputs.values
            deadline_s = text.unix_s(values.get("destroy_after")) or self.journal.destroy_after
            self._count(known)
            self.keep(phase=Phase.RUNNING, destroy_after=deadline_s, is_torn=False)
            self.screen.say("" if outputs is None else text.table(outputs))
        elif not self._has_changed:
            self.keep(variables=self.proven)  # a wrong value must not be in the way of a destroy
        # A state that cannot be read any more hides what was made, and that costs all the same.
        is_something = bool(self._damage) or any(each.is_in_cloud for each in known.resources)
        return Applied(is_whole=is_whole, is_something=is_something, deadline_s=deadline_s)

    def destroying(self) -> Work[Event]:
        """Remove all that the state knows, and what a broken apply has made beside it."""
        self.keep(phase=Phase.DESTROYING)
        self._count(self._known())
        if self.journal.is_torn or self.sweeps:
            yield from self._sweep()
        yield from self._attempts()
        left, fault = yield from self._looks()
        if left and (self.journal.is_torn or self.sweeps) and not self.is_stopping:
            yield from self._sweep()
            left, fault = yield from self._looks()
        known = self._known()
        fault = fault or self._damage
        self.is_gone = not left and not fault and known.is_empty
        if not self.is_gone:
            self._tell_left(left, fault, known)
        return Destroyed(is_all=self.is_gone)

    def follow(self, run: Run) -> Work[Outputs | None]:
        """See a command to its end and tell what it does; gives the outputs that it told."""
        self._run, outputs = run, None
        while True:
            status = run.ended()
            for message in run.news():
                outputs = message if isinstance(message, Outputs) else outputs
                self._tell(message)
            if status is not None:
                break
            yield
        if status and not self._errors and not self.is_stopping:
            self.screen.say(f"terraform ended with status {status}: {run.complaint()}", loud=True)
        self._run = None
        self.under_way.clear()
        made_until = self.now() if self.journal.phase is Phase.APPLYING else 0.0
        self.keep(terraform=None, torn_until=max(self.journal.torn_until, made_until))
        return outputs

    def stop(self) -> None:
        """
        Tell Terraform to stop; at once it stops only to wait and to look.

        It is written down first: who comes after a crash must not tell it a second time.
        """
        self.is_stopping = True
        if self._run is None or self._run.ended() is not None:
            return
        told = replace(self._run.process, is_told_to_stop=True)
        self.keep(terraform=told)
        self._run.interrupt()
        self.screen.say(f"terraform (process {told.pid}) stops as soon as it safely can")

    def shift(self, by_s: float) -> None:
        """Keep all spans of time although somebody set the clock, and say so."""
        journal, way = self.journal, "forward" if by_s > 0 else "back"
        self.screen.say(f"the clock was set {way} by {text.span(abs(by_s))}; no span changes by it")
        self.began_s += by_s
        self.under_way = {each: since_s + by_s for each, since_s in self.under_way.items()}
        if self.meter is not None:
            self.meter = replace(self.meter, at_s=self.meter.at_s + by_s)
        due_s = journal.destroy_after
        self.keep(
            since=journal.since + by_s,
            destroy_after=None if due_s is None else due_s + by_s,
            counted_at=journal.counted_at + by_s,
        )

    def is_empty(self) -> bool:
        """Whether the state knows nothing."""
        return self._known().is_empty and not self._damage

    def clearing(self) -> Work[Left]:
        """
        Remove what an apply made that did not get to its end; give what else bears the names.

        It was never in service, and Terraform, which does not know it, would make it a second time.
        Raises StackError.
        """
        found = yield from self._beside(self._unknown)
        _check_seen(found)
        if not found.left or not self.journal.is_torn:
            return Left(found=found.left)
        if self._is_others(found):
            return Left(found=found.left, why=text.YOUNGER)
        yield from self._removing(found.left)
        found = yield from self._beside(self._unknown)
        _check_seen(found)
        return Left(found=found.left, why=text.RESISTS)

    def fragments(self) -> tuple[Leftover, ...]:
        """What a broken apply made and does not know; raises StackError."""
        found = self._unknown() if self.journal.is_torn else Found()
        _check_seen(found)
        return found.left

    def knows_account(self) -> Work[bool]:
        """
        Tell whether this account has anything of what the state knows.

        Raises StackError.
        """
        known = self._known()
        found = yield from self._beside(
            lambda: self.cloud.find(known.ids, iam=self._has_access(known))
        )
        return any(each.resource.id in known.ids for each in found.left)

    def keep(self, **changes: Any) -> None:
        """Write the journal."""
        if self.meter is not None:
            changes |= {
                "spent_eur": self.meter.spent_eur,
                "counted_at": self.meter.at_s,
                "members": self.meter.members,
            }
        self.journal = replace(self.journal, **changes)
        try:
            self.place.save(self.journal)
        except OSError as error:  # a full disk must not keep anything from being destroyed
            self.screen.say(f"the journal cannot be written: {error}", loud=True)

    def _begin(self, start: Callable[[dict[str, str]], Run]) -> Run:
        self._errors.clear()
        self._has_changed = False
        self.began_s = self.now()
        run = start(dict(self._variables()))
        self.keep(terraform=run.process)
        return run

    def _variables(self) -> Iterator[tuple[str, str]]:
        """Give those of --var, and the time to live as the module counts it: from the creation."""
        yield from self.journal.variables.items()
        if self.journal.max_size:
            yield "max_size", str(self.journal.max_size)
        if self.journal.destroy_after is not None:
            created_s = text.unix_s(self._known().created_at()) or self.now()
            ttl_s = max(self.journal.destroy_after - created_s, 0) + _WHOLE_S
            yield "time_to_live_h", f"{ttl_s / 3600:.6f}"

    def _attempts(self) -> Work[None]:
        """Let Terraform destroy, again if that may help."""
        attempts = 0
        while not self._known().is_empty and not self.is_stopping:
            run = self._begin(self.terraform.destroy)
            yield from self.follow(run)
            if run.ended() == 0:
                return
            attempts += 1
            pause = pause_s(self._errors, attempts=attempts)
            if pause is None or self.is_stopping:
                return
            self.screen.say(f"not all could be destroyed; trying again in {pause:.0f} s")
            yield from self._rest(pause)

    def _sweep(self) -> Work[None]:
        try:
            found = yield from self._beside(self._unknown)
        except StackError as error:
            self.screen.say(f"what the state does not know was not looked for: {error}")
            return
        if self.sweeps or not self._is_others(found):
            yield from self._removing(found.left)

    def _is_others(self, found: Found) -> bool:
        """
        Tell whether what no state knows is somebody else's.

        After an apply that broke off the names are free again, for whoever is next to take them.
        """
        return found.is_younger(self.journal.torn_until)

    def _removing(self, left: Iterable[Leftover]) -> Work[None]:
        """Remove what the state does not know; what resists is told, and stays."""
        for each in left:
            if self.is_stopping:
                return
            try:
                yield from self._beside(partial(self.cloud.remove, each.resource))
            except StackError as error:
                self.screen.say(f"  failed     {each.resource}: {error}", loud=True)
            else:
                self.screen.say(f"  removed    {each.resource}, which no state knew")

    def _unknown(self) -> Found:
        """What bears the stack's names and is not in the state; raises StackError."""
        known = self._known()
        found = self.cloud.find((), iam=self._has_access(known))
        left = tuple(each for each in found.left if each.resource.id not in known.ids)
        return replace(found, left=left)

    def _has_access(self, known: State) -> bool:
        """Whether roles and keys can be of this stack; a key without iam may not list them."""
        return self.journal.makes_keys or any(each.type in _ACCESS for each in known.resources)

    def _looks(self) -> Work[tuple[tuple[Leftover, ...], str]]:
        """Look for what is left, again if it may be about to go; and say why it could not look."""
        left: tuple[Leftover, ...] = ()
        fault = ""
        iam = self._has_access(self._known()) or self._has_had_access
        for wait in (*_LOOKS_AFTER_S, None):
            try:
                found = yield from self._beside(lambda: self.cloud.find(self._ids, iam=iam))
                left, fault = found.left, found.unseen
                is_settled = not any(each.state in _LEAVING for each in left)
            except StackError as error:
                fault, is_settled = str(error), not isinstance(error, CloudUnavailable)
            if is_settled or wait is None or self.is_stopping:
                break
            yield from self._rest(wait)
        return left, fault

    def _beside(self, work: Callable[[], T]) -> Work[T]:
        future = self.aside.submit(work)
        while not future.done():
            yield
        return future.result()

    def _rest(self, pause: float) -> Work[None]:
        until_s = self.now() + pause
        while self.now() < until_s and not self.is_stopping:
            yield

    def _tell(self, message: Message) -> None:
        match message:
            case Working():
                self.under_way.setdefault(message.address, self.now())
            case Change():
                self._has_changed = True
                self.under_way.pop(message.address, None)
                self.screen.say(text.change(message))
            case Trouble(is_error=True) if not (self.is_stopping and message.summary == _HALTED):
                if message.is_quota and not any(each.is_quota for each in self._errors):
                    self.screen.say(text.QUOTA, loud=True)
                self._errors.append(message)
                self.screen.say(str(message), loud=True)
            case Summary() if message.operation != "plan":
                self.screen.say(text.summary(message, seconds=self.now() - self.began_s))

    def _tell_left(self, left: tuple[Leftover, ...], fault: str, known: State) -> None:
        journal = self.journal
        if left:
            self.screen.say(text.loud(left, name=journal.name, zone=journal.zone), loud=True)
        if fault:
            self.screen.say(text.unseen(fault, name=journal.name), loud=True)
        if not known.is_empty:
            self.screen.say(text.still_known(known), loud=True)

    def _known(self) -> State:
        try:
            known = state.load(self.root)
        except CannotRun as error:  # Terraform died while it wrote
            self._damage = str(error)
            return State()
        self._ids |= known.ids
        self._has_had_access |= any(each.type in _ACCESS for each in known.resources)
        return known

    def _count(self, known: State) -> None:
        """Begin to count the cost, or go on with it, by what the state says of the servers."""
        pool = known.first(_POOL)
        if pool is None:
            return
        if self.meter is None:
            self.meter = Meter(
                prices=_prices(pool, known.first(_SERVER)),
                members=self.journal.members or int(pool.attributes.get("size") or 1),
                spent_eur=self.journal.spent_eur,
                at_s=self.journal.counted_at,
            ).until(self.now())
        self.cloud.watch(pool.id)


def _check_seen(found: Found) -> None:
    if found.unseen:
        raise AccessDenied(found.unseen)


def _prices(pool: Known, server: Known | None) -> StackPrices | None:
    if server is None:
        return None
    try:
        return stack_prices(
            member_type=str(pool.attributes.get("instance_type")),
            monitoring_type=str(server.attributes.get("type")),
            disk_gib=float(pool.attributes.get("disk_size") or 0),
        )
    except UnknownPrice:
        return None

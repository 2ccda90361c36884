"""Makes checks in order: one act, then looks until it is fine or the time is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exotide.stack.errors import AccessDenied, StackError

from .errors import CheckError, ProgramFault
from .model import Check, Result, Seen, Status
from .ports import Screen
from .scene import Scene

FAULTS_S: Final = 60.0
"""How long a look may get no answer, whatever else its time limit is."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 2.0
GROWTH: Final = 1.3
FAULTS: Final = (StackError, CheckError)


def perform(
    checks: Sequence[Check], scene: Scene, screen: Screen, results: dict[str, Result]
) -> None:
    """
    Make all checks, whatever becomes of each.

    Args:
        results: By the checks' ids, as each ends: what there is if this is stopped half-way.
    """
    for batch in batches(checks):
        _together(batch, scene, screen, results)


def in_order(
    checks: Sequence[Check], results: Mapping[str, Result], *, otherwise: str
) -> tuple[Result, ...]:
    """
    Give a result for every check.

    Args:
        otherwise: Why some have none.
    """
    return tuple(
        results.get(check.id) or _result(check, Status.SKIPPED, seen=otherwise) for check in checks
    )


def batches(checks: Sequence[Check]) -> list[list[Check]]:
    """Put those together that are looked at together."""
    found: list[list[Check]] = []
    for check in checks:
        if check.along and found:
            found[-1].append(check)
        else:
            found.append([check])
    return found


def _together(
    batch: Sequence[Check], scene: Scene, screen: Screen, results: dict[str, Result]
) -> None:
    trials = [_Trial(check=check, scene=scene, screen=screen) for check in batch]
    waiting: list[_Trial] = []
    for trial in trials:
        reason = _why_skip(trial.check, scene, results)
        early = _result(trial.check, Status.SKIPPED, seen=reason) if reason else trial.begin()
        if early is None:
            waiting.append(trial)
        else:
            _ended(early, scene, screen, results)
    pause_s = FIRST_PAUSE_S
    while waiting:
        for trial in list(waiting):
            if (result := trial.look()) is not None:
                waiting.remove(trial)
                _ended(result, scene, screen, results)
        if waiting:
            waiting[0].tell()
            scene.clock.sleep(pause_s)
            pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)


def _ended(result: Result, scene: Scene, screen: Screen, results: dict[str, Result]) -> None:
    results[result.id] = result
    if result.status in {Status.PASSED, Status.LATE}:
        scene.note(result.id)
    screen.say(line(result))


def line(result: Result) -> str:
    """One result as one line of progress."""
    mark = result.status.upper() if result.status is Status.FAILED else result.status
    return f"{mark:<11}  {result.took_s:5.0f} s  {result.says}: {result.seen}"


def sentence(check: Check) -> str:
    """What a check says, with the contract's time limit."""
    return f"{check.says} within {check.within_s:g} s" if check.within_s else check.says


@dataclass(slots=True, kw_only=True)
class _Trial:
    """One check while it is being made."""

    check: Check
    scene: Scene
    screen: Screen
    began: float = 0.0
    fine_since: float | None = None
    is_overdue: bool = False
    """A look was still wrong when the contract's time was over."""
    last: str = "begun"
    """What was seen last."""

    def begin(self) -> Result | None:
        """Act; gives a result only if that failed."""
        self.began = self.scene.clock.now()
        if self.check.act is None:
            return None
        self.tell()
        try:
            self.check.act(self.scene)
        except FAULTS as fault:
            return self._failed(_first_line(fault))
        return None

    def look(self) -> Result | None:
        """Look once; gives a result as soon as it is decided."""
        seen, fault = _safely(self.check.look, self.scene)
        self.last = seen.text
        # While the API has a fault, nothing is known of what it would have shown.
        if not (seen.fine or isinstance(fault, StackError)):
            self.is_overdue |= self._passed_s() >= self.check.within_s > 0
        if not self._decided(seen, is_fault=fault is not None):
            return None
        return self._passed(seen.text) if seen.fine else self._failed(seen.text)

    def tell(self) -> None:
        """Show what is waited for."""
        passed_s, within_s = self._passed_s(), self.check.holds_s or self._limit_s()
        self.screen.waiting(self.check.says, self.last, passed_s=passed_s, within_s=within_s)

    def _decided(self, seen: Seen, *, is_fault: bool) -> bool:
        if is_fault:
            self.fine_since = None
            own_s = self.scene.clock.now() - self.began
            patience_s = FAULTS_S * self.scene.options.patience + self.check.holds_s
            return seen.final or (own_s >= patience_s and self._is_late())
        if not seen.fine:
            return seen.final or self._is_late()
        if self.fine_since is None:
            self.fine_since = self.scene.clock.now()
        return self.scene.clock.now() - self.fine_since >= self.check.holds_s

    def _is_late(self) -> bool:
        return self._passed_s() >= self._limit_s()

    def _passed_s(self) -> float:
        return self.scene.clock.now() - self.scene.moments.get(self.check.since, self.began)

    def _limit_s(self) -> float:
        options = self.scene.options
        more_s = self.check.slower_s if options.is_slow else 0.0
        return (self.check.within_s + more_s) * options.patience

    def _failed(self, text: str) -> Result:
        advice, _ = _safely(_advice(self.check.advise), self.scene)
        return replace(self._passed(text), status=Status.FAILED, hint=advice.text)

    def _passed(self, text: str) -> Result:
        status = Status.LATE if self.is_overdue else Status.PASSED
        return _result(self.check, status, took_s=self._passed_s(), seen=text)


def _why_skip(check: Check, scene: Scene, results: Mapping[str, Result]) -> str:
    """Say why a check is not made; empty: it is."""
    if check.warns and scene.options.look_only:
        return "left out by --look-only"
    needed = [results[name] for name in check.needs]
    for result in needed:
        if result.status is Status.FAILED:
            return f"needs what failed: {result.says}"
    if reason := check.lacks(scene):
        return reason
    for result in needed:
        if result.status is Status.SKIPPED:
            return result.seen
    return ""


def _safely(look: Callable[[Scene], Seen], scene: Scene) -> tuple[Seen, Exception | None]:
    """Look; a fault is something seen, too, and told apart."""
    try:
        return look(scene), None
    except FAULTS as fault:
        is_final = isinstance(fault, AccessDenied | ProgramFault)
        return Seen(fine=False, text=_first_line(fault), final=is_final), fault


def _advice(advise: Callable[[Scene], str]) -> Callable[[Scene], Seen]:
    return lambda scene: Seen(fine=False, text=advise(scene))


def _first_line(fault: Exception) -> str:
    return str(fault).partition("\n")[0]


def _result(check: Check, status: Status, *, seen: str, took_s: float = 0.0) -> Result:
    return Result(
        id=check.id,
        part=check.parts[0],
        says=sentence(check),
        status=status,
        took_s=round(took_s, 1),
        seen=seen,
    )

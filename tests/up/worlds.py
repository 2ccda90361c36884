"""A stack, its Terraform, its cloud and its operator, on a clock that tests move."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from exotide.stack.errors import CloudUnavailable, OperationFailed
from exotide.stack.resources import INSTANCE, POOL, SECURITY_GROUP, Kind, Resource
from exotide.up.course import Answered, ClockSet, Course, Event, Interrupted, Phase
from exotide.up.hands import Hands
from exotide.up.journal import Journal, Place, Process
from exotide.up.leftovers import Found, Leftover
from exotide.up.messages import Change, Message, Outputs, Summary, Trouble
from exotide.up.session import Session

PARTS: Final[dict[str, tuple[str, Kind]]] = {
    "group": ("exoscale_security_group", SECURITY_GROUP),
    "pool": ("exoscale_instance_pool", POOL),
    "server": ("exoscale_compute_instance", INSTANCE),
}
"""By id, in the order in which they are made."""
ASKED: Final = "<a question is open>"
ANSWERED: Final = "<it was answered>"
PART_S: Final = 4.0
"""What Terraform needs for each."""


class Inline(Executor):
    """Does at once what it is asked for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as executors do
            future.set_exception(error)
        return future


@dataclass
class World:
    """What is true, whatever anyone knows of it."""

    root: Path
    now: float = 1_000_000.0
    exists: list[str] = field(default_factory=list)
    """Ids in the cloud."""
    stubborn: set[str] = field(default_factory=set)
    """Ids that nobody can delete."""
    fails_at: str | None = None
    """The apply fails when it comes to this part."""
    failure: str = "cut off"
    """What Terraform says then."""
    breaks_state: bool = False
    """The state is damaged then."""
    orphans: bool = False
    """A part whose creation is cut off exists all the same."""
    faults: list[Trouble] = field(default_factory=list)
    """Each lets one destroy fail before it has done anything."""
    silent: int = 0
    """So many looks at the API get no answer."""
    unseen: str = ""
    """What the key may not list."""
    made_at: dict[str, float] = field(default_factory=dict)
    """When things were made by others, by id."""
    hours: float = 0.0
    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    size: int | None = 1

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    @property
    def known(self) -> list[str]:
        file = self.root / "terraform.tfstate"
        return json.loads(file.read_text())["ids"] if file.exists() else []

    def know(self, ids: Collection[str]) -> None:
        attributes: dict[str, dict[str, object]] = {
            "pool": {"name": "web", "size": 1, "instance_type": "standard.micro", "disk_size": 10},
            "server": {"name": "web-monitoring", "type": "standard.small"},
        }
        resources = [
            {
                "mode": "managed",
                "type": PARTS[each][0],
                "instances": [{"attributes": {"id": each, **attributes.get(each, {})}}],
            }
            for each in ids
        ]
        state = {"version": 4, "resources": resources, "ids": list(ids)}
        (self.root / "terraform.tfstate").write_text(json.dumps(state))


@dataclass
class Run:
    """A Terraform that works: one part every PART_S, and it stops after the part in hand."""

    world: World
    command: str
    todo: list[str]
    next_at: float
    process: Process = field(default_factory=lambda: Process(pid=1, started=""))
    said: list[Message] = field(default_factory=list)
    is_told: bool = False
    status: int | None = None

    def news(self) -> list[Message]:
        said, self.said = self.said, []
        return said

    def ended(self) -> int | None:
        while self.status is None and self.world.now >= self.next_at:
            self._step()
        return self.status

    def interrupt(self) -> None:
        assert self.status is None, "it has ended"
        assert not self.is_told, "a second signal makes Terraform drop what it does"
        kept = json.loads((self.world.root / ".exotide/up.json").read_text())
        assert kept["terraform"]["is_told_to_stop"], "who comes after a crash must know it"
        self.is_told = True

    def complaint(self) -> str:
        return "panic: nil"

    def _step(self) -> None:
        world = self.world
        self.next_at += PART_S
        if self.command == "destroy" and world.faults:
            self._fail(world.faults.pop(0))
        elif not self.todo:
            self._finish()
        elif self.command == "apply":
            self._make(self.todo.pop(0))
        else:
            self._remove(self.todo.pop(0))

    def _make(self, part: str) -> None:
        world = self.world
        if part == world.fails_at or self.is_told:
            if world.orphans:
                world.exists.append(part)
            if world.breaks_state:
                (world.root / "terraform.tfstate").write_text('{"version": 4, "reso')
            self._fail(Trouble(is_error=True, summary=world.failure, detail="", address=part))
            return
        world.exists.append(part)
        world.know([*world.known, part])
        self.said.append(Change(done="created", address=part, seconds=PART_S))

    def _remove(self, part: str) -> None:
        world = self.world
        if part in world.stubborn or self.is_told:
            self._fail(Trouble(is_error=True, summary="operation failed", detail="", address=part))
            return
        if part in world.exists:
            world.exists.remove(part)
        world.know([each for each in world.known if each != part])
        self.said.append(Change(done="destroyed", address=part, seconds=PART_S))

    def _fail(self, trouble: Trouble) -> None:
        self.said.append(trouble)
        self.status = 1

    def _finish(self) -> None:
        self.said.append(Summary(operation=self.command, added=0, changed=0, removed=0))
        if self.command == "apply":
            due = self.world.now + self.world.hours * 3600
            text = datetime.fromtimestamp(due, UTC).isoformat() if self.world.hours else ""
            values = {"destroy_after": text, "pool_id": "pool"}
            self.said.append(Outputs(values=values, secret=frozenset()))
        self.status = 0


@dataclass
class FakeTerraform:
    world: World

    def apply(self, variables: Mapping[str, str]) -> Run:
        self.world.hours = float(variables.get("time_to_live_h", "0"))
        return self._run("apply", [each for each in PARTS if each not in self.world.known])

    def destroy(self, variables: Mapping[str, str]) -> Run:
        return self._run("destroy", [each for each in reversed(PARTS) if each in self.world.known])

    def _run(self, command: str, todo: list[str]) -> Run:
        assert all(each.status is not None for each in self.world.runs), "one at a time"
        self.world.runs.append(Run(self.world, command, todo, self.world.now + PART_S))
        return self.world.runs[-1]


@dataclass
class FakeCloud:
    world: World

    def find(self, ids: Collection[str], *, iam: bool) -> Found:
        world = self.world
        if world.silent:
            world.silent -= 1
            raise CloudUnavailable("no answer")
        left = tuple(_leftover(each, world.made_at.get(each)) for each in world.exists)
        return Found(left=left, unseen=world.unseen if iam else "")

    def remove(self, resource: Resource) -> None:
        if resource.id in self.world.stubborn:
            raise OperationFailed(f"{resource.id} stays")
        self.world.exists.remove(resource.id)

    def watch(self, pool_id: str) -> None:
        assert pool_id == "pool"

    def pool_size(self) -> int | None:
        return self.world.size

    def hurry(self) -> None:
        """Nothing waits here."""


def _leftover(part: str, created_s: float | None) -> Leftover:
    resource = Resource(kind=PARTS[part][1], name=f"web-{part}", id=part)
    return Leftover(resource=resource, created_s=created_s)


@dataclass
class FakeOperator:
    """Lets things happen at their times; an answer without a question is typed to nobody."""

    world: World
    script: list[tuple[float, Event]]
    """Seconds from the beginning."""
    began: float = field(init=False)
    is_asked: bool = False

    def __post_init__(self) -> None:
        self.began = self.world.now
        self.script = sorted(self.script, key=lambda each: each[0])

    def now(self) -> float:
        return self.world.now

    def events(self, wait_s: float) -> list[Event]:
        self.world.now += wait_s
        due: list[Event] = []
        while self.script and self.world.now - self.began >= self.script[0][0]:
            event = self.script.pop(0)[1]
            if isinstance(event, ClockSet):
                self.world.now += event.by_s
                self.began += event.by_s
            if isinstance(event, Answered) and not self.is_asked:
                continue
            if self.is_asked and isinstance(event, Answered | Interrupted):
                self.is_asked = False
                self.world.said.append(ANSWERED)
            due.append(event)
            break  # one at a time, as a person types
        return due

    def ask(self, question: str) -> None:
        assert not self.is_asked
        self.is_asked = True
        self.world.questions.append(question)
        self.world.said.append(ASKED)

    def withdraw(self) -> None:
        self.is_asked = False


@dataclass
class ListScreen:
    world: World
    is_held: bool = False
    held: list[str] = field(default_factory=list)

    def say(self, text: str, *, loud: bool = False) -> None:
        (self.held if self.is_held else self.world.said).append(text)

    def show(self, line: str) -> None:
        self.world.shown.append(line)

    def hold(self) -> None:
        self.is_held = True

    def release(self) -> None:
        self.is_held = False
        self.world.said += self.held
        self.held.clear()

    def close(self) -> None:
        """Nothing to restore."""


def session(world: World, script: list[tuple[float, Event]], **journal: Any) -> Session:
    """Give a session in a world; what happens, by seconds from now."""
    folder = world.root / ".exotide"
    folder.mkdir(exist_ok=True)
    operator, screen = FakeOperator(world, script), ListScreen(world)
    known: dict[str, Any] = {
        "phase": Phase.APPLYING,
        "since": world.now,
        "name": "web",
        "zone": "at-vie-1",
        "endpoint": "http://127.0.0.1/v2",
        "program": "terraform",
        "counted_at": world.now,
    }
    hands = Hands(
        terraform=FakeTerraform(world),
        cloud=FakeCloud(world),
        screen=screen,
        now=operator.now,
        place=Place(folder=folder),
        root=world.root,
        aside=Inline(),
        journal=Journal(**(known | journal)),
    )
    return Session(hands=hands, operator=operator, screen=screen)


def up(
    world: World,
    script: list[tuple[float, Event]],
    *,
    ttl_s: float | None = None,
    can_ask: bool = True,
    stays: bool = False,
    **journal: Any,
) -> Course:
    """Run `up` to its end."""
    deadline_s = None if ttl_s is None else world.now + ttl_s
    at_work = session(world, script, destroy_after=deadline_s, **journal)
    return at_work.up(Course(deadline_s=deadline_s, can_ask=can_ask, stays=stays))


def down(world: World, script: list[tuple[float, Event]] | None = None, **journal: Any) -> Course:
    """Run `down` to its end."""
    return session(world, script or [], **journal).down(Course(can_ask=True))

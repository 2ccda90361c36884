"""Which parts of a world are kept, found by walking its fields: a new one cannot be forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints

from exotide.cloud.api.operations import Operation
from exotide.cloud.api.world import World

RUNTIME: Final = frozenset(
    (
        *("servers", "balancers", "pace", "quotas", "clock", "chance", "background"),
        *("faults", "filters"),
    )
)
"""What each start is told anew, or finds out. Every other field of a world is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that is kept: a dictionary by id, or one value, which then has the id ''."""

    path: tuple[str, ...]
    """From the world to it: names of attributes."""
    kind: Any
    """Type of one thing, as annotated."""
    single: bool = False

    @property
    def name(self) -> str:
        """What its rows are called."""
        return ".".join(self.path)

    def items(self, world: World) -> Mapping[str, Any]:
        """Return what there is, by id."""
        held = self._holder(world)
        value = getattr(held, self.path[-1])
        items: Mapping[str, Any] = {"": value} if self.single else value
        return items

    def replace(self, world: World, items: Mapping[str, Any]) -> None:
        """Put these in the place of what there is."""
        if not self.single:
            held = getattr(self._holder(world), self.path[-1])
            held.clear()
            held.update(items)
        elif items:
            setattr(self._holder(world), self.path[-1], items[""])

    def _holder(self, world: World) -> Any:
        holder: Any = world
        for name in self.path[:-1]:
            holder = getattr(holder, name)
        return holder


def parts_of(path: tuple[str, ...], hint: Any) -> Iterator[Part]:
    """
    Find what is kept of one field of the world.

    Raises:
        TypeError: It cannot be kept as it is.
    """
    if get_origin(hint) is dict and get_args(hint)[0] is str:
        yield Part(path=path, kind=get_args(hint)[1])
    elif len(path) > 1:
        yield Part(path=path, kind=hint, single=True)
    elif is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        for each in fields(hint):
            yield from parts_of((*path, each.name), hints[each.name])
    else:
        raise TypeError(
            f"World.{path[0]}: expected dict[str, ...] or a dataclass, which the state folder "
            f"can keep, got: {hint}; if each start makes it anew, name it in RUNTIME"
        )


def _parts(hints: Mapping[str, Any]) -> Iterator[Part]:
    for each in fields(World):
        if each.name == "operations":
            yield Part(path=("operations", "known"), kind=Operation)
        elif each.name not in RUNTIME:
            yield from parts_of((each.name,), hints[each.name])


PARTS: Final = tuple(_parts(get_type_hints(World)))
OPERATIONS: Final = "operations.known"

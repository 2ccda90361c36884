"""What a world is made of survives being written and read, field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.api.world import World
from exotide.cloud.state import shape
from exotide.cloud.state.codec import RUNTIME_ONLY, decode, encode
from exotide.cloud.state.shape import PARTS, RUNTIME, Part

TEXT = st.text(st.characters(codec=None), max_size=12)
"""Surrogates too: JSON can carry half of a pair."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def walked(kind: Any) -> list[type]:
    """Every dataclass that a stored type is made of."""
    if not dataclasses.is_dataclass(kind):
        return [found for argument in get_args(kind) for found in walked(argument)]
    assert isinstance(kind, type)
    inner = get_type_hints(kind).values()
    return [kind, *(found for hint in inner for found in walked(hint))]


st.register_type_strategy(object, JSON)
st.register_type_strategy(
    Mapping, lambda hint: st.dictionaries(TEXT, st.from_type(get_args(hint)[1]), max_size=3)
)
st.register_type_strategy(str, TEXT)


def built(kind: Any) -> st.SearchStrategy[Any]:
    """Fill *every* field, also those with defaults, that is more than a runtime object."""
    if not dataclasses.is_dataclass(kind):
        return st.from_type(kind)
    assert isinstance(kind, type)
    hints = get_type_hints(kind)
    given_fields = {
        field.name: nested(hints[field.name])
        for field in dataclasses.fields(kind)
        if hints[field.name] not in RUNTIME_ONLY
    }
    return st.builds(kind, **given_fields)


@cache
def nested(hint: Any) -> st.SearchStrategy[Any]:
    for found in walked(hint):
        st.register_type_strategy(found, built(found))
    return built(hint)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@given(data=st.data())
def test_everything_is_read_as_it_was_written(part: Part, data: st.DataObject) -> None:
    value = data.draw(nested(part.kind))
    assert decode(part.kind, encode(value)) == value


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_equality_sees_every_field_so_the_round_trip_proves_them_all(part: Part) -> None:
    for kind in walked(part.kind):
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            assert field.compare or hints[field.name] in RUNTIME_ONLY, f"{kind}.{field.name}"


def test_every_field_of_the_world_is_kept_or_made_anew() -> None:
    kept = {part.path[0] for part in PARTS}
    assert kept | RUNTIME == {field.name for field in dataclasses.fields(World)}
    assert not kept & RUNTIME


def test_a_field_that_cannot_be_kept_is_refused_when_the_program_starts() -> None:
    with pytest.raises(TypeError, match=r"World\.mood: expected dict\[str, \.\.\.\]"):
        list(shape.parts_of(("mood",), list[str]))


def test_damage_is_named_by_its_field() -> None:
    pools = next(part for part in PARTS if part.name == "pools")
    with pytest.raises(ValueError, match="missing required field `id`"):
        decode(pools.kind, b"{}")
    with pytest.raises(ValueError, match="Expecting property name"):
        decode(pools.kind, b"{]")

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cost.prices import UnknownPrice, accumulated, server_per_hour, stack_prices


def test_the_base_stack_costs_what_the_price_list_adds_up_to() -> None:
    prices = stack_prices()
    assert prices.member == pytest.approx(0.00869)
    assert prices.member + prices.base == pytest.approx(0.06814)


def test_a_type_without_price_is_named_with_those_that_have_one() -> None:
    with pytest.raises(UnknownPrice, match=r"gpu2\.small.*standard\.micro"):
        server_per_hour("gpu2.small", disk_gib=10)


def test_two_members_for_half_an_hour_cost_one_for_an_hour() -> None:
    assert accumulated([(0, 2), (1800, 0)], member_per_hour=1.0) == pytest.approx([0, 1.0])


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9)), min_size=1), st.floats(1, 60))
def test_costs_never_fall_and_grow_with_the_scale(steps: list[Any], scale: float) -> None:
    steps = sorted(steps)
    once = accumulated(steps, member_per_hour=0.5)
    scaled = accumulated(steps, member_per_hour=0.5, scale=scale)
    assert once == sorted(once)
    assert scaled == pytest.approx([value * scale for value in once])

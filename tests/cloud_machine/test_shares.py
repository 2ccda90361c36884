"""Who gets how many cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud.servers import shares
from exotide.cloud.servers.shares import HOST_RATIO, LEAST_CORES, Demand

DEMANDS = st.dictionaries(
    st.text(max_size=3),
    st.builds(Demand, cores=st.floats(min_value=0.02, max_value=4), firm=st.booleans()),
    max_size=20,
)


@pytest.mark.parametrize(("host", "expected"), [(1, 0.125), (2, 0.25), (16, 0.25)])
def test_a_vcpu_is_a_quarter_of_a_core_where_there_is_room(host: int, expected: float) -> None:
    assert shares.default_cores_per_vcpu(host) == expected


def test_a_monitoring_server_gets_more_and_keeps_it() -> None:
    found = shares.demand(vcpus=2, cores_per_vcpu=0.25, role="monitoring")
    assert found == Demand(cores=0.75, firm=True)
    crowd = {"mon": found} | {str(index): Demand(cores=0.25) for index in range(8)}
    cores = shares.divide(crowd, host_cores=2)
    assert cores["mon"] == 0.75
    assert cores["0"] == pytest.approx((1.8 - 0.75) / 8)


def test_four_members_and_monitoring_fit_two_cores_undiminished() -> None:
    demands = {"mon": Demand(cores=0.75, firm=True)}
    demands |= {str(index): Demand(cores=0.25) for index in range(4)}
    assert shares.divide(demands, host_cores=2) == {
        key: item.cores for key, item in demands.items()
    }


@given(DEMANDS, st.integers(min_value=1, max_value=64))
def test_the_sum_stays_below_the_host(demands: dict[str, Demand], host_cores: int) -> None:
    cores = shares.divide(demands, host_cores=host_cores)
    firm = sum(item.cores for item in demands.values() if item.firm)
    room = max(host_cores * HOST_RATIO, firm) + LEAST_CORES * len(demands)
    assert sum(cores.values()) <= room + 1e-9


@given(DEMANDS, st.integers(min_value=1, max_value=64))
def test_nobody_gets_more_than_asked_for(demands: dict[str, Demand], host_cores: int) -> None:
    cores = shares.divide(demands, host_cores=host_cores)
    assert all(cores[key] <= max(item.cores, LEAST_CORES) for key, item in demands.items())

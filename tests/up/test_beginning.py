"""What is known before anything is done: clocks, and what of the module Terraform tells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.access.quota import BALANCERS, INSTANCES, Quota
from exotide.up import state
from exotide.up.beginning import is_due
from exotide.up.course import Phase
from exotide.up.errors import CannotRun
from exotide.up.journal import Journal
from exotide.up.module import LOCK_FILE, Module, provider_version
from exotide.up.room import Has, Size, fit

DUE_S = 1_800_000_000.0
JOURNAL = Journal(
    phase=Phase.RUNNING,
    since=0.0,
    destroy_after=DUE_S,
    name="web",
    zone="at-vie-1",
    endpoint="http://127.0.0.1/v2",
    program="terraform",
    counted_at=0.0,
)
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("now_s", "cloud_s", "due"),
    [
        pytest.param(DUE_S - 1, DUE_S - 1, False, id="not-yet"),
        pytest.param(DUE_S, DUE_S, True, id="over"),
        pytest.param(DUE_S + 1, DUE_S - 200, True, id="clocks-differ-a-little"),
        pytest.param(DUE_S + DAY_S, None, True, id="the-cloud-does-not-say"),
        pytest.param(DUE_S - 1, DUE_S + DAY_S, False, id="this-clock-is-behind"),
    ],
)
def test_a_time_to_live_is_over_by_this_machine_s_clock(
    now_s: float, cloud_s: float | None, due: bool
) -> None:
    assert is_due(JOURNAL, now_s=now_s, cloud_s=cloud_s) is due
    assert is_due(replace(JOURNAL, phase=Phase.DESTROYING), now_s=now_s, cloud_s=cloud_s)
    assert not is_due(replace(JOURNAL, destroy_after=None), now_s=now_s, cloud_s=cloud_s)


def test_nothing_is_destroyed_by_a_clock_that_the_cloud_s_contradicts() -> None:
    with pytest.raises(CannotRun, match=r"the cloud's 2027-01-14 08:00:00 UTC. Nothing was"):
        is_due(JOURNAL, now_s=DUE_S + 9 * 365 * DAY_S, cloud_s=DUE_S - DAY_S)


VALUES = {
    "name": "web",
    "zone": "at-vie-1",
    "template": "Linux Debian 12",
    "min_size": 1,
    "max_size": 7,
    "makes_keys": True,
    "agents_endpoint": "",
}


def test_terraform_s_answer_is_read_among_its_warnings() -> None:
    said = f"Warning: old\n\n{json.dumps(json.dumps(VALUES))}\n"
    assert Module.read(said) == Module(**VALUES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said", ["", "(known after apply)", '"{}"', '"[1]"', "null", json.dumps(json.dumps([VALUES]))]
)
def test_what_is_no_answer_is_none(said: str) -> None:
    assert Module.read(said) is None


def test_without_an_answer_what_is_told_holds() -> None:
    told = {"min_size": "2", "max_size": "lots", "agents_key": "EXOa", "template": "T"}
    assert Module.guessed("web", "at-vie-1", told) == Module(
        name="web",
        zone="at-vie-1",
        template="T",
        min_size=2,
        max_size=0,
        makes_keys=False,
        agents_endpoint="",
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            'provider "registry.terraform.io/exoscale/exoscale" {\n  version     = "0.70.1"\n',
            (0, 70),
        ),
        ('provider "registry.opentofu.org/exoscale/exoscale" {\n  version = "1.2.0-a"\n', (1, 2)),
        ('provider "registry.terraform.io/hashicorp/random" {\n  version = "0.71.0"\n', None),
        ("", None),
    ],
)
def test_the_provider_s_version_is_that_of_the_lock_file(
    tmp_path: Path, text: str, version: tuple[int, int] | None
) -> None:
    assert provider_version(tmp_path) is None
    (tmp_path / LOCK_FILE).write_text(text)
    assert provider_version(tmp_path) == version


def test_a_state_is_lost_if_there_is_none_and_not_if_it_knows_nothing(tmp_path: Path) -> None:
    assert state.is_lost(tmp_path)
    file = tmp_path / state.FILE
    file.write_text(" \n")
    assert state.is_lost(tmp_path)
    file.write_text('{"version": 4, "resources": []}')
    assert not state.is_lost(tmp_path)
    assert state.in_backup(tmp_path) == 0


def quotas(limit: int, usage: int, *, balancers: int = 5) -> dict[str, Quota]:
    return {
        INSTANCES: Quota(resource=INSTANCES, limit=limit, usage=usage),
        BALANCERS: Quota(resource=BALANCERS, limit=balancers, usage=0),
    }


@given(
    st.integers(-1, 40),
    st.integers(0, 20),
    st.integers(1, 6),
    st.integers(0, 20),
    st.integers(0, 8),
    st.booleans(),
    st.booleans(),
)
def test_a_stack_fits_or_is_refused_and_its_pool_is_never_lowered_below_what_it_has(  # noqa: PLR0917
    limit: int,
    others: int,
    min_size: int,
    more: int,
    members: int,
    monitoring: bool,
    stays: bool,
) -> None:
    has, max_size = Has(members=members, monitoring=monitoring, balancer=True), min_size + more
    own = members + monitoring
    given_quotas = quotas(limit, others + own)
    needed = max(min_size - members, 0) + (not monitoring)
    fits = limit < 0 or needed <= max(limit - others - own, 0)
    if not fits:
        with pytest.raises(CannotRun, match="nothing was made"):
            fit(given_quotas, min_size=min_size, max_size=max_size, has=has, stays=stays)
        return
    size = fit(given_quotas, min_size=min_size, max_size=max_size, has=has, stays=stays)
    assert size.max_size <= max(max_size, members)
    if stays or limit < 0:
        assert size.max_size == max_size
        return
    assert size.max_size >= min_size
    if size.max_size > max(min_size, members):
        assert others + size.max_size + 1 <= limit, "so many there may be"
    if size.max_size < max_size:
        assert f"max_size is lowered from {max_size} to {size.max_size}" in size.remark
    elif size.max_size == max_size and others + max_size + 1 <= limit:
        assert size.remark == ""


def test_quotas_that_do_not_tell_of_instances_lower_nothing() -> None:
    size = fit({}, min_size=1, max_size=10, has=Has(), stays=False)
    assert size == Size(max_size=10, remark="no quota of instances is told; max_size stays 10")

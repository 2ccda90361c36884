"""A kept cloud is no leftover while its state is there, and one as soon as that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.cloud.directory import doom, is_doomed, resting
from exotide.cloud.servers import leftovers
from exotide.cloud.servers.cgroups import CgroupsV2
from exotide.cloud.servers.errors import HostUnsuitable
from exotide.cloud.servers.loopback.network import LoopbackNetwork


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_only_a_cloud_whose_state_is_gone_is_swept(tmp_path: Path) -> None:
    run_dir, state_file = tmp_path / "run", tmp_path / "state" / "cloud.sqlite"
    state_file.parent.mkdir()
    state_file.touch()
    groups = CgroupsV2(root=tmp_path / "no-groups")
    lease = await leftovers.take(run_dir, "abc123")
    folder = run_dir / "abc123"
    leftovers.keep(folder, state_file)
    assert resting(run_dir) == []
    lease.leave()
    assert resting(run_dir) == [("abc123", state_file.parent)]
    assert await leftovers.sweep(run_dir, groups) == []
    assert folder.exists()
    state_file.unlink()
    assert resting(run_dir) == []
    assert await leftovers.sweep(run_dir, groups) == ["abc123"]
    assert not folder.exists()


def test_an_end_that_was_asked_for_is_remembered_by_the_cloud_alone(tmp_path: Path) -> None:
    assert not is_doomed(tmp_path)
    doom(tmp_path)
    assert is_doomed(tmp_path)


@pytest.mark.anyio
async def test_a_network_that_another_cloud_has_by_now_is_an_error_that_names_it() -> None:
    first = LoopbackNetwork()
    await first.open()
    ip = first.reserve_ip()
    second = LoopbackNetwork(wanted=first.number)
    with pytest.raises(HostUnsuitable, match=rf"127\.77\.{first.number}\.0/24, is in use"):
        await second.open()
    first.release()
    await second.open()
    second.claim_ip(ip)
    assert second.reserve_ip() != ip
    second.release()

"""Both versions of control groups, on folder trees that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from exotide.cloud.servers import cgroups
from exotide.cloud.servers.cgroups import CgroupsV1, CgroupsV2
from exotide.cloud.servers.errors import HostUnsuitable, NoPermission

GROUP = "exotide-0a1b2c/deadbeef"


@pytest.fixture
def v2(tmp_path: Path) -> CgroupsV2:
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    top = tmp_path / "exotide-0a1b2c"
    top.mkdir()
    (top / "cgroup.subtree_control").write_text("cpu memory\n")
    return CgroupsV2(root=tmp_path)


def test_version_2_hands_the_cpu_controller_down(v2: CgroupsV2) -> None:
    v2.create(GROUP)
    assert (v2.root / GROUP).is_dir()
    assert (v2.root / "cgroup.subtree_control").read_text() == "+cpu\n"
    assert (v2.root / "exotide-0a1b2c/cgroup.subtree_control").read_text() == "cpu memory\n"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (0.25, "25000 100000\n"),
        (1.5, "150000 100000\n"),
        (0.001, "1000 100000\n"),
        (None, "max 100000\n"),
    ],
)
def test_version_2_limits_cores(v2: CgroupsV2, cores: float | None, expected: str) -> None:
    v2.create(GROUP)
    v2.limit(GROUP, cores)
    assert (v2.root / GROUP / "cpu.max").read_text() == expected


def test_version_2_reads_usage_and_processes(v2: CgroupsV2) -> None:
    v2.create(GROUP)
    folder = v2.root / GROUP
    (folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n")
    (folder / "cgroup.procs").write_text("12\n7\n")
    assert v2.usage_s(GROUP) == 2.5
    assert v2.pids(GROUP) == [12, 7]
    assert v2.pids("exotide-0a1b2c/gone") == []
    v2.weigh(GROUP, 2000)
    assert (folder / "cpu.weight").read_text() == "2000\n"
    assert v2.entrances(GROUP) == [folder / "cgroup.procs"]


def test_version_2_lists_the_deepest_group_first_and_removes(v2: CgroupsV2) -> None:
    v2.create(GROUP)
    assert v2.members("exotide-0a1b2c") == [GROUP, "exotide-0a1b2c"]
    v2.remove(GROUP)
    v2.remove(GROUP)
    assert not (v2.root / GROUP).exists()


def test_a_tree_that_may_not_be_changed_says_what_to_do(v2: CgroupsV2) -> None:
    (v2.root / "exotide-0a1b2c/cgroup.subtree_control").unlink()
    (v2.root / "exotide-0a1b2c").rmdir()
    (v2.root / "exotide-0a1b2c").write_text("in the way")
    with pytest.raises(NoPermission, match="run as root"):
        v2.create(GROUP)


def test_version_1_writes_to_each_controller(tmp_path: Path) -> None:
    v1 = CgroupsV1(cpu=tmp_path / "cpu", cpuacct=tmp_path / "cpuacct")
    v1.create(GROUP)
    v1.limit(GROUP, 0.25)
    assert (tmp_path / "cpu" / GROUP / "cpu.cfs_quota_us").read_text() == "25000\n"
    v1.limit(GROUP, None)
    assert (tmp_path / "cpu" / GROUP / "cpu.cfs_quota_us").read_text() == "-1\n"
    (tmp_path / "cpuacct" / GROUP / "cpuacct.usage").write_text("1500000000\n")
    assert v1.usage_s(GROUP) == 1.5
    assert len(v1.entrances(GROUP)) == 2
    both = CgroupsV1(cpu=tmp_path / "x", cpuacct=tmp_path / "x")
    assert len(both.entrances(GROUP)) == 1


def test_the_version_follows_from_the_mounts(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    two = f"41 31 0:38 / {tmp_path} rw,relatime - cgroup2 cgroup2 rw\n"
    one = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    assert cgroups.detect(two) == CgroupsV2(root=tmp_path)
    both = Path("/sys/fs/cgroup/cpu,cpuacct")
    assert cgroups.detect(one + two) == CgroupsV1(cpu=both, cpuacct=both)
    (tmp_path / "cgroup.controllers").write_text("")
    with pytest.raises(HostUnsuitable, match="cgroupns=host"):
        cgroups.detect(two)

"""Control groups as systemd in a container wants them, beside those that limit CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exotide.cloud.servers.cgroups import Cgroups, CgroupsV1

TOP: Final = Path("/sys/fs/cgroup")


class SystemdCgroups:
    """
    Adapter of Cgroups: makes each group in systemd's own hierarchies, too.

    On a host with version 1 a container without a group of its own there would share one at the
    top with every other container. With version 2 the one tree is enough.
    """

    def __init__(self, inner: Cgroups, *, top: Path = TOP) -> None:
        self._inner = inner
        named = [top / name for name in ("systemd", "unified")]
        self._named: Sequence[Path] = (
            [root for root in named if (root / "cgroup.procs").exists()]
            if isinstance(inner, CgroupsV1)
            else []
        )

    def create(self, group: str) -> None:
        self._inner.create(group)
        for root in self._named:
            (root / group).mkdir(parents=True, exist_ok=True)

    def entrances(self, group: str) -> list[Path]:
        named = [root / group / "cgroup.procs" for root in self._named]
        return [*self._inner.entrances(group), *named]

    def limit(self, group: str, cores: float | None) -> None:
        self._inner.limit(group, cores)

    def weigh(self, group: str, weight: int) -> None:
        self._inner.weigh(group, weight)

    def usage_s(self, group: str) -> float:
        return self._inner.usage_s(group)

    def pids(self, group: str) -> list[int]:
        return self._inner.pids(group)

    def members(self, group: str) -> list[str]:
        return self._inner.members(group)

    def remove(self, group: str) -> None:
        """Remove the group with what systemd made below it."""
        for root in self._named:
            below = (root / group).rglob("*")
            for folder in sorted((path for path in below if path.is_dir()), reverse=True):
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
            with contextlib.suppress(FileNotFoundError):
                (root / group).rmdir()
        self._inner.remove(group)

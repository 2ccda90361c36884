"""Asks the Exoscale API who the members are."""

from __future__ import annotations

from typing import Final, Protocol

from .answers import PoolAnswer, read_instances, read_pool
from .client import Client
from .errors import NonsenseAnswer
from .targets import LEAVING, Instance, Pool

LOOKS: Final = 2
"""How often a pass looks at most, when pool and list do not agree."""


class Pools(Protocol):
    """Knows the pool. Adapters: ExoscalePools; tests have their own."""

    async def get(self) -> Pool:
        """Return the pool with all its members. Raises CloudError."""


class ExoscalePools:
    """The pool, as the Exoscale API sees it at each call."""

    def __init__(self, client: Client, *, pool_id: str, local: bool = False) -> None:
        """`local`: the cloud is on this machine, where members may have loopback addresses."""
        self._client = client
        self._pool_id = pool_id
        self._local = local

    async def get(self) -> Pool:
        """
        Return the pool with all its members. Raises CloudError.

        The pool says who is a member; one list gives their addresses. The two calls are not one
        moment: when they do not agree, both are made once more, and what is missing then is left
        out. No member is asked for by itself, as that would need a key that reads every server's
        user-data.
        """
        pool, listed = await self._look()
        for _ in range(LOOKS - 1):
            if _agree(pool, listed):
                break
            pool, listed = await self._look()
        instances = tuple(listed[id_] for id_ in pool.instance_ids if id_ in listed)
        living = [each for each in listed.values() if each.state not in LEAVING]
        if pool.instance_ids and not instances:
            raise NonsenseAnswer(
                f"list-instances: shows none of the pool's {len(pool.instance_ids)} members"
            )
        if living and not instances:
            raise NonsenseAnswer(
                f"get-instance-pool: shows none of the pool's {len(living)} members"
            )
        return Pool(id=pool.id, name=pool.name, instances=instances)

    async def _look(self) -> tuple[PoolAnswer, dict[str, Instance]]:
        answer = await self._client.read("get-instance-pool", f"/instance-pool/{self._pool_id}")
        pool = read_pool(answer, pool_id=self._pool_id)
        return pool, await self._list() if pool.size or pool.instance_ids else {}

    async def _list(self) -> dict[str, Instance]:
        mine = {"manager-id": self._pool_id, "manager-type": "instance-pool"}
        answer = await self._client.read("list-instances", "/instance", mine)
        return read_instances(answer, pool_id=self._pool_id, local=self._local)


def _agree(pool: PoolAnswer, listed: dict[str, Instance]) -> bool:
    if not pool.instance_ids:
        return not any(each.state not in LEAVING for each in listed.values())
    return all(id_ in listed for id_ in pool.instance_ids)

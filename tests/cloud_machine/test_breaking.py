"""Servers of real processes that die and stand still on demand."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from exotide.cloud.ports import Breakable
from exotide.cloud.servers.errors import UnknownServer
from exotide.cloud.servers.processes import ProcessServers

if TYPE_CHECKING:
    from tests.cloud_machine.conftest import Tools

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_a_frozen_server_answers_nothing_does_not_die_and_goes_on_later(
    servers: ProcessServers, tools: Tools
) -> None:
    assert isinstance(servers, Breakable)
    deaths: list[str] = []
    servers.on_death(lambda key, _: deaths.append(key))
    spec = tools.spec(servers)
    await servers.start(spec)
    url = f"http://{spec.ip}:9100/metrics"
    await tools.eventually(lambda: tools.answers(url))
    await servers.freeze(spec.id)
    with pytest.raises(OSError, match="timed out"):
        await asyncio.to_thread(tools.fetch, url, 0.5)
    assert deaths == []
    await servers.thaw(spec.id)
    await tools.eventually(lambda: tools.answers(url))
    assert deaths == []


async def test_a_crashed_server_is_reported_dead_even_if_it_stood_still(
    servers: ProcessServers, tools: Tools
) -> None:
    deaths: list[str] = []
    servers.on_death(lambda key, _: deaths.append(key))
    spec = tools.spec(servers)
    await servers.start(spec)
    await servers.freeze(spec.id)
    await servers.crash(spec.id)
    await tools.eventually(lambda: deaths == [spec.id])
    with pytest.raises(UnknownServer, match=f"server {spec.id} does not run"):
        await servers.freeze(spec.id)


async def test_a_frozen_server_can_be_stopped(servers: ProcessServers, tools: Tools) -> None:
    spec = tools.spec(servers)
    await servers.start(spec)
    await servers.freeze(spec.id)
    group = servers._group(spec)
    assert servers._ready_groups.members(group)
    began = time.monotonic()
    await servers.stop(spec.id, grace_s=0.5)
    assert time.monotonic() - began < 5
    assert servers._ready_groups.members(group) == []

"""Puts the parts together, runs them, and ends them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from .agent import Agent
from .client import Client
from .logs import make_log
from .metrics import Metrics, MetricsServer
from .network import Lookups
from .pools import ExoscalePools
from .settings import Settings

CALL_S: Final = 5.0
"""How long one call may take; a pass has the time for two."""


async def run(settings: Settings, *, signals: Iterable[signal.Signals]) -> None:
    """
    Keep the file until one of the signals, which are blocked so far.

    Raises:
        ListenError: the program could not start.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    loop.set_default_executor(Lookups())
    log, metrics = make_log(), Metrics()
    server = MetricsServer(metrics, address=settings.metrics_address, port=settings.metrics_port)
    client = Client(
        settings.key,
        settings.secret,
        endpoint=settings.endpoint,
        timeout_s=CALL_S,
    )
    pools = ExoscalePools(
        client, pool_id=settings.pool_id, local=_is_this_machine(settings.endpoint)
    )
    agent = Agent(settings=settings, pools=pools, metrics=metrics, log=log)
    log.info(
        "started",
        pool=settings.pool_id,
        endpoint=settings.endpoint,
        file=str(settings.targets_file),
        refresh_s=settings.refresh_s,
        metrics_port=server.port,
    )
    passes, stopped = asyncio.create_task(agent.run()), asyncio.create_task(stop.wait())
    await asyncio.wait([passes, stopped], return_when=asyncio.FIRST_COMPLETED)
    if passes.done():
        passes.result()  # it never ends by itself; if it does, the program ends with that error
    passes.cancel()
    await asyncio.wait([passes], timeout=0.5)
    await client.close()
    log.info("stopped")


def _is_this_machine(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

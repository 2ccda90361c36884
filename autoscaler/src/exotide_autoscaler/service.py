"""Puts the parts together, runs them, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from exotide_autoscaler.client import Client
from exotide_autoscaler.clock import SystemClock
from exotide_autoscaler.domain import Intent
from exotide_autoscaler.journalfile import open_journal
from exotide_autoscaler.loop import Loop
from exotide_autoscaler.metrics import Metrics
from exotide_autoscaler.network import Lookups
from exotide_autoscaler.pools import ExoscalePools, MeasuredPools
from exotide_autoscaler.reconcile import Reconciler
from exotide_autoscaler.settings import Settings
from exotide_autoscaler.web.receive import WebhookEndpoint
from exotide_autoscaler.web.servers import QuietServer, bind, make_server
from exotide_autoscaler.web.show import Views
from exotide_autoscaler.writer import Writer

_log = structlog.get_logger()
_GRACE_S: Final = 0.6


async def run(settings: Settings) -> None:
    """
    Run until TERM or INT.

    Raises:
        ListenError, SettingsError, JournalError: the program could not start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(
            bind(settings.listen_address, settings.listen_port, setting="LISTEN_PORT")
        )
        reader = None
        if settings.metrics_port is not None:
            reader = sockets.enter_context(
                bind(
                    settings.metrics_address, settings.metrics_port, setting="EXOTIDE_METRICS_PORT"
                )
            )
        await _run_bound(settings, listener, reader, stop)


async def _run_bound(
    settings: Settings,
    listener: socket.socket,
    reader: socket.socket | None,
    stop: asyncio.Event,
) -> None:
    clock = SystemClock()
    connection, file = open_journal(
        settings.journal,
        settings.default_journal,
        pool_id=settings.pool_id,
        now=clock.now(),
    )
    writer = Writer(connection)
    metrics = Metrics()
    asyncio.get_running_loop().set_default_executor(Lookups())
    client = Client(
        settings.key,
        settings.secret,
        endpoint=settings.endpoint,
        timeout_s=settings.api_timeout_s,
    )
    pools = ExoscalePools(client, pool_id=settings.pool_id)
    reconciler = Reconciler(MeasuredPools(pools, metrics), writer, clock, settings.policy)
    await reconciler.recall()
    loop = Loop(reconciler, clock, settings.policy, metrics)
    passes = asyncio.create_task(loop.run())
    webhooks = _webhook_routes(settings, writer, clock, metrics, loop)
    views = Views(
        scribe=writer,
        metrics=metrics,
        latest=lambda: loop.latest,
        healthy=lambda: writer.healthy,
        alive=lambda: not passes.done(),
        notice=settings.notice,
    )
    if reader is None:
        listeners = [(listener, [*webhooks, *views.read_routes()])]
    else:
        listeners = [
            (listener, [*webhooks, *views.health_routes()]),
            (reader, views.read_routes()),
        ]
    servers = [(_server(routes), socket_) for socket_, routes in listeners]
    _log.info(
        "autoscaler_started",
        pool=settings.pool_id,
        endpoint=settings.endpoint,
        listening=f"{settings.listen_address}:{settings.listen_port}",
        journal=str(file),
        open_webhooks=not settings.token,
    )
    await _serve(servers, stop)
    passes.cancel()
    await asyncio.wait([passes])
    await client.close()
    writer.close(timeout_s=_GRACE_S)
    _log.info("autoscaler_stopped")


def _webhook_routes(
    settings: Settings, writer: Writer, clock: SystemClock, metrics: Metrics, loop: Loop
) -> list[BaseRoute]:
    """One endpoint for each direction, with and without a slash at the end."""
    endpoints = {
        intent: WebhookEndpoint(
            intent,
            scribe=writer,
            clock=clock,
            policy=settings.policy,
            metrics=metrics,
            token=settings.token,
            strict=settings.strict_bodies,
            wake=loop.wake,
        )
        for intent in (Intent.UP, Intent.DOWN)
    }
    return [
        Route(f"/{intent}{slash}", endpoint)
        for intent, endpoint in endpoints.items()
        for slash in ("", "/")
    ]


def _server(routes: list[BaseRoute]) -> QuietServer:
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return make_server(app)


async def _serve(servers: list[tuple[QuietServer, socket.socket]], stop: asyncio.Event) -> None:
    """Serve until told to stop, then give requests in flight a moment."""
    tasks = [asyncio.create_task(server.serve(sockets=[at])) for server, at in servers]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for server, _ in servers:
        server.should_exit = True
    _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
    for task in [*late, stopped]:
        task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()

"""A whole local cloud: its drivers, its world, its API on sockets. Start it here, or by command."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog
import uvicorn
from starlette.types import ASGIApp

from exotide.cloud.api.app import Api
from exotide.cloud.api.catalogue import DEFAULT_ZONE, QUOTAS
from exotide.cloud.api.instance_pools.healing import notice_death
from exotide.cloud.api.world import Pace, World
from exotide.cloud.errors import PortInUse
from exotide.cloud.faults.front import FaultyApi
from exotide.cloud.faults.install import install
from exotide.cloud.metadata import Metadata
from exotide.cloud.ports import Balancers, CloudFault, Servers
from exotide.cloud.proxy.front import TlsSource, front
from exotide.cloud.state.keeper import Keeper
from exotide.cloud.state.restore import restore
from exotide.cloud.state.store import Store
from exotide.cloud.web import QuietServer

_log: Final = structlog.get_logger(__name__)

HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one local cloud."""

    port: int
    key: str
    secret: str = field(repr=False)
    zone: str = DEFAULT_ZONE

    @property
    def endpoint(self) -> str:
        """Base URL of the zone, as seen from this host."""
        return self.endpoint_at(HOST)

    def endpoint_at(self, host: str) -> str:
        """Base URL of the zone, as seen from where the API has this address."""
        return f"http://{host}:{self.port}/z/{self.zone}/v2"

    def environment(self) -> dict[str, str]:
        """Return what the agents and the SDK's users read."""
        return {
            "EXOSCALE_API_ENDPOINT": self.endpoint,
            "EXOSCALE_API_KEY": self.key,
            "EXOSCALE_API_SECRET": self.secret,
            "EXOSCALE_ZONE": self.zone,
        }

    @classmethod
    def fresh(cls, port: int, *, zone: str = DEFAULT_ZONE) -> Access:
        """Make a key and a secret that nobody has seen."""
        return cls(
            port=port,
            key=f"EXO{secrets.token_hex(12)}",
            secret=secrets.token_urlsafe(32),
            zone=zone,
        )


def listen(host: str, port: int) -> socket.socket:
    """
    Open a listening TCP socket; port 0 takes any free one.

    Raises:
        PortInUse: Another program has the port.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port) from error
        raise
    return sock


def _without_delay(sock: socket.socket) -> socket.socket:
    """
    Send at once: connections inherit this from their listener.

    asyncio sets it only where a socket's protocol number says TCP, which the kernel does not
    insist on; without it, each answer on a kept connection waits 40 ms for a delayed ACK.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class LocalCloud:
    """
    One local cloud, alive inside `async with`.

    Args:
        servers: Opened by this class, unless the caller did so before (opening is idempotent).
        sockets: Listening sockets for the API and for metadata; closed with the cloud.
        quotas: Those that differ from a new organisation's.
        around: Wraps the API, so that somebody sees its answers.
        tls: TLS contexts of tunnels to `*.exoscale.com`; without, CONNECT is refused.
        store: Where the cloud is kept. What is in it comes to life again, and its servers run on
            after the end, unless `leaves_servers` is set to False. None: nothing is kept.
    """

    def __init__(
        self,
        *,
        servers: Servers,
        balancers: Balancers,
        access: Access,
        sockets: Sequence[socket.socket],
        pace: Pace | None = None,
        quotas: Mapping[str, int] | None = None,
        around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        tls: TlsSource | None = None,
        store: Store | None = None,
    ) -> None:
        self.access = access
        self.world = World(
            servers=servers,
            balancers=balancers,
            secrets={access.key: access.secret},
            pace=pace or Pace(),
            quotas={**QUOTAS, **(quotas or {})},
        )
        self._keeper = None if store is None else Keeper(store, self.world)
        self.leaves_servers = store is not None
        install(self.world)
        api = Api(self.world, default_zone=access.zone, commit=self._commit)
        self.app = FaultyApi(
            around(api),
            self.world,
            locate=api.locate,
            api_of=lambda world: Api(world, default_zone=access.zone),
        )
        """The API, for every front that requests come in through."""
        self._sockets = [_without_delay(each) for each in sockets]
        self._server = QuietServer(
            uvicorn.Config(
                Metadata(self.world, self.app),
                http=front(tls),
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=2,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.world.servers.open()
        try:
            self.world.servers.on_death(lambda key, reason: notice_death(self.world, key, reason))
            if self._keeper is not None:
                await self._bring_back(self._keeper)
            self._serving = asyncio.create_task(self._server.serve(sockets=self._sockets))
            while not self._server.started:
                if self._serving.done():
                    await self._serving
                await asyncio.sleep(0.005)
        except BaseException:
            await self.world.background.close()
            await self._let_go()
            for sock in self._sockets:
                sock.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """
        Answer no more, then take everything down; nothing of it is left.

        A cloud that is kept lets its servers run on, as if it had been killed: what is under way is
        stored as such and goes on with the next start.
        """
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._keeper is not None:
            await self._keeper.close()
        self.world.faults.holds.abandon()
        await self.world.background.close()
        await self._let_go()

    async def _bring_back(self, keeper: Keeper) -> None:
        keeper.load()
        await restore(self.world)
        self.world.background.on_change = keeper.touch
        await keeper.commit()

    async def _commit(self) -> None:
        if self._keeper is not None:
            await self._keeper.commit()

    async def _let_go(self) -> None:
        if self.leaves_servers:
            await self.world.balancers.leave()
            await self.world.servers.leave()
            return
        try:
            for balancer in list(self.world.load_balancers.values()):
                await self._delete(balancer.id)
        finally:
            await self.world.servers.close()

    async def _delete(self, nlb_id: str) -> None:
        try:
            await self.world.balancers.delete(nlb_id)
        except CloudFault as error:
            _log.warning("nlb_not_removed", nlb=nlb_id, error=str(error))

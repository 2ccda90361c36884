"""
The control API: faults, single servers, pace and reset; apart from the emulated API.

HTTP on a Unix socket in the cloud's run folder. Only the owner may open it, so it needs no key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from exotide.cloud.api.errors import ApiError, Conflict, Invalid, NotFound
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.world import World
from exotide.cloud.faults import boots
from exotide.cloud.faults.engine import Armed
from exotide.cloud.faults.reading import read_fault, read_pace, show_fault
from exotide.cloud.ports import Breakable, CloudFault
from exotide.cloud.reset import reset
from exotide.cloud.web import QuietServer, unix_listener

SOCKET: Final = "control.sock"

Handler = Callable[[Request], Awaitable[Mapping[str, object]]]


class Control:
    """The control API of one cloud, as an ASGI application."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.app = Starlette(
            routes=[
                _route("GET", "/status", self._status),
                _route("PATCH", "/pace", self._pace),
                _route("POST", "/reset", self._reset),
                _route("GET", "/faults", self._list),
                _route("POST", "/faults", self._add),
                _route("DELETE", "/faults", self._clear),
                _route("DELETE", "/faults/{id}", self._remove),
                _route("POST", "/faults/{id}/release", self._release),
                _route("POST", "/servers/{name}/kill", self._kill),
                _route("POST", "/servers/{name}/hang", self._hang),
                _route("POST", "/servers/{name}/resume", self._resume),
            ]
        )

    async def _status(self, _: Request) -> dict[str, object]:
        world = self._world
        return {
            "pools": len(world.pools),
            "instances": len(world.instances),
            "load_balancers": len(world.load_balancers),
            "faults": len(world.faults.all()),
            "pace": asdict(world.pace),
        }

    async def _pace(self, request: Request) -> dict[str, object]:
        world = self._world
        world.pace = replace(world.pace, **read_pace(await _body(request)))
        world.operations.delay_s = world.pace.operation_delay_s
        return {"pace": asdict(world.pace)}

    async def _reset(self, _: Request) -> dict[str, object]:
        return {"removed": await reset(self._world)}

    async def _list(self, _: Request) -> dict[str, object]:
        return {"faults": [self._show(armed) for armed in self._world.faults.all()]}

    async def _add(self, request: Request) -> dict[str, object]:
        faults = self._world.faults
        fault = read_fault(await _body(request), fresh_seed=faults.fresh_seed)
        return self._show(faults.add(fault))

    async def _clear(self, _: Request) -> dict[str, object]:
        return {"removed": self._world.faults.clear()}

    async def _remove(self, request: Request) -> dict[str, object]:
        key = self._known(request).id
        released = self._world.faults.holds.count(key)
        self._world.faults.remove(key)
        return {"removed": 1, "released": released}

    async def _release(self, request: Request) -> dict[str, object]:
        return {"released": self._world.faults.holds.release(self._known(request).id)}

    async def _kill(self, request: Request) -> dict[str, object]:
        return await self._break(request, lambda servers, key: servers.crash(key))

    async def _hang(self, request: Request) -> dict[str, object]:
        return await self._break(request, lambda servers, key: servers.freeze(key))

    async def _resume(self, request: Request) -> dict[str, object]:
        return await self._break(request, lambda servers, key: servers.thaw(key))

    async def _break(
        self, request: Request, act: Callable[[Breakable, str], Awaitable[None]]
    ) -> dict[str, object]:
        instance = self._server(request.path_params["name"])
        await act(boots.breakable(self._world), instance.id)
        return {"id": instance.id, "name": instance.name}

    def _server(self, name: str) -> Instance:
        found = [each for each in self._world.instances.values() if name in {each.id, each.name}]
        if not found:
            known = ", ".join(sorted(each.name for each in self._world.instances.values())[:20])
            raise NotFound(f"server {name} not found; give the id or name of one: {known or '-'}")
        if len(found) > 1:
            ids = ", ".join(each.id for each in found)
            raise Conflict(f"several servers have the name {name}; give the id of one: {ids}")
        return found[0]

    def _known(self, request: Request) -> Armed:
        key, armed = request.path_params["id"], self._world.faults.all()
        for each in armed:
            if each.id == key:
                return each
        known = ", ".join(each.id for each in armed)
        raise NotFound(f"fault {key} not found; there is: {known or 'none'}")

    def _show(self, armed: Armed) -> dict[str, object]:
        age_s = self._world.faults.age_s(armed)
        holds = self._world.faults.holds.count(armed.id)
        return show_fault(armed, age_s=age_s, holds=holds)


@asynccontextmanager
async def serving(world: World, folder: Path) -> AsyncIterator[None]:
    """Serve the control API of a cloud on a socket in this folder; it is gone at the end."""
    path = folder / SOCKET
    listener = unix_listener(path)
    control = Control(world)
    server = QuietServer(
        uvicorn.Config(
            control.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        path.unlink(missing_ok=True)


def _route(method: str, path: str, handler: Handler) -> Route:
    async def answer(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await handler(request))
        except ApiError as error:
            return JSONResponse({"message": str(error)}, status_code=error.status)
        except CloudFault as error:
            return JSONResponse({"message": str(error)}, status_code=409)

    return Route(path, answer, methods=[method])


async def _body(request: Request) -> dict[str, object]:
    try:
        values = json.loads(await request.body())
    except ValueError as error:
        raise Invalid(f"body: expected JSON: {error}") from error
    if not isinstance(values, dict):
        raise Invalid.field("body", "a JSON object", values)
    return values

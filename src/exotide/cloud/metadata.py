"""
What a server finds out about itself at http://169.254.169.254, as on Exoscale.

Who asks is known by the address alone: the network between is this machine's own. Nobody learns
anything about another server, and who is no server learns nothing. User-data is what was sent, only
without its base64: what was zipped is unzipped by the server.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.world import World
from exotide.cloud.ports import METADATA_IP, PASSWORD_PORT

VERSIONS: Final = ("1.0", "latest")
_BINARY: Final = "application/octet-stream"
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one request gets."""

    status: int = 200
    body: bytes
    media_type: str = _TEXT


_NO_PASSWORD: Final = Answer(body=b"")
"""Servers here have no password; cloud-init asks for one at each boot and must not wait."""


class Metadata:
    """ASGI application: answers requests to 169.254.169.254, and passes on all others."""

    def __init__(self, world: World, otherwise: ASGIApp) -> None:
        self._world, self._otherwise = world, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        if scope["type"] != "http" or server is None or server[0] != METADATA_IP:
            await self._otherwise(scope, receive, send)
            return
        answer = self._answer(scope) if server[1] != PASSWORD_PORT else _NO_PASSWORD
        response = Response(answer.body, status_code=answer.status, media_type=answer.media_type)
        await response(scope, receive, send)

    def _answer(self, scope: Scope) -> Answer:
        if scope["method"] not in {"GET", "HEAD"}:
            return Answer(status=405, body=b"metadata can only be read\n")
        client = scope.get("client")
        return look_up(self._world, ip=client[0] if client else "", path=scope["path"])


def look_up(world: World, *, ip: str, path: str) -> Answer:
    """Answer the server with this address; 404 for anybody else and for paths that do not exist."""
    instance = _instance_at(world, ip)
    if instance is None:
        return Answer(status=404, body=b"no instance has the address that this request came from\n")
    match [part for part in path.split("/") if part]:
        case []:
            return _listing(VERSIONS)
        case [version, *rest] if version in VERSIONS:
            found = _below_version(world, instance, rest)
            if found is not None:
                return found
    return Answer(status=404, body=f"not found: {path}\n".encode())


def _below_version(world: World, instance: Instance, path: list[str]) -> Answer | None:
    match path:
        case []:
            return _listing(("meta-data/", "user-data"))
        case ["user-data"] if instance.plan.user_data:
            return Answer(body=b64decode(instance.plan.user_data), media_type=_BINARY)
        case ["meta-data"]:
            return _listing(facts(world, instance))
        case ["meta-data", name] if (value := facts(world, instance).get(name)) is not None:
            return Answer(body=value.encode())
    return None


def facts(world: World, instance: Instance) -> Mapping[str, str]:
    """Give the meta-data of an instance, in the order of the listing."""
    known = [world.ssh_keys.get(name) for name in instance.plan.ssh_keys]
    keys = [key.public_key for key in known if key is not None]
    return {
        "availability-zone": instance.zone,
        "cloud-identifier": "exotide",
        "instance-id": instance.id,
        "local-hostname": instance.name,
        "local-ipv4": instance.ip,
        "public-hostname": instance.name,
        "public-ipv4": instance.ip,
        "service-offering": instance.plan.instance_type.size.capitalize(),
        "vm-id": instance.id,
    } | ({"public-keys": "\n".join(keys)} if keys else {})


def _instance_at(world: World, ip: str) -> Instance | None:
    for instance in world.instances.values():
        if instance.ip == ip:
            return instance
    return None


def _listing(names: Iterable[str]) -> Answer:
    return Answer(body="\n".join(names).encode())

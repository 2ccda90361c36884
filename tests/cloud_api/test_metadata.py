"""What a server finds out about itself, and about nobody else."""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64encode
from typing import Any

import pytest
from starlette.types import Message

from exotide.cloud.metadata import Metadata, look_up
from exotide.cloud.ports import METADATA_IP, METADATA_PORT, PASSWORD_PORT

from .conftest import Account

SCRIPT = b"#!/bin/sh\necho hello\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUm2Q0Vb1oCeXVtbXkga2V5IGZvciB0ZXN0cyE= me@here"
NAMES = [
    "availability-zone",
    "cloud-identifier",
    "instance-id",
    "local-hostname",
    "local-ipv4",
    "public-hostname",
    "public-ipv4",
    "service-offering",
    "vm-id",
]


class Asker:
    """A server that asks for its metadata."""

    def __init__(self, account: Account, instance: str) -> None:
        self.world = account.cloud.cloud.world
        self.ip = str(account.client.get_instance(id=instance)["public-ip"])

    def text(self, path: str) -> str:
        answer = look_up(self.world, ip=self.ip, path=path)
        assert answer.status == 200, answer
        return answer.body.decode()


@pytest.mark.parametrize("version", ["1.0", "latest"])
def test_an_instance_finds_its_own_facts(account: Account, version: str) -> None:
    instance = account.instance(name="mon")
    asker = Asker(account, instance)
    assert asker.text("/").split() == ["1.0", "latest"]
    assert asker.text(f"/{version}/").split() == ["meta-data/", "user-data"]
    assert asker.text(f"/{version}/meta-data/").split() == NAMES
    found = {name: asker.text(f"/{version}/meta-data/{name}") for name in NAMES}
    assert found == {
        "availability-zone": "at-vie-1",
        "cloud-identifier": "exotide",
        "instance-id": instance,
        "local-hostname": "mon",
        "local-ipv4": asker.ip,
        "public-hostname": "mon",
        "public-ipv4": asker.ip,
        "service-offering": "Micro",
        "vm-id": instance,
    }


@pytest.mark.parametrize("sent", [SCRIPT, gzip.compress(SCRIPT)], ids=["plain", "zipped"])
def test_user_data_is_what_was_sent_without_its_base64(account: Account, sent: bytes) -> None:
    instance = account.instance(user_data=b64encode(sent).decode())
    asker = Asker(account, instance)
    answer = look_up(asker.world, ip=asker.ip, path="/1.0/user-data")
    assert (answer.body, answer.media_type) == (sent, "application/octet-stream")


def test_public_keys_are_listed_where_there_are_any(account: Account) -> None:
    account.client.register_ssh_key(name="me", public_key=f"{KEY}\n")
    instance = account.instance(ssh_keys=[{"name": "me"}])
    asker = Asker(account, instance)
    assert asker.text("/latest/meta-data").split() == [*NAMES, "public-keys"]
    assert asker.text("/latest/meta-data/public-keys") == KEY


@pytest.mark.parametrize(
    "path",
    ["/2.0/meta-data", "/latest/user-data", "/1.0/meta-data/password", "/1.0/meta-data/vm-id/x"],
)
def test_what_does_not_exist_is_not_found(account: Account, path: str) -> None:
    asker = Asker(account, account.instance())
    answer = look_up(asker.world, ip=asker.ip, path=path)
    assert (answer.status, answer.body.decode()) == (404, f"not found: {path}\n")


def test_who_is_no_instance_learns_nothing(account: Account) -> None:
    asker = Asker(account, account.instance(user_data=b64encode(SCRIPT).decode()))
    for ip in ("198.18.0.254", "", "127.0.0.1"):
        answer = look_up(asker.world, ip=ip, path="/latest/user-data")
        assert answer.status == 404
        assert b"no instance has the address" in answer.body


def ask(account: Account, *, server: tuple[str, int], method: str = "GET") -> tuple[int, bytes]:
    """Send a request for the instance id to the application as uvicorn would."""
    instance = account.instance()
    ip = account.client.get_instance(id=instance)["public-ip"]
    sent: list[Message] = []

    async def elsewhere(*_: Any) -> None:
        sent.append({"status": 0})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": method,
        "path": "/latest/meta-data/instance-id",
        "headers": [],
        "server": server,
        "client": (ip, 40_000),
    }
    application = Metadata(account.cloud.cloud.world, elsewhere)
    asyncio.run(application(scope, receive, send))
    body = sent[-1].get("body", b"")
    return sent[0]["status"], body.replace(instance.encode(), b"<id>")


def test_only_requests_to_the_metadata_address_are_answered(account: Account) -> None:
    assert ask(account, server=("198.18.0.1", 8480)) == (0, b"")
    assert ask(account, server=(METADATA_IP, METADATA_PORT)) == (200, b"<id>")


def test_metadata_cannot_be_written(account: Account) -> None:
    status, _ = ask(account, server=(METADATA_IP, METADATA_PORT), method="POST")
    assert status == 405


def test_no_server_has_a_password(account: Account) -> None:
    assert ask(account, server=(METADATA_IP, PASSWORD_PORT)) == (200, b"")

"""A small Exoscale over real HTTP that misbehaves on demand; it checks that requests are signed."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POOL_ID = "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"


@dataclass(slots=True)
class FakeApi:
    """The pool, the changes that were asked for, and how the next answers misbehave."""

    size: int = 1
    state: str = "running"
    mode: str = "well"
    """well, hang, half-open, reset, trickle, html, nonsense, empty, or an HTTP status."""
    changes_only: bool = False
    """Whether only scale and evict misbehave."""
    applies: bool = False
    """Whether a misbehaving change happens all the same."""
    once: bool = False
    """Whether only the next answer misbehaves."""
    boot_s: float = 0.0
    """How long the pool stays unsettled after a change."""
    changes: list[tuple[float, str, int]] = field(default_factory=list)
    """When, how, and to which size the pool was really changed."""
    attempts: int = 0
    reads: int = 0
    evicted: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    """Addresses that the load balancer's health check calls failed."""
    comes: bool = True
    """Whether members that were asked for come."""
    protected: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Members in state error."""
    members: list[str] = field(default_factory=list)
    settles_at: float = 0.0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.fill()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    def fill(self) -> None:
        """Start or stop members until there are as many as the pool's size."""
        while len(self.members) < self.size and self.comes:
            self.members.append(str(uuid.uuid4()))
        del self.members[self.size :]

    def pool(self) -> dict[str, Any]:
        with self.lock:
            settled = time.monotonic() >= self.settles_at
            return {
                "id": POOL_ID,
                "name": "web",
                "state": self.state if settled else "scaling-up",
                "size": self.size,
                "instances": [{"id": member} for member in self.members],
            }

    def instances(self) -> dict[str, Any]:
        """The first listed member is the newest, so that age and order differ."""
        with self.lock:
            last = len(self.members) - 1
            return {
                "instances": [
                    {
                        "id": member,
                        "created-at": f"2026-11-23T20:{last - place:02d}:00Z",
                        "state": "error" if member in self.broken else "running",
                        "public-ip": f"198.51.100.{place + 1}",
                    }
                    for place, member in enumerate(self.members)
                ]
            }

    def balancers(self) -> dict[str, Any]:
        """One balancer with one service, which checks the pool's members."""
        with self.lock:
            checks = [
                {"public-ip": ip, "status": "failure" if ip in self.failing else "success"}
                for ip in (f"198.51.100.{place + 1}" for place in range(len(self.members)))
            ]
            service = {"instance-pool": {"id": POOL_ID}, "healthcheck-status": checks}
            return {"load-balancers": [{"id": str(uuid.uuid4()), "services": [service]}]}

    def resize(self, how: str, size: int) -> None:
        with self.lock:
            if size != self.size:
                self.changes.append((time.monotonic(), how, size))
                self.settles_at = time.monotonic() + self.boot_s
            self.size = size
            self.fill()

    def fall_back(self, size: int) -> None:
        """What was accepted is not done after all."""
        with self.lock:
            self.size, self.settles_at = size, 0.0
            self.fill()

    def refusal(self, victims: list[str]) -> tuple[int, str] | None:
        """What is said of an eviction that cannot be; the words are the real cloud's."""
        with self.lock:
            for victim in victims:
                if victim not in self.members:
                    return 400, f"instance {victim} is not a member of the pool"
                if victim in self.protected:
                    reason = "reason: manual instance protection"
                    return 403, f"Operation evict on resource {victim} is forbidden - {reason}"
        return None

    def evict(self, victims: list[str]) -> None:
        with self.lock:
            self.members = [member for member in self.members if member not in victims]
            self.evicted += victims
        self.resize("evict", self.size - len(victims))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_arguments: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        api = self.server.api
        api.reads += 1
        if self._misbehaves(change=False):
            return
        if self.path.startswith("/v2/instance?"):
            self._answer(200, api.instances())
        elif self.path == "/v2/load-balancer":
            self._answer(200, api.balancers())
        elif self.path == f"/v2/instance-pool/{POOL_ID}":
            self._answer(200, api.pool())
        else:
            self._answer(404, {"message": "Not Found"})

    def do_PUT(self) -> None:
        api = self.server.api
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api.attempts += 1
        good = api.mode == "well"
        if good or api.applies:
            if self.path.endswith(":scale"):
                api.resize("scale", body["size"])
            elif refusal := api.refusal(body["instances"]):
                self._answer(refusal[0], {"message": refusal[1]})
                return
            else:
                api.evict(body["instances"])
        if not self._misbehaves(change=True):
            self._answer(200, {"id": str(uuid.uuid4()), "state": "pending"})

    def _misbehaves(self, *, change: bool) -> bool:
        api = self.server.api
        if not self.headers.get("Authorization", "").startswith("EXO2-HMAC-SHA256 "):
            self._answer(403, {"message": "Invalid request signature"})
            return True
        if api.mode == "well" or (api.changes_only and not change):
            return False
        mode, api.mode = api.mode, "well" if api.once else api.mode
        self._misbehave(mode)
        return True

    def _misbehave(self, mode: str) -> None:
        api = self.server.api
        self.close_connection = True
        if mode.isdigit():
            text = "Invalid request signature" if mode == "403" else "out of order"
            self._answer(int(mode), {"message": text})
        elif mode == "quota":
            self._answer(409, {"message": "Quota exceeded: instance"})
        elif mode == "html":
            self._raw(b"<html>maintenance</html>", "text/html")
        elif mode == "nonsense":
            self._raw(b'{"size": "many", "state": 7}', "application/json")
        elif mode == "empty":
            self._raw(b"", "application/json")
        elif mode == "half-open":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            self.wfile.flush()
            api.released.wait(30)
        elif mode == "trickle":
            self._trickle()
        elif mode == "reset":
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
            self.connection.close()
        else:
            api.released.wait(30)

    def _trickle(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while not self.server.api.released.wait(0.05):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        self._raw(json.dumps(document).encode(), "application/json", status)

    def _raw(self, body: bytes, content_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: FakeApi

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no news."""


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """Serve the fake on a free port of the loopback address."""
    server = _Server(("127.0.0.1", api.port), _Handler)
    server.api = api
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

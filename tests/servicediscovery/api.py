"""A small real HTTP server that answers like the Exoscale API, or misbehaves when told to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POOL_ID = "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
Json = dict[str, Any]


def instance(number: int, **changes: object) -> Json:
    """The n-th member as list-instances shows it."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "name": f"web-{number}",
        "state": "running",
        "public-ip": f"198.51.100.{number}",
        **changes,
    }


@dataclass
class Fault:
    """An answer that is no answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    """Before each byte."""
    hang: bool = False
    """Accept the request and never say anything."""
    drop: bool = False
    """Close the connection instead of answering."""


class FakeApi:
    """Knows one pool; verifies nothing. `fault` makes every answer wrong, `answers` one of them."""

    def __init__(self) -> None:
        self.members = [instance(1)]
        self.pool: Json = {"id": POOL_ID, "name": "web", "state": "running"}
        self.unlisted: set[str] = set()
        """Ids that list-instances does not know yet."""
        self.lists_late = 0
        """How many more lists lack them; all lists do if this is 0."""
        self.fault: Fault | None = None
        self.answers: dict[str, Any] = {}
        self.requests: list[str] = []
        self.release = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.requests.append(self.path)
                api.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v2"

    def scale(self, size: int) -> None:
        self.members = [instance(number) for number in range(1, size + 1)]

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0].removeprefix("/v2")
        fault = self.fault or self._find(path)
        if fault.hang:
            self.release.wait()
        if fault.hang or fault.drop:
            handler.close_connection = True
            return
        handler.send_response(fault.status)
        length = {"Content-Length": str(len(fault.body))}
        for name, value in (length | {"Content-Type": "application/json"} | fault.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        self._send(handler, fault)

    def _send(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        try:
            if not fault.pause_s:
                handler.wfile.write(fault.body)
                return
            for byte in fault.body:
                handler.wfile.write(bytes([byte]))
                time.sleep(fault.pause_s)
                if self.release.is_set():
                    handler.close_connection = True
                    return
        except OSError:
            handler.close_connection = True

    def _find(self, path: str) -> Fault:
        if path in self.answers:
            return Fault(body=json.dumps(self.answers[path]).encode())
        if path == f"/instance-pool/{POOL_ID}":
            refs = [{"id": member["id"]} for member in self.members]
            pool = {"size": len(refs)} | ({"instances": refs} if refs else {}) | self.pool
            return Fault(body=json.dumps(pool).encode())
        if path == "/instance":
            listed = [member for member in self.members if member["id"] not in self.unlisted]
            self.lists_late -= 1
            if self.lists_late == 0:
                self.unlisted = set()
            return Fault(body=json.dumps({"instances": listed}).encode())
        return Fault(status=404, body=b'{"message": "Not Found"}')

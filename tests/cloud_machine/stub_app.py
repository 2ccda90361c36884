"""
A tiny web server for tests: answers every GET at once, or after `/slow` seconds.

    python stub_app.py PORT [DELAY_S]    DELAY_S: begin to listen that much later
"""

from __future__ import annotations

import asyncio
import os
import sys


class Stub(asyncio.Protocol):
    """Answers with its server's name, so that a client sees who served it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        request = data.partition(b"\r\n")[0]
        close = b"connection: close" in data.lower()
        delay_s = 1.0 if b"/slow" in request else 0.0
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.answer, close)
        else:
            self.answer(close)

    def answer(self, close: bool) -> None:
        body = os.environ["EXOTIDE_SERVER_NAME"].encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
        head += "Connection: close\r\n\r\n" if close else "\r\n"
        self.transport.write(head.encode() + body)
        if close:
            self.transport.close()


async def main() -> None:
    if len(sys.argv) > 2:
        await asyncio.sleep(float(sys.argv[2]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Stub, os.environ["EXOTIDE_SERVER_IP"], int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

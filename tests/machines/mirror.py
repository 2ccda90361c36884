"""A package mirror on the servers' network that fails a few times before it works."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from exotide.cloud.servers.network import NAMESPACES, fabric_namespace, in_namespace

from .site import Cloud

UNIT = """\
[Service]
ExecStart=/usr/bin/python3 -m http.server 9100

[Install]
WantedBy=multi-user.target
"""


class Mirror(ThreadingHTTPServer):
    """
    Serves a folder.

    Args:
        first: The path with which a program begins; so many times it is told 404, as is all else
            that it asks for until it begins again.
    """

    def __init__(self, ip: str, folder: Path, *, first: str, failures: int) -> None:
        super().__init__((ip, 0), partial(_Handler, directory=str(folder)))
        self.first, self.failures, self.begun = first, failures, 0

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        mirror = self.server
        assert isinstance(mirror, Mirror)
        if self.path == mirror.first:
            mirror.begun += 1
        if mirror.begun <= mirror.failures:
            self.send_error(404)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def mirrored(cloud: Cloud, folder: Path, *, first: str, failures: int) -> Iterator[Mirror]:
    """Serve a folder at the address at which servers reach the cloud."""
    fabric = NAMESPACES / fabric_namespace(cloud.cloud_id)
    mirror = in_namespace(
        fabric, lambda: Mirror(cloud.fabric_ip, folder, first=first, failures=failures)
    )
    thread = threading.Thread(target=mirror.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        thread.join()
        mirror.server_close()


def repository(folder: Path, package: str) -> None:
    """Make a repository of Debian packages with one stand-in: a unit that listens at 9100."""
    unit = folder / f"tree/usr/lib/systemd/system/{package}.service"
    control = folder / "tree/DEBIAN/control"
    for path in (unit, control):
        path.parent.mkdir(parents=True)
    unit.write_text(UNIT)
    described = (
        f"Package: {package}\nVersion: 99\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.invalid>\nDescription: a stand-in\n"
    )
    control.write_text(described)
    file = folder / f"{package}.deb"
    command = ("dpkg-deb", "--root-owner-group", "--build", str(folder / "tree"), str(file))
    subprocess.run(command, check=True, capture_output=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "Packages").write_text(
        f"{described}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
    )

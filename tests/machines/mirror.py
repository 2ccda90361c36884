"""Package mirrors on the servers' network, which have bad days before they work."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from exotide.cloud.servers.network import NAMESPACES, fabric_namespace, in_namespace

from .site import Cloud

FIELDS: Final = (
    "Package: ${Package}\nVersion: ${Version}\nArchitecture: ${Architecture}\n"
    "Maintainer: ${Maintainer}\nDepends: ${Depends}\nDescription: made for a test\n"
)
LOGIN: Final = b"<!doctype html><title>Welcome</title><p>Please log in to this network.</p>\n"
BEGINNING: Final = "/./InRelease"
"""What apt asks a flat repository first."""


class Day(StrEnum):
    """What a mirror does to everything that is asked of it."""

    MISSING = "missing"
    """404."""
    PAGE = "page"
    """200, and a page of a network that wants a log-in."""
    CORRUPT = "corrupt"
    """The lists are right, the packages are not what the lists say."""
    LATER = "later"
    """The lists are of tomorrow, as a clock that is slow sees them."""
    FINE = "fine"


class Mirror(ThreadingHTTPServer):
    """
    Serves a folder.

    Args:
        first: The path with which a program begins: each time, a new day begins.
        days: The first days; all that follow are fine.
    """

    def __init__(
        self, address: tuple[str, int], folder: Path, *, first: str, days: Sequence[Day]
    ) -> None:
        super().__init__(address, partial(_Handler, directory=str(folder)))
        self.first, self.days, self.begun = first, days, 0

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    @property
    def day(self) -> Day:
        return self.days[self.begun - 1] if self.begun <= len(self.days) else Day.FINE


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        mirror = self.server
        assert isinstance(mirror, Mirror)
        if self.path == mirror.first:
            mirror.begun += 1
        file = Path(self.translate_path(self.path))
        if mirror.day == Day.MISSING:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif mirror.day == Day.PAGE:
            self._send(LOGIN)
        elif mirror.day == Day.CORRUPT and file.suffix == ".deb":
            self._send(file.read_bytes()[::-1])
        elif mirror.day == Day.LATER and self.path == "/./Release":
            self._send(release(file.parent, from_now_s=86_400))
        else:
            super().do_GET()

    def _send(self, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def finish(self) -> None:
        """Say that this is the end: without it, TLS takes an answer for a broken one."""
        super().finish()
        if isinstance(self.connection, ssl.SSLSocket):
            with suppress(OSError):
                self.connection.unwrap()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def mirrored(
    cloud: Cloud,
    folder: Path,
    *,
    first: str,
    days: Sequence[Day],
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Mirror]:
    """Serve a folder at the address at which servers reach the cloud."""
    fabric = NAMESPACES / fabric_namespace(cloud.cloud_id)
    mirror = in_namespace(
        fabric, lambda: Mirror((cloud.fabric_ip, port), folder, first=first, days=days)
    )
    if tls is not None:
        mirror.socket = tls.wrap_socket(mirror.socket, server_side=True)
    thread = threading.Thread(target=mirror.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        thread.join()
        mirror.server_close()


def repository(root: Path, folder: Path, package: str) -> Path:
    """
    Make a repository of Debian packages with one that is installed below a root, as it is there.

    Its own scripts come with it, so that an installation is a real one.
    """
    tree, info = folder / "tree", root / "var/lib/dpkg/info"
    (tree / "DEBIAN").mkdir(parents=True)
    for name in (info / f"{package}.list").read_text().splitlines():
        path, copy = root / name.lstrip("/"), tree / name.lstrip("/")
        if path.is_dir():  # also /lib, which is a link of the system's own
            copy.mkdir(parents=True, exist_ok=True)
        elif path.is_symlink() or path.exists():  # documentation was left out
            shutil.copy2(path, copy, follow_symlinks=False)
    for script in ("preinst", "postinst", "prerm", "postrm"):
        if (info / f"{package}.{script}").exists():
            shutil.copy2(info / f"{package}.{script}", tree / "DEBIAN" / script)
    query = ("dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show")
    described, settings = (
        run(*query, f"--showformat={form}", package) for form in (FIELDS, "${Conffiles}")
    )
    # A name and a hash in each line: what of it is an operator's to change.
    names = [line.split()[0] for line in settings.splitlines() if line]
    (tree / "DEBIAN/conffiles").write_text("".join(f"{name}\n" for name in names))
    served = folder / "served"
    served.mkdir()
    (served / "Packages").write_text(packed(tree, described, served / f"{package}.deb"))
    return served


def packed(tree: Path, described: str, file: Path) -> str:
    """Make a package of a tree; gives its entry for a list beside it."""
    (tree / "DEBIAN/control").write_text(described)
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    size = file.stat().st_size
    return f"{described}Filename: ./{file.name}\nSize: {size}\nSHA256: {digest}\n"


def release(folder: Path, *names: str, from_now_s: float = 0) -> bytes:
    """Write the list of lists of a repository."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(time.time() + from_now_s))
    lines = [f"Date: {date}", "Suite: stable", "Codename: stable", "SHA256:"]
    for name in names or ("Packages",):
        content = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
    return "".join(f"{line}\n" for line in lines).encode()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

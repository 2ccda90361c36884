"""A package mirror on the servers' network that fails a few times before it works."""

from __future__ import annotations

import hashlib
import shutil
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

FIELDS = (
    "Package: ${Package}\nVersion: ${Version}\nArchitecture: ${Architecture}\n"
    "Maintainer: ${Maintainer}\nDepends: ${Depends}\nDescription: made for a test\n"
)


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
    (tree / "DEBIAN/control").write_text(described)
    # A name and a hash in each line: what of it is an operator's to change.
    names = [line.split()[0] for line in settings.splitlines() if line]
    (tree / "DEBIAN/conffiles").write_text("".join(f"{name}\n" for name in names))
    served = folder / "served"
    served.mkdir()
    file = served / f"{package}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (served / "Packages").write_text(
        f"{described}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
    )
    return served


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

"""A repository as Grafana's is: signed, behind TLS, with a package that stands for Grafana."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.terraform.keys import end_agent, new_key

from .mirror import packed, release, run
from .site import Cloud
from .test_faults import changed

HOST = "apt.grafana.com"
FINGERPRINT = "B53AE77BADB630A683046005963FA27710458545"
"""Of Grafana's own key."""
UNIT = """\
[Service]
ExecStart=/usr/bin/python3 -m http.server 3000 --directory /usr/share/grafana
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """
    What apt.grafana.com would serve.

    Its key lies in the older of the two files that it is published in, beside a key of nobody's.
    """

    served: Path
    fingerprint: str
    certificate: Path
    key: Path

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def believed(self, text: str, cloud: Cloud) -> str:
        """Let a server find it by its name, trust its certificate, and expect its key."""
        changes: dict[str, list[Any]] = {
            "bootcmd": [["sh", "-c", f"echo {cloud.fabric_ip} {HOST} >>/etc/hosts"]]
        }
        assert FINGERPRINT in text
        fresh = changed(text.replace(FINGERPRINT, self.fingerprint), **changes)
        trusted = "".join(f"      {line}\n" for line in self.certificate.read_text().splitlines())
        return f"{fresh}ca_certs:\n  trusted:\n    - |\n{trusted}"


def grafana_repository(folder: Path, *, version: str) -> Repository:
    """Make one with a single version of Grafana."""
    home, served = folder / "gpg", folder / "served"
    home.mkdir(parents=True)
    stable = served / "dists/stable"
    lists = stable / f"main/binary-{run('dpkg', '--print-architecture').strip()}"
    lists.mkdir(parents=True)
    (lists / "Packages").write_text(_package(folder / "tree", served, version))
    good, fingerprint = new_key(home, "grafana@example.invalid")
    other, _ = new_key(home, "other@example.invalid")
    (served / "gpg.key").write_text(other + good)
    (stable / "Release").write_bytes(release(stable, str((lists / "Packages").relative_to(stable))))
    sign = ("--clearsign", "--output", str(stable / "InRelease"), str(stable / "Release"))
    run("gpg", "--batch", "--quiet", "--homedir", str(home), "--local-user", fingerprint, *sign)
    end_agent(home)
    return Repository(served=served, fingerprint=fingerprint, **_certificate(folder))


def _package(tree: Path, served: Path, version: str) -> str:
    for name in ("DEBIAN", "usr/lib/systemd/system", "usr/share/grafana/api"):
        (tree / name).mkdir(parents=True)
    (tree / "usr/lib/systemd/system/grafana-server.service").write_text(UNIT)
    (tree / "usr/share/grafana/api/health").write_text('{"database": "ok"}\n')
    described = (
        f"Package: grafana\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.invalid>\nDescription: stands for Grafana\n"
    )
    return packed(tree, described, served / "grafana.deb")


def _certificate(folder: Path) -> dict[str, Path]:
    made = {"certificate": folder / "cert.pem", "key": folder / "key.pem"}
    names = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
    files = ("-out", str(made["certificate"]), "-keyout", str(made["key"]))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(
        ("openssl", "req", "-x509", "-days", "2", *curve, *names, *files),
        check=True,
        capture_output=True,
    )
    return made

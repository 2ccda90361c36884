#!/usr/bin/env python3
"""
Makes a fresh Debian server the monitoring server of one stack. Standard library only.

cloud-init writes this file, the settings (/etc/exotide/stack.json) and the first part of the
bundle, and starts exotide-bootstrap.service. Every step may run again at any time: what is done
is left alone, so a second run repairs, and a reboot costs nothing. Progress and failures are in
the journal, in /run/exotide/bootstrap.json, and on the status port until the autoscaler has it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import http.server
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS = Path("/etc/exotide/stack.json")
CREDENTIALS = Path("/etc/exotide/credentials")
FIRST_PART = Path("/opt/exotide/bundle.part")
UNPACKED = Path("/opt/exotide/bundle.sha256")
STARTED = Path("/opt/exotide/started.sha256")
REQUIREMENTS = Path("/opt/exotide/requirements.txt")
VENV = Path("/opt/exotide/venv")
STATE = Path("/run/exotide/bootstrap.json")
MARK = "#exotide-bundle:"
STATUS_PORT = 8091
PAUSES_S = (2.0, 4.0, 8.0, 16.0, 32.0)
SOON_S = (0.2, 0.4, 0.8, 1.6, *PAUSES_S)
GRAFANA_KEY_URL = "https://apt.grafana.com/gpg.key"
GRAFANA_LIST = Path("/etc/apt/sources.list.d/grafana.list")
GRAFANA_KEY = Path("/etc/apt/keyrings/grafana.asc")
PACKAGES = ("prometheus", "prometheus-node-exporter", "python3-venv")
UNITS = (
    *("prometheus", "prometheus-node-exporter"),
    *("exotide-servicediscovery", "exotide-autoscaler"),
)

Settings = dict[str, Any]


class Failed(Exception):
    """A step that cannot succeed; says what to do about it."""


def run(*command: str, **more: Any) -> str:
    """Run a program; its output goes to the journal when it fails. Secrets are never arguments."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )
    if done.returncode:
        say(done.stdout)
        last = done.stdout.strip().splitlines()[-1:] or ["no output"]
        raise Failed(f"{command[0]} ended with {done.returncode}: {last[0]}")
    return done.stdout


def say(text: str) -> None:
    """Write to the journal."""
    print(text, file=sys.stderr, flush=True)


def again(
    what: str,
    attempt: Callable[[], None],
    *,
    pauses_s: tuple[float, ...] = PAUSES_S,
    pause: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = say,
) -> None:
    """Try until it works: mirrors and APIs fail for a while, with growing pauses (62 s in all)."""
    for pause_s in pauses_s:
        try:
            return attempt()
        except (Failed, OSError) as error:
            tell(f"{what}: {error}; again in {pause_s:g} s")
        pause(pause_s)
    try:
        return attempt()
    except (Failed, OSError) as error:
        raise Failed(f"failed {len(pauses_s) + 1} times; last: {error}") from error


def write(path: Path, text: str, mode: int = 0o644, owner: str | None = None) -> None:
    """Replace a file in one step; nobody sees it half-written or with wider rights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
    if owner:
        run("chown", owner, str(fresh))
    fresh.replace(path)


def authorization(url: str, key: str, secret: str, expires: int) -> str:
    """Sign a GET without a query (EXO2-HMAC-SHA256), as the SDK would; `expires` in Unix time."""
    message = f"GET {urlsplit(url).path}\n\n\n\n{expires}".encode()
    digest = hmac.new(secret.encode(), message, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return f"EXO2-HMAC-SHA256 credential={key},expires={expires},signature={signature}"


def signed_get(url: str, key: str, secret: str) -> Any:
    """Call the API."""
    header = authorization(url, key, secret, int(time.time()) + 600)
    request = urllib.request.Request(url, headers={"Authorization": header})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read(300).decode("utf-8", "replace")
        raise Failed(f"the API answered {error.code} to GET {urlsplit(url).path}: {text}") from None


def second_part(settings: Settings) -> str:
    """Read the rest of the bundle from the pool's user-data: one server's is too small for all."""
    agent = settings["servicediscovery"]
    url = f"{settings['endpoint']}/instance-pool/{settings['pool_id']}"
    return part_in(signed_get(url, agent["key"], agent["secret"])["user-data"])


def part_in(user_data: str) -> str:
    """Find the bundle's part in user-data as the API shows it: base64 of text or of gzip."""
    data = base64.b64decode(user_data)
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    parts = [line for line in text.splitlines() if line.startswith(MARK)]
    if not parts:
        raise Failed("the pool's user-data has no bundle; apply the stack again")
    return parts[0].removeprefix(MARK)


def unpack(settings: Settings) -> None:
    """Put the bundle's files in place: agents, configuration, units."""
    wanted = settings["bundle_sha256"]
    if UNPACKED.exists() and UNPACKED.read_text() == wanted:
        return
    bundle = base64.b64decode(FIRST_PART.read_text().strip() + second_part(settings))
    if hashlib.sha256(bundle).hexdigest() != wanted:
        raise Failed("the bundle is not the one that this server was made for; apply again")
    for name, text in json.loads(unpacked(bundle)).items():
        write(Path("/", name), text)
    write(UNPACKED, wanted)


def unpacked(bundle: bytes) -> bytes:
    """What zpaq, a package of Debian's, makes of the bundle."""
    if not installed("zpaq"):
        run("apt-get", "-q", "update")
        run("apt-get", "-qy", "install", "--no-install-recommends", "zpaq")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "bundle.zpaq")
        packed.write_bytes(bundle)
        run("zpaq", "extract", str(packed), "-to", folder, "-force")
        return next(Path(folder).rglob("bundle.json")).read_bytes()


def install_packages(settings: Settings) -> None:
    """Install what is missing; a package that is there is never changed."""
    wanted = [*PACKAGES]
    wanted.append("grafana" if settings["alerting"] == "grafana" else "prometheus-alertmanager")
    missing = [name for name in wanted if not installed(name)]
    if not missing:
        return
    if "grafana" in missing:
        trust_grafana(settings)
        missing[missing.index("grafana")] = f"grafana={settings['grafana_version']}"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-q", "update", env=environment)
    keep = "-oDpkg::Options::=--force-confold"  # our configuration is there before the package
    run(
        *("apt-get", "-qy", "install", "--no-install-recommends", "--allow-downgrades", keep),
        *missing,
        env=environment,
    )


def installed(name: str) -> bool:
    """Whether dpkg has this package."""
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", name)
    done = subprocess.run(query, check=False, capture_output=True, text=True)
    return done.stdout == "installed"


def trust_grafana(settings: Settings) -> None:
    """Trust Grafana's repository by the fingerprint of its key, not by where it came from."""
    if not installed("gpg"):
        run("apt-get", "-q", "update")
        run("apt-get", "-qy", "install", "--no-install-recommends", "gpg")
    with urllib.request.urlopen(GRAFANA_KEY_URL, timeout=20) as answer:
        offered = answer.read(100_000).decode()
    write(GRAFANA_KEY, trusted_key(offered, settings["grafana_key"]))
    source = f"deb [signed-by={GRAFANA_KEY}] https://apt.grafana.com stable main\n"
    write(GRAFANA_LIST, source)


def trusted_key(offered: str, fingerprint: str) -> str:
    """Take the one key with this fingerprint; apt would trust every key that lies beside it."""
    with tempfile.TemporaryDirectory() as home:
        gpg = ("gpg", "--batch", "--quiet", "--no-autostart", "--homedir", home)
        run(*gpg, "--import", input=offered)
        key = run(*gpg, "--armor", "--export", fingerprint)
    if not key.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        raise Failed(f"Grafana's repository key is not {fingerprint}; do not trust it")
    return key


def install_agents(_: Settings) -> None:
    """Make the agents' environment from pinned, hashed requirements."""
    stamp, wanted = VENV / "requirements.sha256", hashlib.sha256(REQUIREMENTS.read_bytes())
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        return
    run("python3", "-m", "venv", "--clear", str(VENV))
    run(
        *(str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"),
        *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
        *("--requirement", str(REQUIREMENTS)),
    )
    write(stamp, wanted.hexdigest())


def configure(settings: Settings) -> None:
    """Write what differs between stacks: settings readable by all, secrets by root alone."""
    write(Path("/srv/prometheus/rules/prices.yml"), price_rules(settings["prices"]))
    CREDENTIALS.mkdir(mode=0o700, parents=True, exist_ok=True)
    token_file = CREDENTIALS / "webhook-token"
    if not token_file.exists():
        # Letters in front: Grafana takes a value of digits alone for a number and refuses to start.
        write(token_file, f"webhook-{secrets.token_hex(24)}", mode=0o600)
    for agent in ("servicediscovery", "autoscaler"):
        write(CREDENTIALS / f"{agent}-key", settings[agent]["key"], mode=0o600)
        write(CREDENTIALS / f"{agent}-secret", settings[agent]["secret"], mode=0o600)
        lines = "".join(f"{name}={value}\n" for name, value in settings[agent]["env"].items())
        write(Path(f"/etc/exotide/{agent}.env"), lines)
    if settings["alerting"] == "grafana":
        password = CREDENTIALS / "grafana-admin-password"
        write(password, settings["grafana_password"], mode=0o600)
        environment = f"WEBHOOK_TOKEN={token_file.read_text()}\n"
        write(Path("/etc/exotide/grafana.env"), environment, mode=0o600)
        Path("/srv/alertmanager/self.json").unlink(missing_ok=True)
    else:
        token = Path("/srv/alertmanager/webhook.token")
        write(token, token_file.read_text(), mode=0o400, owner="prometheus")


def price_rules(prices: dict[str, float] | None) -> str:
    """Let Prometheus know what the stack costs; without known prices it has no such series."""
    if prices is None:
        return "groups: []\n"
    cost = f"{prices['base']} + {prices['member']} * exotide_autoscaler_pool_size"
    rule = {"record": "exotide:stack:eur_per_hour", "expr": cost}
    return json.dumps({"groups": [{"name": "prices", "rules": [rule]}]}) + "\n"


def start(settings: Settings) -> None:
    """Start everything, now and at each boot; what runs with other settings is restarted."""
    alerting = "grafana-server" if settings["alerting"] == "grafana" else "prometheus-alertmanager"
    units = (*UNITS, alerting)
    wanted = hashlib.sha256(SETTINGS.read_bytes()).hexdigest()
    if STARTED.exists() and STARTED.read_text() == wanted:
        run("systemctl", "start", *units)
        return
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create")
    run("systemctl", "enable", "--quiet", *units)  # which reads all units anew
    run("systemctl", "restart", *units)
    write(STARTED, wanted)


def answers(url: str) -> None:
    """Check that a service of this server is ready."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read(1)


def check(settings: Settings) -> None:
    """Wait until everything answers."""
    urls = {"Prometheus": "http://127.0.0.1:9090/-/ready"}
    urls["autoscaler"] = f"http://127.0.0.1:{STATUS_PORT}/livez"
    if settings["alerting"] == "grafana":
        urls["Grafana"] = "http://127.0.0.1:3000/api/health"
    else:
        urls["Alertmanager"] = "http://127.0.0.1:9093/-/ready"
    for name, url in urls.items():
        again(name, partial(answers, url), pauses_s=SOON_S)


STEPS: tuple[tuple[str, Callable[[Settings], None]], ...] = (
    ("unpack the bundle", unpack),
    ("install packages", install_packages),
    ("install the agents", install_agents),
    ("write the configuration", configure),
    ("start the services", start),
    ("check the services", check),
)


def note(done: list[str], now: str = "", error: str = "") -> None:
    """Say how far it is, for the status page and `exotide check`."""
    state = {
        "steps": [name for name, _ in STEPS],
        "done": done,
        "now": now,
        "error": error,
        "finished": len(done) == len(STEPS),
    }
    write(STATE, json.dumps(state))


def bootstrap() -> None:
    """
    Do all steps; stop at the first that fails.

    Raises:
        Failed: with the step and what it needs. The unit starts again after a minute.
    """
    settings: Settings = json.loads(SETTINGS.read_text())
    done: list[str] = []
    retried = {"unpack the bundle", "install packages", "install the agents"}
    for name, step in STEPS:
        say(f"bootstrap: {name}")
        note(done, now=name)
        if name == "start the services":
            run("systemctl", "stop", "exotide-bootstrap-page")  # its port is the autoscaler's
        began_s = time.monotonic()
        work, tell = partial(step, settings), partial(trouble, done, name)
        try:
            again(name, work, tell=tell) if name in retried else work()
        except (Failed, OSError, KeyError, ValueError) as error:
            text = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            tell(text)
            # Its port may be the autoscaler's by now, which then shows more than the page does.
            run("systemctl", "start", "--no-block", "exotide-bootstrap-page")
            raise Failed(f"{name}: {text}") from error
        say(f"bootstrap: {name} done in {time.monotonic() - began_s:.1f} s")
        done.append(name)
    note(done)


def trouble(done: list[str], now: str, text: str) -> None:
    """Say what is wrong with a step, whether or not it is tried again."""
    say(text)
    note(done, now=now, error=text)


def page(state: dict[str, Any]) -> str:
    """Write the list of steps as a page."""
    done, error = state.get("done", []), escape(state.get("error", ""))
    lines = []
    for name in state.get("steps", []):
        mark = "done" if name in done else "now" if name == state.get("now") else "to do"
        failed = f" - FAILED: {error}" if error and name == state.get("now") else ""
        lines.append(f"<li>[{mark}] {escape(name)}{failed}</li>")
    hint = "It is tried again each minute. More: journalctl -u exotide-bootstrap"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>exotide starts</title>'
        "<style>body{font:16px sans-serif;margin:3rem}</style>"
        f"<h1>The monitoring server is being set up</h1><ol>{''.join(lines)}</ol><p>{hint}</p>"
    )


class Page(http.server.BaseHTTPRequestHandler):
    """Shows the state while the autoscaler, whose port this is, does not run yet."""

    server_version, sys_version = "exotide", ""

    def do_GET(self) -> None:
        """Answer 503 to everything: the server is not ready."""
        state = json.loads(STATE.read_text()) if STATE.exists() else {}
        wants_json = self.path.endswith(".json")
        body = (json.dumps(state) if wants_json else page(state)).encode()
        self.send_response(503)
        kind = "application/json" if wants_json else "text/html; charset=utf-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Refresh", "3")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the journal for the steps."""


def show_page() -> int:
    """Serve the page; ends when the port is the autoscaler's, as after a reboot."""
    try:
        server = http.server.ThreadingHTTPServer(("", STATUS_PORT), Page)
    except OSError as error:
        say(f"no page is needed, port {STATUS_PORT} is served: {error.strerror}")
        return 0
    server.serve_forever()
    return 0


def main() -> int:
    """Run the steps, or with the argument `page` only the page."""
    if sys.argv[1:] == ["page"]:
        return show_page()
    try:
        bootstrap()
    except Failed as error:
        say(f"bootstrap failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

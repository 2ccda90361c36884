#!/usr/bin/env python3
"""
Makes a fresh Debian server the monitoring server of one stack. Standard library only.

cloud-init writes this file, the settings (/etc/exotide/stack.json) and the first part of the
bundle, and starts exotide-bootstrap.service. Every step may run again at any time: what is done
is left alone, so a second run repairs, and a reboot costs nothing. What depends on others, on the
API, Debian's mirror, PyPI, is tried again until it works. Grafana comes last, when all else runs.
Progress and failures are in the journal, in /run/exotide/bootstrap.json, and on a page: on the
status port until the autoscaler has it, then on Grafana's until Grafana does.
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
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
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
NOTICE = Path("/run/exotide/notice")
"""What the autoscaler's page shows, too."""
MARK = "#exotide-bundle:"
STATUS_PORT, GRAFANA_PORT = 8091, 3000
SOON_S = (0.2, 0.4, 0.8, 1.6, 2.0, 4.0, 8.0, 16.0, 32.0)
COMMAND_S = 1800
"""How long a command may take: what hangs must be tried again, too."""
GRAFANA_KEY_URLS = ("https://apt.grafana.com/gpg-full.key", "https://apt.grafana.com/gpg.key")
GRAFANA_LIST = Path("/etc/apt/sources.list.d/grafana.list")
GRAFANA_KEY = Path("/etc/apt/keyrings/grafana.asc")
PACKAGES = ("prometheus", "prometheus-node-exporter", "python3-venv")
APT = ("apt-get", "-qy", "-oDPkg::Lock::Timeout=600", "-oAPT::Update::Error-Mode=any")
# After a power cut, what was begun is ended first. Our configuration is there before the package.
REPAIR = ("dpkg", "--configure", "-a", "--force-confold")
INSTALL = (
    *(*APT, "install", "--fix-broken", "--no-install-recommends", "--allow-downgrades"),
    "-oDpkg::Options::=--force-confold",
)
GRAFANA, PAGE = "install Grafana", "exotide-bootstrap-page"
UNITS = (
    *("prometheus", "prometheus-node-exporter"),
    *("exotide-servicediscovery", "exotide-autoscaler"),
)

Settings = dict[str, Any]


class Failed(Exception):
    """A step that cannot succeed; says what to do about it."""


class Refused(Failed):
    """The API does not let this key do this."""


def run(*command: str, **more: Any) -> str:
    """Run a program; its output goes to the journal when it fails. Secrets are never arguments."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        check=False,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        timeout=COMMAND_S,
        **more,
    )
    if done.returncode:
        say(done.stdout)
        raise Failed(f"{command[0]} ended with {done.returncode}: {told_by(done.stdout)}")
    return done.stdout


def told_by(output: str) -> str:
    """Choose what says why: the first error of apt's or dpkg's, which goes on in the next line."""
    lines = output.strip().splitlines() or ["no output"]
    for number, line in enumerate(lines):
        if line.startswith(("E: ", "dpkg: error")):
            return " ".join(each.strip() for each in lines[number : number + 2])
    return lines[-1]


def say(text: str) -> None:
    """Write to the journal."""
    print(text, file=sys.stderr, flush=True)


def growing_s(longest_s: float) -> Iterator[float]:
    """Pauses that double and have no end."""
    pause_s = 2.0
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, longest_s)


def again(
    what: str,
    attempt: Callable[[], None],
    *,
    pauses_s: Iterable[float],
    pause: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = say,
) -> None:
    """Try until it works, or the pauses are used up; what goes wrong may be over the next time."""
    for pause_s in pauses_s:
        try:
            return attempt()
        except Exception as error:  # noqa: BLE001 - whatever an API or a mirror sends
            tell(f"{what}: {told(error)}; again in {pause_s:g} s")
        pause(pause_s)
    return attempt()


def told(error: Exception) -> str:
    """Say what is wrong, for people."""
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"


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
        text = f"the API answered {error.code}: {error.read(300).decode('utf-8', 'replace')}"
        raise (Refused if error.code in {401, 403} else Failed)(text) from None


def second_part(settings: Settings) -> str:
    """
    Read the rest of the bundle from the pool's user-data: one server's is too small for all.

    Either agent's key will do; they may have different rights.
    """
    url = f"{settings['endpoint']}/instance-pool/{settings['pool_id']}"
    refusals = []
    for agent in (settings["servicediscovery"], settings["autoscaler"]):
        try:
            return part_in(signed_get(url, agent["key"], agent["secret"])["user-data"])
        except Refused as refused:
            refusals.append(str(refused))
    raise Failed(
        f"no key of the agents has the right get-instance-pool: {'; '.join(refusals)}; "
        "apply with agents_one_pool = false, or with another agents_key"
    )


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
        install("zpaq")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "bundle.zpaq")
        packed.write_bytes(bundle)
        run("zpaq", "extract", str(packed), "-to", folder, "-force")
        return next(Path(folder).rglob("bundle.json")).read_bytes()


def install_packages(settings: Settings) -> None:
    """Install what is missing of Debian's; a package that is there is never changed."""
    wanted = [*PACKAGES, "gpg" if settings["alerting"] == "grafana" else "prometheus-alertmanager"]
    install(*(name for name in wanted if not installed(name)))


def install(*names: str) -> None:
    """
    Install packages, whatever else is wrong: with other packages, or with other mirrors.

    Raises:
        Failed: with all that went wrong, if one of them is not there then.
    """
    troubles = []
    for command in (REPAIR, (*APT, "update"), (*INSTALL, *names)) if names else ():
        try:
            run(*command)
        except Failed as error:
            troubles.append(str(error))
    missing = [name for name in names if not installed(name.partition("=")[0])]
    if missing:
        raise Failed(f"no {', '.join(missing)}: {'; '.join(troubles)}")


def installed(name: str) -> bool:
    """Whether dpkg has this package."""
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", name)
    done = subprocess.run(query, check=False, capture_output=True, text=True)
    return done.stdout == "installed"


def install_grafana(settings: Settings) -> None:
    """Install Grafana from its own repository, and start it; its port shows the page meanwhile."""
    if not installed("grafana"):
        run("systemctl", "start", "--no-block", PAGE)
        write(GRAFANA_KEY, trusted_key(offered_keys(), settings["grafana_key"]))
        write(GRAFANA_LIST, f"deb [signed-by={GRAFANA_KEY}] https://apt.grafana.com stable main\n")
        version = settings["grafana_version"]
        try:
            install(f"grafana={version}")
        except Failed as error:
            if "was not found" not in str(error):
                raise
            # An old patch leaves the repository; its successors read the same configuration.
            install(f"grafana={version.rpartition('.')[0]}.*")
    run("systemctl", "stop", PAGE)
    run("systemctl", "enable", "--quiet", "--now", "grafana-server")
    again(
        "Grafana", partial(answers, f"http://127.0.0.1:{GRAFANA_PORT}/api/health"), pauses_s=SOON_S
    )


def offered_keys() -> list[str]:
    """Read the files that Grafana publishes its key in; one is enough."""
    keys, last = [], ""
    for url in GRAFANA_KEY_URLS:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                keys.append(answer.read(100_000).decode())
        except (OSError, ValueError) as error:
            last = f"{url}: {error}"
    if not keys:
        raise Failed(last)
    return keys


def trusted_key(offered: list[str], fingerprint: str) -> str:
    """
    Take the one key with this fingerprint; apt would trust every key that lies beside it.

    What the files say of it is put together: one of them may know of an end that was put off.
    """
    with tempfile.TemporaryDirectory() as home:
        gpg = ("gpg", "--batch", "--quiet", "--no-autostart", "--homedir", home)
        for text in offered:
            try:
                run(*gpg, "--import", input=text)
            except Failed as error:
                say(str(error))
        key = run(*gpg, "--armor", "--export", fingerprint)
    begin = key.find("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    if begin < 0:
        raise Failed(f"no key of Grafana's repository is {fingerprint}; do not trust it")
    return key[begin:]


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
    """Start all but Grafana, now and at each boot; what runs with other settings is restarted."""
    units: tuple[str, ...] = UNITS
    if settings["alerting"] == "alertmanager":
        units = (*UNITS, "prometheus-alertmanager")
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
    """Wait until everything but Grafana answers."""
    urls = {"Prometheus": "http://127.0.0.1:9090/-/ready"}
    urls["autoscaler"] = f"http://127.0.0.1:{STATUS_PORT}/livez"
    if settings["alerting"] == "alertmanager":
        urls["Alertmanager"] = "http://127.0.0.1:9093/-/ready"
    for name, url in urls.items():
        again(name, partial(answers, url), pauses_s=SOON_S)
    ready()


def ready() -> None:
    """Tell systemd, and so cloud-init, that the server does its work."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", address.replace("@", "\0", 1))


Step = tuple[str, Callable[[Settings], None], float]
"""Its name, its work, and the longest pause before it is tried again; 0: it is not."""
STEPS: tuple[Step, ...] = (
    ("unpack the bundle", unpack, 60),
    ("install packages", install_packages, 60),
    ("install the agents", install_agents, 60),
    ("write the configuration", configure, 0),
    ("start the services", start, 0),
    ("check the services", check, 0),
)


class Progress:
    """How far it is, for the status page and `exotide check`."""

    def __init__(self, steps: Iterable[str]) -> None:
        self.steps, self.done = list(steps), list[str]()

    def note(self, now: str = "", error: str = "") -> None:
        """Write it down."""
        state = {
            "steps": self.steps,
            "done": self.done,
            "now": now,
            "error": error,
            "finished": self.done == self.steps,
        }
        write(STATE, json.dumps(state))
        write(NOTICE, error)

    def trouble(self, now: str, text: str) -> None:
        """Say what is wrong with a step, whether or not it is tried again."""
        if now == GRAFANA:
            text += '; all else works; to do without Grafana: alerting = "alertmanager"'
        say(text)
        self.note(now, text)


def bootstrap() -> None:
    """
    Do all steps; stop at the first that fails and is not tried again.

    Raises:
        Failed: with the step and what it needs. The unit starts again after a minute.
    """
    settings: Settings = json.loads(SETTINGS.read_text())
    with_grafana = settings["alerting"] == "grafana"
    steps = (*STEPS, (GRAFANA, install_grafana, 600)) if with_grafana else STEPS
    progress = Progress(name for name, *_ in steps)
    for name, step, longest_s in steps:
        say(f"bootstrap: {name}")
        progress.note(name)
        if name == "start the services":
            run("systemctl", "stop", PAGE)  # its port is the autoscaler's
        began_s = time.monotonic()
        work, tell = partial(step, settings), partial(progress.trouble, name)
        try:
            if longest_s:
                again(name, work, pauses_s=growing_s(longest_s), tell=tell)
            else:
                work()
        except Exception as error:
            tell(told(error))
            # Its port may be the autoscaler's by now, which then shows more than the page does.
            run("systemctl", "start", "--no-block", PAGE)
            raise Failed(f"{name}: {told(error)}") from error
        say(f"bootstrap: {name} done in {time.monotonic() - began_s:.1f} s")
        progress.done.append(name)
    progress.note()


def page(state: dict[str, Any]) -> str:
    """Write the list of steps as a page."""
    done, error = state.get("done", []), escape(state.get("error", ""))
    lines = []
    for name in state.get("steps", []):
        mark = "done" if name in done else "now" if name == state.get("now") else "to do"
        failed = f" - FAILED: {error}" if error and name == state.get("now") else ""
        lines.append(f"<li>[{mark}] {escape(name)}{failed}</li>")
    hint = "It is tried again until it works. More: journalctl -u exotide-bootstrap"
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
        wants_json = self.path.endswith(".json")
        body = (json.dumps(noted()) if wants_json else page(noted())).encode()
        self.send_response(503)
        kind = "application/json" if wants_json else "text/html; charset=utf-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Refresh", "3")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the journal for the steps."""


def noted() -> dict[str, Any]:
    """Read what was noted last; nothing before the first step."""
    return dict(json.loads(STATE.read_text())) if STATE.exists() else {}


def show_page() -> int:
    """Serve the page where the autoscaler, or later Grafana, does not yet; else end."""
    port = GRAFANA_PORT if noted().get("now") == GRAFANA else STATUS_PORT
    try:
        server = http.server.ThreadingHTTPServer(("", port), Page)
    except OSError as error:
        say(f"no page is needed, port {port} is served: {error.strerror}")
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

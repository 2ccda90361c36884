"""The real adapters: programs that are started and ended, requests, loops of requests."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from exotide.access.shell import Kind
from exotide.access.zones import Reached
from exotide.check.access import Access
from exotide.check.errors import ProgramFault, WebFault
from exotide.check.ports import Agent, Program
from exotide.check.programs import LocalAgent, LocalPrograms, contract_environment
from exotide.check.web import HttpLoad, HttpWeb, open_client

from .serving import serving

SECRET = "very-hush-hush"
ACCESS = Access(
    key="EXOkey",
    secret=SECRET,
    cloud=Reached(
        kind=Kind.EXOSCALE,
        zone="at-vie-1",
        endpoint="https://api-at-vie-1.exoscale.com/v2",
        time_s=None,
    ),
)
ENGINE = """#!/bin/sh
# Stands in for podman: notes its arguments and what it was told by the environment.
printf '%s\\n' "$@" >> "$0.words"
test "$1" = run || exit 0
printf '%s' "$EXOSCALE_SECRET" > "$0.secret"
trap 'exit 0' TERM
while :; do sleep 0.05; done
"""


def until_ended(agent: Agent) -> int:
    end_s = time.monotonic() + 10
    while agent.exit_code is None:
        assert time.monotonic() < end_s
        time.sleep(0.01)  # a process of its own ends when it ends
    return agent.exit_code


def test_the_environment_is_the_contract_s_and_names_no_endpoint_on_the_real_cloud() -> None:
    variables = contract_environment(ACCESS, pool_id="p1", port=8090)
    assert {name for name in variables if not name.startswith("EXOTIDE_")} == {
        "EXOSCALE_KEY",
        "EXOSCALE_SECRET",
        "EXOSCALE_ZONE",
        "EXOSCALE_ZONE_ID",
        "EXOSCALE_INSTANCEPOOL_ID",
        "TARGET_PORT",
        "LISTEN_PORT",
    }
    assert variables["EXOTIDE_LISTEN_ADDRESS"] == "127.0.0.1"


def test_an_installed_program_gets_nothing_else_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXOSCALE_API_SECRET", "the account's")
    monkeypatch.setenv("EXOTIDE_REFRESH_S", "nonsense")
    programs = LocalPrograms(access=ACCESS, folder=tmp_path)
    agent = programs.start(Program.DISCOVERY, pool_id="not a UUID")
    assert until_ended(agent) == 2
    words = agent.last_words()
    assert "EXOSCALE_INSTANCEPOOL_ID" in words
    assert "EXOTIDE_REFRESH_S" not in words
    assert SECRET not in words


def test_an_image_is_run_with_names_of_variables_and_not_their_values(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    programs = LocalPrograms(
        access=ACCESS,
        folder=tmp_path,
        engine=str(engine),
        images={Program.DISCOVERY: "localhost/discovery"},
    )
    agent = programs.start(Program.DISCOVERY, pool_id="p1")
    told = Path(f"{engine}.secret")
    end_s = time.monotonic() + 10
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < end_s
        time.sleep(0.01)  # the engine is a process of its own
    assert told.read_text() == SECRET
    (folder,) = tmp_path.glob("exotide-servicediscovery-*")
    (folder / "config.json").write_text("[]")
    assert agent.targets() == "[]"
    agent.ask_to_end()
    assert until_ended(agent) == 0
    agent.end()
    words = Path(f"{engine}.words").read_text().splitlines()
    assert "localhost/discovery" in words
    assert "EXOSCALE_SECRET" in words
    assert f"{folder}:/srv/service-discovery" in words
    assert words[-3:-1] == ["rm", "--force"]
    assert SECRET not in " ".join(words)


def test_a_program_that_ignores_term_is_ended_all_the_same(tmp_path: Path) -> None:
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    agent = LocalAgent(command, {}, tmp_path, port=1, grace_s=0.2)
    end_s = time.monotonic() + 10
    while "ready" not in agent.last_words():
        assert time.monotonic() < end_s
        time.sleep(0.01)  # TERM before the trap is set would end it
    agent.end()
    assert agent.exit_code == -9


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramFault, match="/no/engine cannot be run"):
        LocalAgent(["/no/engine"], {}, tmp_path, port=1)


class _Handler(BaseHTTPRequestHandler):
    seen: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.seen[self.path] += 1
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def test_a_page_is_given_whatever_its_status_and_silence_is_a_fault() -> None:
    with open_client() as client, serving(_Handler) as url:
        web = HttpWeb(client=client)
        assert (web.get(url).status, web.get(url).text) == (200, "OK")
        assert web.get(f"{url}/broken").status == 500
        with pytest.raises(WebFault, match="and no JSON"):
            web.get(url).json()
    with open_client() as client, pytest.raises(WebFault, match="does not answer"):
        HttpWeb(client=client).get(url)


def test_loops_ask_until_they_are_stopped_and_count_every_answer() -> None:
    with serving(_Handler) as url:
        loops = HttpLoad().start(f"{url}/load", loops=3)
        end_s = time.monotonic() + 10
        while _Handler.seen["/load"] < 9:
            assert time.monotonic() < end_s
            time.sleep(0.01)  # real threads make real requests
        answers = loops.stop()
        assert dict(answers) == {"200": _Handler.seen["/load"]}
    loops = HttpLoad().start(f"{url}/load", loops=1)
    loops.abandon()
    assert set(loops.stop()) <= {"ConnectError"}

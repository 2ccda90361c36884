"""The real program as a process of its own, against a cloud that misbehaves over real HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from .agent import JSON, Agent, environment, free_port, running, wait_until
from .fake_api import FakeApi, serving
from .test_webhook import OUTCOMES, fixture

INTERVAL_S = 1.5


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi()) as served:
        yield served


@pytest.fixture
def agent(api: FakeApi, tmp_path: Path) -> Iterator[Agent]:
    with running(api, tmp_path) as started:
        yield started


def sizes(api: FakeApi) -> list[int]:
    return [size for _, _, size in api.changes]


def gaps(api: FakeApi) -> list[float]:
    times = [at for at, _, _ in api.changes]
    return [later - earlier for earlier, later in pairwise(times)]


def failed_to_start(api: FakeApi, folder: Path, **settings: object) -> tuple[int, str]:
    environ = {
        name: value
        for name, value in environment(api, folder, **settings).items()
        if value != "unset"
    }
    done = subprocess.run(
        [sys.executable, "-m", "exotide_autoscaler"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stderr


def test_up_and_down_by_get_and_post_change_the_size_once_per_interval(
    api: FakeApi, agent: Agent
) -> None:
    began = time.monotonic()
    assert agent.hook("/up") == 200
    wait_until(lambda: api.size == 2)
    assert time.monotonic() - began < 1
    time.sleep(1.2)  # longer than webhooks count as repeats, shorter than the interval
    assert agent.hook("/down", b"") == 200
    wait_until(lambda: api.size == 1)
    assert all(gap >= INTERVAL_S for gap in gaps(api))
    time.sleep(INTERVAL_S)
    assert agent.hook("/down") == 200
    wait_until(lambda: "at-limit" in agent.reasons("down"))
    assert sizes(api) == [2, 1]


def test_a_down_right_after_a_growth_waits_and_is_not_lost(api: FakeApi, agent: Agent) -> None:
    api.boot_s = 2.0
    agent.hook("/up")
    wait_until(lambda: api.size == 2)
    agent.hook("/down")
    wait_until(lambda: "settling" in agent.reasons("down"))
    wait_until(lambda: api.size == 1)
    assert len(api.evicted) == 1


def test_two_webhooks_in_one_second_are_one_change(api: FakeApi, agent: Agent) -> None:
    agent.hook("/up")
    wait_until(lambda: api.size == 2)
    agent.hook("/up")
    time.sleep(2.5 * INTERVAL_S)
    assert sizes(api) == [2]


def test_a_thousand_webhooks_in_one_second_are_all_acknowledged_and_one_change(
    api: FakeApi, agent: Agent
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: agent.hook("/up"), range(1000)))
    took_s = time.monotonic() - began
    assert answers == [200] * 1000
    assert took_s < 10
    wait_until(lambda: api.changes)
    assert len(agent.logged("webhook_received")) == 1000
    assert len(api.changes) <= 1 + took_s / INTERVAL_S


def test_acknowledged_and_killed_the_intent_is_served_exactly_once_after_the_restart(
    api: FakeApi, tmp_path: Path
) -> None:
    api.mode = "500"
    with running(api, tmp_path) as agent:
        assert agent.hook("/up") == 200
        agent.kill()
    api.mode = "well"
    with running(api, tmp_path):
        wait_until(lambda: api.size == 2)
        time.sleep(2 * INTERVAL_S)
    assert sizes(api) == [2]


def test_killed_while_the_cloud_is_changing_the_size_it_is_not_changed_again(
    api: FakeApi, tmp_path: Path
) -> None:
    api.mode, api.changes_only, api.applies = "hang", True, True
    with running(api, tmp_path) as agent:
        assert agent.hook("/up") == 200
        wait_until(lambda: api.size == 2)
        agent.kill()
    api.mode = "well"
    with running(api, tmp_path) as agent:
        wait_until(lambda: "served" in agent.reasons("up"))
        time.sleep(2 * INTERVAL_S)
    assert sizes(api) == [2]
    assert api.attempts == 1


def test_killed_again_and_again_there_is_an_interval_between_changes(
    api: FakeApi, tmp_path: Path
) -> None:
    for _ in range(5):
        with running(api, tmp_path) as agent:
            agent.hook("/up")
            time.sleep(0.3)
            agent.kill()
    assert len(api.changes) >= 2
    assert all(gap >= INTERVAL_S for gap in gaps(api))


@pytest.mark.parametrize("fault", ["500", "429", "403", "html", "nonsense", "half-open", "reset"])
def test_while_the_cloud_misbehaves_the_pool_stays_and_the_intent_is_kept(
    api: FakeApi, tmp_path: Path, fault: str
) -> None:
    with running(api, tmp_path, EXOTIDE_API_TIMEOUT_S=0.3) as agent:
        api.mode = fault
        assert agent.hook("/up") == 200
        wait_until(lambda: "cloud-error" in agent.reasons("up"))
        assert api.changes == []
        assert agent.metric('exotide_autoscaler_intent_waiting{intent="up"}') == 1
        api.mode = "well"
        wait_until(lambda: api.size == 2)
    assert sizes(api) == [2]


def test_a_wrong_key_is_said_clearly_and_never_shown(api: FakeApi, agent: Agent) -> None:
    api.mode = "403"
    agent.hook("/up")
    wait_until(lambda: "cloud-error" in agent.reasons("up"))
    errors = [item for item in agent.decisions() if item["reason"] == "cloud-error"]
    text = errors[-1]["text"]
    assert "Unauthorized" in text
    assert "EXOSCALE_KEY" in text
    assert "testsecret" not in agent.log.read_text()


def test_a_cloud_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    api = FakeApi(port=free_port())
    with running(api, tmp_path) as agent:
        assert agent.hook("/up") == 200
        wait_until(lambda: "cloud-error" in agent.reasons())
        with serving(api):
            wait_until(lambda: api.size == 2)


def test_a_call_that_hangs_delays_neither_a_webhook_nor_term(api: FakeApi, tmp_path: Path) -> None:
    api.mode = "hang"
    with running(api, tmp_path, EXOTIDE_API_TIMEOUT_S=30) as agent:
        wait_until(lambda: api.reads > 0)
        began = time.monotonic()
        assert agent.hook("/up") == 200
        assert time.monotonic() - began < 0.5
        code, took_s = agent.terminate()
    assert code == 0
    assert took_s < 2


def test_term_ends_with_0_also_with_idle_and_half_sent_connections(agent: Agent) -> None:
    with (
        socket.create_connection(("127.0.0.1", agent.port)),
        socket.create_connection(("127.0.0.1", agent.port)) as slow,
    ):
        slow.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.1)
        code, took_s = agent.terminate()
    assert code == 0
    assert took_s < 5


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_real_servers_send_is_recorded_and_acted_on_as_it_should(
    api: FakeApi, agent: Agent, name: str
) -> None:
    wait_until(lambda: agent.reasons() == ["no-alert"])
    body = json.dumps(fixture(name)["body"]).encode()
    assert agent.hook("/up", body, **JSON) == 200
    if OUTCOMES[name] == "accepted":
        wait_until(lambda: api.size == 2)
    else:
        time.sleep(0.3)
        assert api.size == 1
    (line,) = agent.logged("webhook_received")
    assert line["outcome"] == OUTCOMES[name]


def test_bodies_that_are_too_large_or_broken_are_refused(api: FakeApi, agent: Agent) -> None:
    assert agent.hook("/up", b" " * 10_000_000) == 413
    assert agent.hook("/up", b"{" + b" " * 1_048_576, **JSON) == 413
    assert agent.hook("/up", b"{", **JSON) == 400
    outcomes = [line["outcome"] for line in agent.logged("webhook_received")]
    assert outcomes == ["too-large", "too-large", "malformed"]
    time.sleep(0.3)
    assert api.changes == []


def test_a_chunked_body_without_end_is_refused(agent: Agent) -> None:
    with socket.create_connection(("127.0.0.1", agent.port), timeout=10) as sender:
        sender.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            sender.sendall(b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
        assert sender.recv(100).startswith(b"HTTP/1.1 413 ")


def test_unknown_paths_and_methods_are_refused(api: FakeApi, agent: Agent) -> None:
    for path in ("/sideways", "/UP", "/up/up", "//up"):
        assert agent.hook(path) == 404
    for method in ("PATCH", "DELETE", "HEAD", "OPTIONS"):
        assert agent.request(method, "/up")[0] == 405
    assert agent.request("GET", "/decisions?limit=0")[0] == 400
    assert agent.request("GET", "/decisions?after=x")[0] == 400
    assert api.changes == []


@pytest.mark.parametrize(("method", "path"), [("PUT", "/up"), ("POST", "/up/"), ("GET", "/up/")])
def test_put_and_a_slash_at_the_end_mean_the_same_as_post(
    api: FakeApi, agent: Agent, method: str, path: str
) -> None:
    assert agent.request(method, path, b'{"status": "firing"}', JSON)[0] == 200
    wait_until(lambda: api.size == 2)


def test_with_a_token_only_those_who_know_it_are_heard(api: FakeApi, tmp_path: Path) -> None:
    body = b'{"status": "firing"}'
    signature = hmac.new(b"sekret", body, hashlib.sha256).hexdigest()
    with running(api, tmp_path, EXOTIDE_WEBHOOK_TOKEN="sekret") as agent:
        assert agent.hook("/up") == 401
        assert agent.hook("/up", None, Authorization="Bearer wrong") == 401
        assert agent.hook("/up", b"other", **{"X-Grafana-Alerting-Signature": signature}) == 401
        time.sleep(0.3)
        assert api.changes == []
        assert agent.hook("/up", None, Authorization="Bearer sekret") == 200
        assert agent.hook("/up", body, **{"X-Grafana-Alerting-Signature": signature}) == 200
        assert agent.hook("/up", None, Authorization="Basic Z3JhZmFuYTpzZWtyZXQ=") == 200
        assert "sekret" not in agent.log.read_text()


def test_a_listener_of_its_own_for_reading_takes_no_webhooks(api: FakeApi, tmp_path: Path) -> None:
    with running(api, tmp_path, EXOTIDE_METRICS_PORT=free_port()) as agent:
        for path in ("/decisions", "/", "/metrics", "/livez", "/readyz"):
            assert agent.request("GET", path, port=agent.read_port)[0] == 200
        assert agent.request("GET", "/up", port=agent.read_port)[0] == 404
        assert agent.request("GET", "/decisions")[0] == 404
        assert agent.request("GET", "/metrics")[0] == 200
        assert agent.terminate()[0] == 0


def test_decisions_come_oldest_first_with_the_fields_that_others_rely_on(
    api: FakeApi, agent: Agent
) -> None:
    agent.hook("/up")
    wait_until(lambda: "served" in agent.reasons())
    found = agent.decisions()
    assert [item["id"] for item in found] == sorted(item["id"] for item in found)
    alert = next(item for item in found if item["reason"] == "alert")
    assert set(alert) == {"id", "at", "size", "wanted", "reason", "intent", "text"}
    assert (alert["size"], alert["wanted"], alert["intent"]) == (1, 2, "up")
    assert abs(alert["at"] - time.time()) < 60
    _, later = agent.request("GET", f"/decisions?after={alert['id']}&limit=1")
    assert [item["id"] for item in json.loads(later)["decisions"]] == [alert["id"] + 1]
    assert agent.metric("exotide_autoscaler_pool_size") == 2


def test_a_corrupt_journal_is_kept_aside_and_the_program_starts(
    api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"garbage" * 1000)
    with running(api, tmp_path) as agent:
        (line,) = agent.logged("journal_was_corrupt")
        assert Path(line["moved_to"]).read_bytes() == b"garbage" * 1000
        agent.hook("/up")
        wait_until(lambda: api.size == 2)


def test_a_second_autoscaler_with_the_same_journal_does_not_start_and_says_why(
    api: FakeApi, tmp_path: Path
) -> None:
    with running(api, tmp_path) as agent:
        code, text = failed_to_start(api, tmp_path, LISTEN_PORT=free_port())
        assert (code, "EXOTIDE_JOURNAL" in text) == (2, True)
        assert f"held by process {agent.process.pid} " in text
        agent.hook("/up")
        wait_until(lambda: api.size == 2)
    assert [file.name for file in tmp_path.glob("*.sqlite")] == ["journal.sqlite"]


def test_a_growth_that_fell_back_is_made_again(api: FakeApi, agent: Agent) -> None:
    api.boot_s = 60
    agent.hook("/up")
    wait_until(lambda: "settling" in agent.reasons("up"))
    api.boot_s = 0
    api.fall_back(1)
    wait_until(lambda: api.size == 2)
    wait_until(lambda: "served" in agent.reasons("up"))
    assert sizes(api) == [2, 2]


def test_a_pool_that_never_settles_is_said_and_blocks_nothing(api: FakeApi, tmp_path: Path) -> None:
    settings = {"EXOTIDE_SETTLE_S": 3, "EXOTIDE_MAX_SIZE": 2, "EXOTIDE_ENFORCE_LIMITS": 0}
    with running(api, tmp_path, **settings) as agent:
        api.comes = False
        agent.hook("/up")
        wait_until(lambda: "settling" in agent.reasons("up"))
        assert "has not settled for" in agent.request("GET", "/readyz")[1]
        since = agent.metric("exotide_autoscaler_unsettled_since_timestamp_seconds")
        assert since is not None
        assert abs(since - time.time()) < 60
        wait_until(lambda: "unsettled" in agent.reasons("up"))
        agent.hook("/down")
        wait_until(lambda: api.size == 1)
        wait_until(lambda: agent.request("GET", "/readyz")[1] == "OK\n")
    assert api.evicted == []


def test_a_protected_member_stays_and_the_next_one_goes(tmp_path: Path) -> None:
    with serving(FakeApi(size=3)) as api, running(api, tmp_path) as agent:
        oldest, next_oldest = api.members[2], api.members[1]
        api.protected = {oldest}
        agent.hook("/down")
        wait_until(lambda: api.evicted == [next_oldest])
        (refused,) = [item for item in agent.decisions() if item["reason"] == "member-refused"]
        assert oldest in refused["text"]
        assert "check" not in refused["text"]


def test_a_member_that_fails_its_health_check_goes_first(tmp_path: Path) -> None:
    with serving(FakeApi(size=3, failing=["198.51.100.1"])) as api, running(api, tmp_path) as agent:
        youngest = api.members[0]
        agent.hook("/down")
        wait_until(lambda: api.evicted == [youngest])


def test_limits_that_are_set_hold_without_a_webhook(tmp_path: Path) -> None:
    settings = {"EXOTIDE_MIN_SIZE": 2, "EXOTIDE_MAX_SIZE": 3}
    with serving(FakeApi(size=5)) as api, running(api, tmp_path, **settings):
        wait_until(lambda: api.size == 3)
        assert sizes(api) == [4, 3]
        api.resize("by hand", 1)
        wait_until(lambda: api.size == 2)


def test_limits_that_are_not_enforced_leave_a_pool_alone_that_was_resized_by_hand(
    tmp_path: Path,
) -> None:
    settings = {"EXOTIDE_MAX_SIZE": 3, "EXOTIDE_ENFORCE_LIMITS": 0}
    with serving(FakeApi(size=5)) as api, running(api, tmp_path, **settings) as agent:
        wait_until(lambda: agent.reasons() == ["no-alert"])
        time.sleep(2 * INTERVAL_S)
        assert api.changes == []


ALERT = {"status": "firing", "fingerprint": "f", "startsAt": "2026-11-23T20:29:00Z"}


def body_of(*alerts: Mapping[str, object], **document: object) -> bytes:
    return json.dumps({"status": "firing", "alerts": alerts, **document}).encode()


def test_an_alert_that_is_over_before_it_was_served_grows_nothing(
    api: FakeApi, tmp_path: Path
) -> None:
    api.mode = "500"
    with running(api, tmp_path) as agent:
        assert agent.hook("/up", body_of(ALERT), **JSON) == 200
        over = body_of({**ALERT, "status": "resolved"}, status="resolved")
        status, text = agent.request("POST", "/up", over, JSON)
        assert (status, "withdrawn" in text) == (200, True)
        api.mode = "well"
        wait_until(lambda: agent.reasons()[-1] == "no-alert")
        time.sleep(INTERVAL_S)
        assert "withdrawn" in agent.reasons("up")
    assert api.changes == []


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (body_of({**ALERT, "labels": {"alertname": "TestAlert"}}), "test"),
        (b'{"ruleId": 0, "state": "alerting", "ruleName": "Test notification"}', "test"),
        (body_of({**ALERT, "labels": {"autoscale": "down"}}), "contradiction"),
        (body_of({**ALERT, "annotations": {"grafana_state_reason": "NoData"}}), "no-data"),
    ],
)
def test_what_is_no_wish_is_recorded_and_answered_and_nothing_is_done(
    api: FakeApi, agent: Agent, body: bytes, outcome: str
) -> None:
    status, text = agent.request("POST", "/up", body, JSON)
    assert (status, text.startswith("recorded")) == (200, True)
    (line,) = agent.logged("webhook_received")
    assert line["outcome"] == outcome
    time.sleep(0.3)
    assert api.changes == []
    assert f"/up {outcome}" in agent.request("GET", "/")[1]


@pytest.mark.parametrize("name", ["a\ud800b", "\x00", ["x"], {"y": 1}, 7, "x" * 100_000])
def test_a_poisoned_webhook_harms_no_other(api: FakeApi, agent: Agent, name: object) -> None:
    poison = body_of({**ALERT, "labels": {"alertname": name}}, commonLabels={"alertname": name})
    with ThreadPoolExecutor(8) as pool:
        bodies = [poison if number % 2 else None for number in range(40)]
        answers = list(pool.map(lambda body: agent.hook("/up", body, **JSON), bodies))
    assert set(answers) == {200}
    assert agent.request("GET", "/readyz")[0] == 200
    assert agent.request("GET", "/")[0] == 200


def test_strict_bodies_are_refused_with_the_next_step(api: FakeApi, tmp_path: Path) -> None:
    with running(api, tmp_path, EXOTIDE_STRICT_BODIES=1) as agent:
        status, text = agent.request("POST", "/up", b'{"text": "RECOVERY"}', JSON)
        assert (status, "EXOTIDE_STRICT_BODIES" in text) == (400, True)
        assert agent.hook("/up") == 200
        wait_until(lambda: api.size == 2)
    assert sizes(api) == [2]


def test_missing_settings_are_listed_all_at_once_with_exit_code_2(
    api: FakeApi, tmp_path: Path
) -> None:
    code, text = failed_to_start(
        api,
        tmp_path,
        EXOSCALE_KEY="unset",
        EXOSCALE_SECRET="unset",
        EXOTIDE_MIN_SIZE=3,
        EXOTIDE_MAX_SIZE=2,
    )
    assert code == 2
    assert text.startswith("error: 3 settings are missing or wrong\n")
    for name in ("EXOSCALE_KEY", "EXOSCALE_SECRET", "EXOTIDE_MAX_SIZE"):
        assert f"  {name} " in text


def test_a_port_in_use_is_told_by_the_name_of_its_setting(api: FakeApi, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = failed_to_start(api, tmp_path, LISTEN_PORT=port)
        assert (code, "LISTEN_PORT" in text, "in use" in text) == (2, True, True)
        settings = {"LISTEN_PORT": free_port(), "EXOTIDE_METRICS_PORT": port}
        code, text = failed_to_start(api, tmp_path, **settings)
        assert (code, "EXOTIDE_METRICS_PORT" in text) == (2, True)


def test_a_journal_in_a_folder_that_is_none_is_told_by_the_name_of_its_setting(
    api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = {"EXOTIDE_JOURNAL": tmp_path / "file" / "x", "LISTEN_PORT": free_port()}
    code, text = failed_to_start(api, tmp_path, **settings)
    assert (code, "EXOTIDE_JOURNAL" in text) == (2, True)


def test_a_full_disk_is_answered_with_503_and_never_with_a_false_200(
    api: FakeApi, tmp_path: Path
) -> None:
    with running(api, tmp_path) as agent:
        wait_until(lambda: agent.reasons() == ["no-alert"])
        limit_file_size(agent, 0)
        status, text = agent.request("GET", "/up")
        assert (status, "repeat" in text) == (503, True)
        assert agent.request("GET", "/readyz")[0] == 503
        limit_file_size(agent, -1)
        assert agent.hook("/up") == 200
        wait_until(lambda: api.size == 2)
    assert sizes(api) == [2]


def limit_file_size(agent: Agent, limit: int) -> None:
    """Python ignores SIGXFSZ, so that writing beyond the limit fails as on a full disk."""
    import resource  # noqa: PLC0415 - Linux only

    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (limit, -1))


def test_the_status_page_shows_size_and_decisions_and_escapes_what_others_say(
    api: FakeApi, agent: Agent
) -> None:
    api.mode = "html"
    agent.hook("/up")
    wait_until(lambda: "cloud-error" in agent.reasons("up"))
    _, page = agent.request("GET", "/")
    assert "<html>maintenance" not in page
    assert "NonsenseAnswer" in page


def test_the_status_page_shows_what_others_have_left_to_say_as_long_as_they_do(
    api: FakeApi, tmp_path: Path
) -> None:
    notice = tmp_path / "notice"
    with running(api, tmp_path, EXOTIDE_NOTICE=notice) as agent:
        wait_until(lambda: agent.request("GET", "/readyz")[1] == "OK\n")
        notice.write_text("install Grafana: <b>404</b>\n")
        assert "<p>install Grafana: &lt;b&gt;404&lt;/b&gt;</p>" in agent.request("GET", "/")[1]
        assert agent.request("GET", "/readyz") == (200, "OK\ninstall Grafana: <b>404</b>\n")
        notice.write_bytes(b"\xff" * 100_000)
        assert agent.request("GET", "/")[0] == 200
        notice.write_text("")
        assert agent.request("GET", "/readyz")[1] == "OK\n"


def test_many_readers_and_writers_at_once_see_no_error(api: FakeApi, agent: Agent) -> None:
    failures: list[int] = []

    def call(path: str) -> None:
        for _ in range(20):
            status, _ = agent.request("GET", path)
            if status != 200:
                failures.append(status)

    paths = ["/up", "/down", "/decisions", "/metrics", "/", "/readyz"]
    threads = [threading.Thread(target=call, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

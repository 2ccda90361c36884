from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from exotide_autoscaler.domain import Intent
from exotide_autoscaler.inbox import AlertKey
from exotide_autoscaler.webhook import Message, Outcome, authorised, interpret
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parent / "fixtures"
OUTCOMES = {  # sent to /up
    "alertmanager-0.27-firing": Outcome.ACCEPTED,
    "grafana-12.4-unified-DatasourceError": Outcome.NO_DATA,
    "grafana-12.4-unified-DatasourceNoData": Outcome.NO_DATA,
    "grafana-12.4-unified-firing": Outcome.ACCEPTED,
    "grafana-12.4-unified-firing-up": Outcome.ACCEPTED,
    "grafana-12.4-unified-resolved": Outcome.RESOLVED,
    "grafana-9.4-legacy-alerting": Outcome.ACCEPTED,
    "grafana-9.4-legacy-no_data": Outcome.NO_DATA,
    "grafana-9.4-unified-firing-down": Outcome.CONTRADICTION,
    "grafana-9.4-unified-firing-up": Outcome.ACCEPTED,
}
JSON = "application/json"
KEYS = ["alerts", "status", "state", "labels", "commonLabels", "annotations", "alertname"]
KEYS += ["autoscale", "fingerprint", "startsAt", "ruleId", "ruleName", "grafana_state_reason"]
FIRING = {"status": "firing", "labels": {"alertname": "CPU high"}}
MISSING = {"status": "firing", "labels": {"alertname": "DatasourceNoData"}}
OVER = {"status": "resolved", "labels": {"alertname": "CPU high"}}


def firing(why: str = "", **labels: str) -> dict[str, Any]:
    annotations = {"grafana_state_reason": why} if why else {}
    return {"status": "firing", "labels": labels, "annotations": annotations}


def outcome_of(document: object, content_type: str = JSON) -> Outcome:
    return interpret(Intent.UP, json.dumps(document).encode(), content_type).outcome


def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    return found


def test_every_captured_request_has_an_expected_outcome() -> None:
    assert {file.stem for file in FIXTURES.glob("*.json")} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_request_that_a_real_server_sent_has_its_right_outcome(name: str) -> None:
    request = fixture(name)
    content_type = request["headers"]["Content-Type"]
    assert outcome_of(request["body"], content_type) is OUTCOMES[name]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({"state": "ok"}, Outcome.RESOLVED, id="legacy-ok"),
        pytest.param({"state": "paused"}, Outcome.NOT_FIRING, id="legacy-paused"),
        pytest.param({"state": "pending"}, Outcome.NOT_FIRING, id="legacy-pending"),
        pytest.param({"state": "Alerting"}, Outcome.ACCEPTED, id="legacy-capital"),
        pytest.param({"status": "resolved", "alerts": []}, Outcome.RESOLVED, id="resolved-empty"),
        pytest.param({"status": "suppressed"}, Outcome.NOT_FIRING, id="unknown-status"),
        pytest.param({"alerts": [OVER, FIRING]}, Outcome.ACCEPTED, id="one-of-two-still-fires"),
        pytest.param({"alerts": [OVER, OVER]}, Outcome.RESOLVED, id="all-over"),
        pytest.param({"alerts": [MISSING]}, Outcome.NO_DATA, id="only-missing-data"),
        pytest.param({"alerts": [MISSING, FIRING]}, Outcome.ACCEPTED, id="missing-data-and-firing"),
        pytest.param({"alerts": ["x", 7]}, Outcome.NOT_FIRING, id="alerts-that-are-none"),
        pytest.param({"alerts": "x", "status": 7}, Outcome.ACCEPTED, id="wrong-types-say-nothing"),
        pytest.param({"hello": "world"}, Outcome.ACCEPTED, id="no-alert-at-all"),
        pytest.param([], Outcome.ACCEPTED, id="a-list"),
        pytest.param({"state": "firing"}, Outcome.ACCEPTED, id="state-firing"),
        pytest.param({"status": "Alerting"}, Outcome.ACCEPTED, id="status-alerting"),
        pytest.param({"status": "ok"}, Outcome.RESOLVED, id="status-ok"),
        pytest.param({"state": "Normal"}, Outcome.RESOLVED, id="state-normal"),
        pytest.param({"alerts": [firing(why="NoData")]}, Outcome.NO_DATA, id="own-name-no-data"),
        pytest.param({"alerts": [firing(why="Error")]}, Outcome.NO_DATA, id="own-name-error"),
        pytest.param(
            {"alerts": [firing(why="NoData, KeepLast")]}, Outcome.NO_DATA, id="several-reasons"
        ),
        pytest.param(
            {"alerts": [FIRING], "commonAnnotations": {"grafana_state_reason": "MissingSeries"}},
            Outcome.NO_DATA,
            id="reason-common-to-all",
        ),
        pytest.param({"alerts": [firing(why="Updated")]}, Outcome.ACCEPTED, id="another-reason"),
        pytest.param({"alerts": [firing(alertname="TestAlert")]}, Outcome.TEST, id="test-button"),
        pytest.param({"ruleId": 0, "state": "alerting"}, Outcome.TEST, id="legacy-test-by-id"),
        pytest.param(
            {"ruleName": "Test notification", "state": "alerting"}, Outcome.TEST, id="legacy-test"
        ),
        pytest.param({"alerts": [firing(autoscale="down")]}, Outcome.CONTRADICTION, id="says-down"),
        pytest.param({"alerts": [firing(autoscale=" UP ")]}, Outcome.ACCEPTED, id="says-up"),
        pytest.param({"alerts": [firing(autoscale="web")]}, Outcome.ACCEPTED, id="says-neither"),
        pytest.param(
            {"alerts": [firing(autoscale="down"), FIRING]}, Outcome.ACCEPTED, id="one-says-nothing"
        ),
        pytest.param(
            {"status": "firing", "commonLabels": {"autoscale": "down"}},
            Outcome.CONTRADICTION,
            id="common-label-says-down",
        ),
        pytest.param(
            {"alerts": [{"status": "firing", "labels": {"alertname": ["x"]}}]},
            Outcome.ACCEPTED,
            id="a-name-that-is-a-list",
        ),
        pytest.param("up", Outcome.ACCEPTED, id="a-string"),
    ],
)
def test_interpret(document: object, expected: Outcome) -> None:
    assert outcome_of(document) is expected


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_promises_json_and_is_not_asks_for_nothing(body: bytes) -> None:
    assert interpret(Intent.UP, body, "application/json; charset=utf-8").outcome is (
        Outcome.MALFORMED
    )


def test_other_bodies_are_ignored_unless_they_are_alerts_all_the_same() -> None:
    form = "application/x-www-form-urlencoded"
    assert interpret(Intent.DOWN, b"a=1", form).outcome is Outcome.ACCEPTED
    assert interpret(Intent.DOWN, b"", JSON).outcome is Outcome.ACCEPTED
    assert outcome_of({"status": "resolved"}, form) is Outcome.RESOLVED


def understood(document: object, intent: Intent = Intent.UP, **options: bool) -> Message:
    return interpret(intent, json.dumps(document).encode(), JSON, **options)


def test_alerts_are_known_by_fingerprint_and_start() -> None:
    first = {"status": "firing", "fingerprint": "f", "startsAt": "1"}
    over = {"status": "resolved", "fingerprint": "g", "startsAt": "2"}
    message = understood({"status": "firing", "alerts": [first, over, first]})
    assert message.firing == (AlertKey(fingerprint="f", starts_at="1"),)
    assert message.resolved == (AlertKey(fingerprint="g", starts_at="2"),)


def test_an_alert_without_a_fingerprint_asks_and_is_not_lasting() -> None:
    assert understood({"state": "alerting"}).firing == (AlertKey(),)
    assert understood({"hello": "world"}).firing == ()


def test_what_people_read_can_be_stored_and_logged() -> None:
    message = understood({"commonLabels": {"alertname": "a\ud800\x00\n" + "b" * 999}, "state": ""})
    assert message.alert.startswith("a???b")
    assert len(message.alert.encode()) == 200


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"text": "RECOVERY: web"}, id="slack"),
        pytest.param({"event": "alert", "alert": {"status": "ok"}}, id="mackerel"),
        pytest.param({"event_value": "0"}, id="zabbix"),
        pytest.param([1], id="a-list"),
        pytest.param({"status": 7}, id="status-that-is-a-number"),
    ],
)
def test_strict_bodies_refuse_what_is_no_known_alert(document: object) -> None:
    assert understood(document).outcome is Outcome.ACCEPTED
    assert understood(document, strict=True).outcome is Outcome.FOREIGN
    assert interpret(Intent.UP, b"a=1", "text/plain", strict=True).outcome is Outcome.FOREIGN


@pytest.mark.parametrize("name", OUTCOMES)
def test_strict_bodies_change_nothing_for_real_senders(name: str) -> None:
    assert understood(fixture(name)["body"], strict=True).outcome is OUTCOMES[name]
    assert interpret(Intent.UP, b"", "", strict=True).outcome is Outcome.ACCEPTED


@given(st.binary(max_size=200), st.sampled_from([JSON, "text/plain", ""]))
def test_no_body_can_break_the_interpreter(body: bytes, content_type: str) -> None:
    message = interpret(Intent.DOWN, body, content_type)
    assert message.intent is Intent.DOWN


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.sampled_from(["firing", "resolved", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYS),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_document_can_break_the_interpreter(document: object) -> None:
    assert outcome_of(document) in Outcome


def basic(user: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}"}


def signed(body: bytes, secret: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-grafana-alerting-signature": signature}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"authorization": "Bearer s3cret"}, True, id="bearer"),
        pytest.param({"authorization": "bearer  s3cret "}, True, id="bearer-in-lower-case"),
        pytest.param({"authorization": "Bearer s3cre"}, False, id="shorter-bearer"),
        pytest.param({"authorization": "Bearer s3cret\u00e9"}, False, id="not-ascii"),
        pytest.param({"authorization": "Bearer"}, False, id="empty-bearer"),
        pytest.param(basic("grafana", "s3cret"), True, id="basic"),
        pytest.param(basic("", "s3cret"), True, id="basic-without-user"),
        pytest.param(basic("s3cret", "grafana"), False, id="basic-wrong-way-round"),
        pytest.param({"authorization": "Basic %%%"}, False, id="basic-not-base64"),
        pytest.param(signed(b"body", "s3cret"), True, id="hmac"),
        pytest.param(signed(b"other", "s3cret"), False, id="hmac-of-another-body"),
        pytest.param(signed(b"body", "guess"), False, id="hmac-with-another-key"),
        pytest.param(
            {"authorization": "Bearer no", **signed(b"body", "s3cret")}, False, id="both-one-wrong"
        ),
    ],
)
def test_authorised(headers: dict[str, str], expected: bool) -> None:
    assert authorised(headers, b"body", "s3cret") is expected


def test_the_basic_header_that_grafana_9_really_sent_is_understood() -> None:
    headers = fixture("grafana-9.4-unified-firing-down")["headers"]
    assert authorised({"authorization": headers["Authorization"]}, b"", "s3cret")


def test_without_a_token_everybody_may_call() -> None:
    assert authorised({}, b"", "")

"""What a webhook says, and whether its sender may say it. Pure, apart from constant-time hashes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exotide_autoscaler.domain import Intent
from exotide_autoscaler.inbox import AlertKey

MAX_BODY_BYTES: Final = 1024 * 1024
SIGNATURE_HEADER: Final = "x-grafana-alerting-signature"
_NO_DATA_ALERTS: Final = frozenset({"DatasourceNoData", "DatasourceError"})
_NO_DATA_REASONS: Final = frozenset({"nodata", "error", "missingseries"})
_TEST_ALERTS: Final = frozenset({"TestAlert", "Test notification"})
_FIRING: Final = frozenset({"", "firing", "alerting"})
_RESOLVED: Final = frozenset({"resolved", "ok", "normal"})
_MOST_ALERTS: Final = 256
_LONGEST_TEXT: Final = 200


class Outcome(StrEnum):
    """What became of a webhook. Used verbatim as log value and as metric label."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    DUPLICATE = "duplicate"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"
    NO_DATA = "no-data"
    NOT_FIRING = "not-firing"
    TEST = "test"
    CONTRADICTION = "contradiction"
    FOREIGN = "foreign"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    UNAUTHORISED = "unauthorised"
    NOT_STORED = "not-stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A webhook, understood."""

    intent: Intent
    outcome: Outcome = Outcome.ACCEPTED
    alert: str = ""
    """The alert's name, for people; empty if the body names none."""
    firing: tuple[AlertKey, ...] = ()
    """The alerts that ask; empty if somebody asks without an alert."""
    resolved: tuple[AlertKey, ...] = ()
    """The alerts that are over."""


def interpret(intent: Intent, body: bytes, content_type: str, *, strict: bool = False) -> Message:
    """
    Decide what a webhook asks for.

    No body, a body that is no alert, and a firing alert all mean what the path says. An alert that
    is over, or that only tells about missing data, asks for nothing: no data is not low load. Nor
    does a test, or an alert whose label `autoscale` names the other direction.
    A body that claims to be JSON and is not asks for nothing either, since it may have been an
    alert of that kind.

    Args:
        strict: Refuse each body that is no alert of Alertmanager or Grafana.
    """
    if not body.strip():
        return Message(intent=intent)
    foreign = Outcome.FOREIGN if strict else Outcome.ACCEPTED
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        is_json = content_type.partition(";")[0].strip().lower() in {
            "application/json",
            "text/json",
        }
        return Message(intent=intent, outcome=Outcome.MALFORMED if is_json else foreign)
    if not isinstance(document, dict) or not _is_alert(document):
        return Message(intent=intent, outcome=foreign)
    return _understood(intent, document)


def _is_alert(document: Mapping[str, object]) -> bool:
    words = (document.get("status"), document.get("state"))
    return isinstance(document.get("alerts"), list) or any(isinstance(word, str) for word in words)


def _understood(intent: Intent, document: Mapping[str, object]) -> Message:
    alerts = document.get("alerts")
    listed = [each for each in alerts if isinstance(each, dict)] if isinstance(alerts, list) else []
    verdicts = [(_judge_alert(intent, alert, document), _key(alert)) for alert in listed]
    if alerts and isinstance(alerts, list):
        outcomes = [outcome for outcome, _ in verdicts]
        outcome = outcomes[0] if outcomes else Outcome.NOT_FIRING
        if Outcome.ACCEPTED in outcomes:
            outcome = _judge_state(document)
    else:
        outcome = _judge_whole(intent, document)
        verdicts = [(outcome, AlertKey())]
    return Message(
        intent=intent,
        outcome=outcome,
        alert=_storable(_name(document)),
        firing=_distinct(verdicts, Outcome.ACCEPTED) if outcome is Outcome.ACCEPTED else (),
        resolved=tuple(key for key in _distinct(verdicts, Outcome.RESOLVED) if key.fingerprint),
    )


def _distinct(
    verdicts: Sequence[tuple[Outcome, AlertKey]], wanted: Outcome
) -> tuple[AlertKey, ...]:
    found = dict.fromkeys(key for outcome, key in verdicts if outcome is wanted)
    return tuple(found)[:_MOST_ALERTS]


def _judge_whole(intent: Intent, document: Mapping[str, object]) -> Outcome:
    """An alert that lists none: legacy alerting."""
    rule = document.get("ruleId", 1)
    if rule in (0, "0") or _name(document) in _TEST_ALERTS:
        return Outcome.TEST
    return _judge_alert(intent, {"labels": document.get("commonLabels")}, document)


def _judge_alert(
    intent: Intent, alert: Mapping[str, object], document: Mapping[str, object]
) -> Outcome:
    name = _text(alert, "labels", "alertname") or _name(document)
    if name in _TEST_ALERTS:
        return Outcome.TEST
    if "status" in alert:
        outcome = _judge_state({"status": alert["status"]})
    else:
        outcome = _judge_state(document)
    if outcome is not Outcome.ACCEPTED:
        return outcome
    if name in _NO_DATA_ALERTS or _lacks_data(alert) or _lacks_data(document):
        return Outcome.NO_DATA
    if _other_direction(intent, alert):
        return Outcome.CONTRADICTION
    return outcome


def _lacks_data(part: Mapping[str, object]) -> bool:
    """Grafana names why an alert is in its state; several reasons are joined by commas."""
    reasons = {
        word.strip().lower()
        for place in ("annotations", "commonAnnotations")
        for word in _text(part, place, "grafana_state_reason").split(",")
    }
    return bool(reasons & _NO_DATA_REASONS)


def _other_direction(intent: Intent, alert: Mapping[str, object]) -> bool:
    said = _text(alert, "labels", "autoscale").strip().lower()
    return said in {Intent.UP, Intent.DOWN} and said != intent


def _judge_state(document: Mapping[str, object]) -> Outcome:
    """Unified alerting and Alertmanager say `status`, legacy alerting says `state`."""
    words = {_word(document, "status"), _word(document, "state")}
    if words & _RESOLVED:
        return Outcome.RESOLVED
    if words & {"no_data", "nodata"}:
        return Outcome.NO_DATA
    return Outcome.ACCEPTED if words <= _FIRING else Outcome.NOT_FIRING


def _word(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value.strip().lower() if isinstance(value, str) else ""


def _text(document: Mapping[str, object], place: str, key: str) -> str:
    """A text inside an object inside the document; empty if anything there is something else."""
    inner = document.get(place)
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _name(document: Mapping[str, object]) -> str:
    for place in ("commonLabels", "groupLabels"):
        if name := _text(document, place, "alertname"):
            return name
    rule = document.get("ruleName")
    return rule if isinstance(rule, str) else ""


def _key(alert: Mapping[str, object]) -> AlertKey:
    fingerprint, starts_at = alert.get("fingerprint"), alert.get("startsAt")
    if not isinstance(fingerprint, str) or not fingerprint:
        return AlertKey()
    return AlertKey(
        fingerprint=_storable(fingerprint),
        starts_at=_storable(starts_at) if isinstance(starts_at, str) else "",
    )


def _storable(text: str) -> str:
    """Text that a database and a log take: no lone surrogates, no control characters, short."""
    clean = "".join(char if char.isprintable() else "?" for char in text[:_LONGEST_TEXT])
    return clean.encode("utf-8", "replace").decode("utf-8")


def authorised(headers: Mapping[str, str], body: bytes, token: str) -> bool:
    """
    Whether the sender knows the token; header names in lower case.

    Three ways, for what senders can do: `Bearer <token>`; Basic with the token as password (Grafana
    before 9.3.4 sends no Bearer); or Grafana's HMAC-SHA256 of the body with the token as its key.
    Comparisons take the same time whatever is sent.
    """
    if not token:
        return True
    secret = token.encode()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return _same(credentials.encode(), secret)
    if scheme.lower() == "basic":
        return _same(_password(credentials), secret)
    if signature := headers.get(SIGNATURE_HEADER):
        expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return _same(signature.strip().lower().encode(), expected.encode())
    return False


def _same(given: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(given, expected)


def _password(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""

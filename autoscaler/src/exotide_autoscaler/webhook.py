"""What a webhook says, and whether its sender may say it. Pure, apart from constant-time hashes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exotide_autoscaler.domain import Intent

MAX_BODY_BYTES: Final = 1024 * 1024
SIGNATURE_HEADER: Final = "x-grafana-alerting-signature"
_NO_DATA_ALERTS: Final = frozenset({"DatasourceNoData", "DatasourceError"})


class Outcome(StrEnum):
    """What became of a webhook. Used verbatim as log value and as metric label."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    NO_DATA = "no-data"
    NOT_FIRING = "not-firing"
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


def interpret(intent: Intent, body: bytes, content_type: str) -> Message:
    """
    Decide what a webhook asks for.

    No body, a body that is no alert, and a firing alert all mean what the path says. An alert that
    is over, or that only tells about missing data, asks for nothing: no data is not low load.
    A body that claims to be JSON and is not asks for nothing either, since it may have been an
    alert of that kind.
    """
    is_json = content_type.partition(";")[0].strip().lower() in {"application/json", "text/json"}
    if not body.strip():
        return Message(intent=intent)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        outcome = Outcome.MALFORMED if is_json else Outcome.ACCEPTED
        return Message(intent=intent, outcome=outcome)
    if not isinstance(document, dict):
        return Message(intent=intent)
    return Message(intent=intent, outcome=_judge(document), alert=_name(document)[:200])


def _judge(document: Mapping[str, object]) -> Outcome:
    alerts = document.get("alerts")
    if isinstance(alerts, list) and alerts:
        outcomes = [_judge_alert(alert, document) for alert in alerts if isinstance(alert, dict)]
        if Outcome.ACCEPTED in outcomes:
            return _judge_state(document)
        return outcomes[0] if outcomes else Outcome.NOT_FIRING
    if _name(document) in _NO_DATA_ALERTS:
        return Outcome.NO_DATA
    return _judge_state(document)


def _judge_alert(alert: Mapping[str, object], document: Mapping[str, object]) -> Outcome:
    labels = alert.get("labels")
    name = labels.get("alertname") if isinstance(labels, dict) else None
    if (name or _name(document)) in _NO_DATA_ALERTS:
        return Outcome.NO_DATA
    return _judge_state({"status": alert.get("status", document.get("status"))})


def _judge_state(document: Mapping[str, object]) -> Outcome:
    """Unified alerting and Alertmanager say `status`, legacy alerting says `state`."""
    status, state = _word(document, "status"), _word(document, "state")
    if "resolved" in {status, state} or state == "ok":
        return Outcome.RESOLVED
    if "no_data" in {status, state}:
        return Outcome.NO_DATA
    if status not in {"", "firing"} or state not in {"", "alerting"}:
        return Outcome.NOT_FIRING
    return Outcome.ACCEPTED


def _word(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value.strip().lower() if isinstance(value, str) else ""


def _name(document: Mapping[str, object]) -> str:
    for key in ("commonLabels", "groupLabels"):
        labels = document.get(key)
        if isinstance(labels, dict) and isinstance(name := labels.get("alertname"), str):
            return name
    name = document.get("ruleName")
    return name if isinstance(name, str) else ""


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

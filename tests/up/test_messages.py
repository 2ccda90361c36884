"""What is understood of Terraform's messages; the lines are the real one's, shortened."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exotide.up import text
from exotide.up.messages import (
    PAUSES_S,
    Change,
    Outputs,
    Summary,
    Trouble,
    Working,
    pause_s,
    read,
)

HOOK = '{"resource":{"addr":"module.pool.exoscale_instance_pool.members"},"action":"create"'
OUTPUTS = (
    '{"cost_eur_per_hour":{"sensitive":false,"value":{"max":0.14635,"min":0.06814}},'
    '"grafana_password":{"sensitive":true,"type":"string"},'
    '"grafana_url":{"sensitive":false,"value":null},"max_size":{"sensitive":false,"value":10}}'
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f'{{"type":"apply_start","hook":{HOOK}}}}}',
            Working(address="module.pool.exoscale_instance_pool.members"),
        ),
        (
            f'{{"type":"apply_complete","hook":{HOOK},"elapsed_seconds":3}}}}',
            Change(done="created", address="module.pool.exoscale_instance_pool.members", seconds=3),
        ),
        (
            f'{{"type":"apply_errored","hook":{HOOK},"elapsed_seconds":7}}}}',
            Change(done="failed", address="module.pool.exoscale_instance_pool.members", seconds=7),
        ),
        (
            '{"type":"change_summary","changes":{"add":19,"change":0,"remove":1,"operation":"x"}}',
            Summary(operation="x", added=19, changed=0, removed=1),
        ),
        (
            '{"type":"diagnostic","diagnostic":{"severity":"error","summary":"no","detail":"why"}}',
            Trouble(is_error=True, summary="no", detail="why", address=""),
        ),
        ('{"type":"version","terraform":"1.11.4"}', None),
        ('{"type":"apply_start","hook":{"resource":{"addr":"data.x"},"action":"read"}}', None),
        ('{"type":"apply_complete","hook":{"resource":{"addr":"data.x"},"action":"read"}}', None),
        ('{"type":"outputs","outputs":{"zone":{"sensitive":false,"action":"create"}}}', None),
        ("panic: runtime error", None),
        ("[1]", None),
        ('{"type":"apply_complete"}', None),
    ],
)
def test_a_line_is_read(line: str, message: object) -> None:
    assert read(line) == message


@settings(max_examples=50)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.dictionaries(st.text(), x)))
def test_no_line_of_json_is_a_fault(said: object) -> None:
    read(json.dumps({"type": "apply_complete", "hook": said}))
    read(json.dumps(said))


def test_the_table_shows_what_is_there_and_no_secret() -> None:
    outputs = read(f'{{"type":"outputs","outputs":{OUTPUTS}}}')
    assert isinstance(outputs, Outputs)
    assert text.table(outputs).splitlines() == [
        "  cost_eur_per_hour  max 0.14635, min 0.06814",
        "  grafana_password   secret; see it by: terraform output -raw grafana_password",
        "  max_size           10",
    ]


def trouble(summary: str, detail: str = "") -> Trouble:
    return Trouble(is_error=True, summary=summary, detail=detail, address="")


@pytest.mark.parametrize(
    ("said", "pauses"),
    [
        pytest.param(
            trouble("unable to delete", "DELETE giving up after 5 attempt(s)"),
            (*PAUSES_S, None),
            id="the-provider-gave-up",
        ),
        pytest.param(trouble("dial tcp: connection refused"), (*PAUSES_S, None), id="network"),
        pytest.param(trouble("Service Unavailable"), (*PAUSES_S, None), id="503"),
        pytest.param(trouble("DeleteSecurityGroup: Conflict: in use"), (5, None), id="in-use"),
        pytest.param(trouble("invalid request: Forbidden"), (None,), id="refused"),
        pytest.param(trouble("Invalid request signature"), (None,), id="signature"),
        pytest.param(trouble("Error acquiring the state lock"), (None,), id="locked"),
    ],
)
def test_what_may_pass_is_tried_again(said: Trouble, pauses: tuple[float | None, ...]) -> None:
    assert tuple(pause_s([said], attempts=1 + at) for at in range(len(pauses))) == pauses


def test_an_outage_of_an_hour_is_waited_out_ever_more_patiently() -> None:
    assert list(PAUSES_S) == sorted(PAUSES_S)
    assert 3000 <= sum(PAUSES_S) <= 4000


@pytest.mark.parametrize(
    ("said", "is_quota"),
    [
        (trouble("CreateInstancePool: Conflict: quota exceeded"), True),
        (trouble("unable to create", "invalid request: Precondition Failed: Quota exceeded"), True),
        (trouble("operation failed", "instance quotas do not allow this"), True),
        (trouble("Conflict: load balancer already exists"), False),
    ],
)
def test_a_quota_is_known_by_its_word_whatever_the_status(said: Trouble, is_quota: bool) -> None:
    assert said.is_quota is is_quota


def test_one_refusal_among_faults_ends_it() -> None:
    assert pause_s([trouble("connection reset"), trouble("Forbidden")], attempts=1) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (7140, "1 h 59 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown


def test_moments_are_read_as_terraform_writes_them() -> None:
    assert text.unix_s("1970-01-01T01:00:00Z") == 3600
    assert text.unix_s("") is None
    assert text.unix_s(None) is None

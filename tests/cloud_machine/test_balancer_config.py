"""What HAProxy is told, and what it tells."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.cloud import balancer_config
from exotide.cloud.balancer_config import Line, Manner
from exotide.cloud.balancer_runtime import Row, parse_rows
from exotide.cloud.ports import HealthCheck, ServiceSpec
from exotide.cloud.servers.errors import UnsupportedService
from exotide.stack import StackSettings
from exotide.stack.create import HEALTHCHECK

STACK: dict[str, Any] = dict(HEALTHCHECK)
STACKS_CHECK = HealthCheck(
    mode="http",
    port=8080,
    interval_s=STACK["interval"],
    timeout_s=STACK["timeout"],
    retries=STACK["retries"],
    uri="/health",
)
MANNERS: tuple[Manner, Manner] = ("attentive", "plain")
CHECK = HealthCheck(
    mode="http", port=8081, interval_s=10.0, timeout_s=2.0, retries=2, uri="/health"
)
WEB = ServiceSpec(
    id="1",
    name="web",
    port=80,
    target_port=8080,
    strategy="source-hash",
    protocol="tcp",
    healthcheck=CHECK,
)


def test_the_configuration_says_what_the_service_is() -> None:
    text = balancer_config.render(
        WEB,
        socket=Path("api.sock"),
        members=[Line(name="m1", ip="198.18.0.3")],
        speed=1.0,
    )
    assert '    # 80\n    bind fd@"${EXOTIDE_LISTENER}"\n' in text
    assert "    option redispatch 1\n    retries 3\n" in text
    assert "    timeout check 2000ms\n" in text
    assert text.endswith(
        "backend members\n"
        "    balance source\n"
        "    hash-type consistent\n"
        "    option httpchk GET /health\n"
        "    http-check expect status 200\n"
        "    server m1 198.18.0.3:8080 check port 8081 inter 10000ms downinter 100ms "
        "fall 2 rise 1\n"
    )


def test_a_plain_balancer_hides_nothing_and_looks_no_sooner() -> None:
    text = balancer_config.render(
        WEB,
        socket=Path("api.sock"),
        members=[Line(name="m1", ip="198.18.0.3")],
        speed=2.0,
        manner="plain",
    )
    assert "    retries 0\n" in text
    assert "redispatch" not in text
    assert text.endswith("inter 5000ms downinter 5000ms fall 3 rise 1\n")


def noticed_after_ms(words: str) -> int:
    """How long a member may fail before it gets no traffic, if each check fails at once."""
    found = re.search(r"inter (\d+)ms downinter (\d+)ms fall (\d+) ", words)
    assert found, words
    return int(found[1]) * int(found[3])


@given(
    interval_s=st.integers(5, 300),
    retries=st.integers(1, 20),
    speed=st.floats(0.1, 20, allow_nan=False),
)
def test_a_plain_balancer_is_never_kinder_and_the_stacks_members_outlast_it(
    interval_s: int, retries: int, speed: float
) -> None:
    check = replace(CHECK, interval_s=float(interval_s), retries=retries)
    service = replace(WEB, healthcheck=check)
    attentive, plain = (
        noticed_after_ms(balancer_config.check_words(service, speed, manner)) for manner in MANNERS
    )
    assert plain > attentive
    stacks = replace(WEB, healthcheck=STACKS_CHECK)
    drain_ms = StackSettings(key="EXO", secret="-").drain_s / speed * 1000
    assert noticed_after_ms(balancer_config.check_words(stacks, speed, "plain")) < drain_ms


@pytest.mark.parametrize(
    ("interval_s", "speed", "expected"),
    [(10.0, 1.0, "inter 10000ms"), (10.0, 6.0, "inter 1667ms"), (0.1, 6.0, "inter 100ms")],
)
def test_the_interval_runs_on_the_clock_of_the_demo(
    interval_s: float, speed: float, expected: str
) -> None:
    service = replace(WEB, healthcheck=replace(CHECK, interval_s=interval_s))
    assert expected in balancer_config.check_words(service, speed)


def test_an_https_check_does_not_verify_and_a_tcp_check_only_connects() -> None:
    https = replace(WEB, healthcheck=replace(CHECK, mode="https"))
    assert balancer_config.check_words(https, 1.0).endswith("check-ssl verify none")
    tcp = replace(WEB, healthcheck=replace(CHECK, mode="tcp"))
    text = balancer_config.render(tcp, socket=Path("s"), members=[], speed=1.0)
    assert "httpchk" not in text


@pytest.mark.parametrize(
    ("service", "message"),
    [
        (replace(WEB, protocol="udp"), "protocol tcp only, got: udp"),
        (replace(WEB, strategy="random"), "got: random"),
        (replace(WEB, healthcheck=replace(CHECK, mode="icmp")), "got: icmp"),
    ],
)
def test_what_it_cannot_do_is_refused(service: ServiceSpec, message: str) -> None:
    with pytest.raises(UnsupportedService, match=message):
        balancer_config.check_service(service)


def test_rows_tell_traffic_from_checks() -> None:
    table = (
        "# pxname,svname,scur,status,check_status,\n"
        "members,m1,3,UP 1/2,* L7OK,\n"
        "members,m2,0,DRAIN,INI,\n\n"
    )
    rows = parse_rows(table)
    assert rows["m1"] == Row(status="UP 1/2", check="L7OK", sessions=3)
    assert (rows["m1"].up, rows["m1"].good) == (True, True)
    assert (rows["m2"].up, rows["m2"].good) == (False, False)
    assert (rows["m1"].checked, rows["m2"].checked) == (True, False)

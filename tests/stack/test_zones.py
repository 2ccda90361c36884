"""One rule for the names of zones, wherever one is given, and every zone that there is keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import exoscale
import pytest
from exotide_autoscaler.settings import read_settings as autoscaler_settings
from exotide_servicediscovery.settings import read_settings as discovery_settings
from hypothesis import given
from hypothesis import strategies as st

from exotide.access.shell import read_shell
from exotide.access.zones import Zones, reach
from exotide.cloud.api.catalogue import ZONES
from exotide.stack import StackSettings

ROOT = Path(__file__).parents[2]
DESCRIPTION = json.loads((Path(exoscale.__file__).parent / "openapi.json").read_text())
KNOWN_TO_THE_SDK = DESCRIPTION["servers"][0]["variables"]["zone"]["enum"]
NAMED_BY_THE_API = DESCRIPTION["components"]["schemas"]["zone-name"]["enum"]


def agent(read: Callable[[dict[str, str]], object]) -> Callable[[str], object]:
    environ = {
        "EXOSCALE_KEY": "EXOkey",
        "EXOSCALE_SECRET": "hidden",
        "EXOSCALE_INSTANCEPOOL_ID": "6e1a1ac6-9d93-43ae-a250-43392d8a90d4",
        "TARGET_PORT": "9100",
    }
    return lambda zone: read(environ | {"EXOSCALE_ZONE": zone})


def root_module(zone: str) -> None:
    """As Terraform judges it: its regular expressions and Python's agree about this one."""
    text = (ROOT / "variables.tf").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'regex\("(.*?)", var\.zone\)', text)
    if re.search(pattern.replace("$", r"\Z"), zone) is None:
        raise ValueError(zone)


def any_zone(zone: str) -> Callable[[str], Zones]:
    """A cloud that has whatever zone it is asked for."""
    return lambda _endpoint: Zones(endpoints={zone: "https://host/v2"}, time_s=None)


RULES: dict[str, Callable[[str], object]] = {
    "autoscaler": agent(autoscaler_settings),
    "servicediscovery": agent(discovery_settings),
    "stack": lambda zone: StackSettings(key="EXOkey", secret="hidden", zone=zone),
    "check": lambda zone: read_shell({}, zone=zone),
    "up": lambda zone: reach(read_shell({}, zone="at-vie-1"), zone, ask=any_zone(zone)),
    "terraform": root_module,
}


def takes(rule: str, zone: str) -> bool:
    try:
        RULES[rule](zone)
    except Exception:  # noqa: BLE001 - each has a type of its own
        return False
    return True


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("zone", sorted({*KNOWN_TO_THE_SDK, *NAMED_BY_THE_API, *ZONES}))
def test_every_zone_that_there_is_may_be_used(rule: str, zone: str) -> None:
    assert takes(rule, zone)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "zone",
    [
        *("at-vie", "AT-VIE-1", "at_vie_1", "at-vie-", "at-vie-1-", "at-vie-100", "vie-1", "1"),
        *("at-vie-1.evil.example/", "evil.example/", "at-vie-1/../..", "at-vie-1\nx", "at-vie-1?"),
    ],
)
def test_what_is_no_zone_is_refused_before_it_becomes_part_of_a_host_s_name(
    rule: str, zone: str
) -> None:
    assert not takes(rule, zone)


@given(st.from_regex(r"[a-zA-Z0-9]{1,3}-[a-z0-9]{1,5}-[0-9a-z]{1,3}", fullmatch=True) | st.text())
def test_all_rules_agree(zone: str) -> None:
    zone = zone.strip()
    judged = {rule: takes(rule, zone) for rule in RULES}
    assert len(set(judged.values())) == 1, judged

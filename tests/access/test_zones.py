"""An endpoint tells its zones and its time; one that is silent, or no API, is named."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest

from exotide.access.errors import NoAccess
from exotide.access.shell import Kind, Shell, public_endpoint
from exotide.access.zones import ANOTHER_ZONE, Silent, Zones, ask_zones, reach
from exotide.cloud.testing import running_cloud
from tests.check.serving import serving

LOCAL = Shell(kind=Kind.LOCAL, endpoint="http://127.0.0.1:8480/v2", is_proxied=True)
REAL = Shell(kind=Kind.EXOSCALE, endpoint=public_endpoint("at-vie-9"), is_proxied=False)


def test_a_cloud_tells_its_zones_and_the_time_without_a_key() -> None:
    with running_cloud() as cloud:
        zones = ask_zones(cloud.url)
    assert zones.endpoint("ch-dk-2") == f"http://127.0.0.1:{cloud.access.port}/z/ch-dk-2/v2"
    assert zones.time_s == pytest.approx(time.time(), abs=5)


class NoApi(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_what_is_no_api_is_named() -> None:
    with serving(NoApi) as url, pytest.raises(NoAccess, match="answers 200, and is no Exoscale"):
        ask_zones(url)


class Faulty(BaseHTTPRequestHandler):
    """Answers properly from the third time on, or never."""

    times = 0
    faults = 2

    def do_GET(self) -> None:
        type(self).times += 1
        is_well = self.times > self.faults
        self.send_response(200 if is_well else 503)
        self.end_headers()
        self.wfile.write(b'{"zones": []}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_fault_that_passes_is_waited_out_and_one_that_does_not_is_told() -> None:
    with serving(Faulty) as url:
        assert ask_zones(url).endpoints == {}
        Faulty.times, Faulty.faults = 0, 99
        with pytest.raises(NoAccess, match=r"has a fault \(503\); try again later"):
            ask_zones(url)


def test_who_does_not_answer_is_named_with_the_reason_alone() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}/v2"
    with pytest.raises(Silent) as silence:
        ask_zones(endpoint)
    assert str(silence.value) == f"{endpoint} does not answer: Connection refused"


def silent(endpoint: str) -> Zones:
    raise Silent(f"{endpoint} does not answer: Connection refused")


def test_a_local_cloud_that_has_ended_is_recognised() -> None:
    with pytest.raises(
        NoAccess, match=r"set for a local cloud, which has ended.*exotide cloud env"
    ):
        reach(LOCAL, "at-vie-1", ask=silent)


def test_a_zone_that_there_is_not_is_named_although_its_address_is_silent() -> None:
    def elsewhere(endpoint: str) -> Zones:
        if endpoint != public_endpoint(ANOTHER_ZONE):
            return silent(endpoint)
        known = {zone: public_endpoint(zone) for zone in ("at-vie-1", ANOTHER_ZONE)}
        return Zones(endpoints=known, time_s=None)

    with pytest.raises(NoAccess, match="no zone at-vie-9 there; --zone may be: at-vie-1, ch-gva-2"):
        reach(REAL, "at-vie-9", ask=elsewhere)
    with pytest.raises(
        NoAccess, match="is this machine connected, and EXOSCALE_API_ENDPOINT unset"
    ):
        reach(REAL, "at-vie-1", ask=elsewhere)
    with pytest.raises(NoAccess, match="is this machine connected"):
        reach(REAL, "at-vie-1", ask=silent)

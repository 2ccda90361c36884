"""The page about the local cloud's API is true and up to date."""

from __future__ import annotations

from exotide.cloud.api.app import ENDPOINTS
from exotide.cloud.api.differences import BY_OPERATION

from .probing import Prober, Use
from .reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "stale; run `make reference` and commit the page"


def test_every_difference_is_one_of_an_operation_that_exists() -> None:
    assert set(BY_OPERATION) <= {endpoint.operation for endpoint in ENDPOINTS}


def test_probing_tells_honoured_from_refused_and_ignored_fields() -> None:
    endpoints = {endpoint.operation: endpoint for endpoint in ENDPOINTS}
    prober = Prober()
    pool = {each.name: each.use for each in prober.findings(endpoints["create-instance-pool"])}
    role = {each.name: each.use for each in prober.findings(endpoints["create-iam-role"])}
    gone = prober.findings(endpoints["update-private-network"])
    prober.close()
    assert pool["user-data"] is Use.HONOURED
    assert pool["ipv6-enabled"] is Use.PARTLY
    assert pool["deploy-target"] is Use.REFUSED
    assert role["policy.services"] is Use.HONOURED
    assert role["max-session-ttl"] is Use.IGNORED
    assert gone == []

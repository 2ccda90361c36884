"""
A pool that shrinks under load loses no request, whatever its load balancer does about it.

With a plain balancer that is the members' own work; that they do it is shown by those that do not.
"""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import pytest

from exotide.stack import StackSettings
from exotide.stack.create import HEALTHCHECK
from exotide.stack.userdata import APP_PORT, member_user_data
from tests.sdk import done

from .conftest import SPEED, Cloud, eventually, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHORT = "/work?cpu_s=0.002"
LONG = "/load"
RIGHT = {SHORT: "Work done.", LONG: "Load generation done."}


class Loops:
    """Requests one after the other, each on a connection of its own, until the end of `with`."""

    def __init__(self, ip: str, port: int) -> None:
        self.answers: Counter[str] = Counter()
        self._where, self._end = (ip, port), threading.Event()
        targets = [SHORT] * 4 + [LONG] * 2
        self._threads = [threading.Thread(target=self._run, args=[target]) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    @property
    def lost(self) -> dict[str, int]:
        return {text: count for text, count in self.answers.items() if text not in RIGHT.values()}

    def await_both(self) -> None:
        """Wait until there are more answers to short and to long requests."""
        before = dict(self.answers)
        eventually(
            lambda: (
                all(self.answers[text] > before.get(text, 0) for text in RIGHT.values()) or None
            ),
            within_s=30,
            what="an answer",
        )

    def _run(self, target: str) -> None:
        while not self._end.wait(0.02):
            connection = http.client.HTTPConnection(*self._where, timeout=30)
            try:
                connection.request("GET", target)
                self.answers[connection.getresponse().read().decode()] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[f"{target}: {error!r}"] += 1
            finally:
                connection.close()


@dataclass(frozen=True, kw_only=True)
class Service:
    """Two members behind a balancer."""

    client: Any
    pool_id: str
    nlb_id: str

    def statuses(self) -> list[str]:
        (service,) = self.client.get_load_balancer(id=self.nlb_id)["services"]
        return [each["status"] for each in service["healthcheck-status"]]

    def settled(self, count: int) -> None:
        eventually(
            lambda: self.statuses() == ["success"] * count or None,
            within_s=60,
            what=f"the balancer's notice of {count} members",
        )

    def evict_oldest(self) -> None:
        oldest = self.client.get_instance_pool(id=self.pool_id)["instances"][0]["id"]
        evicted = self.client.evict_instance_pool_members(id=self.pool_id, instances=[oldest])
        done(self.client, evicted, within_s=120)


def serve(client: Any, user_data: str) -> Service:
    """Make two members and their balancer."""
    group = done(client, client.create_security_group(name="open"))
    rule = {"flow_direction": "ingress", "protocol": "tcp", "network": "0.0.0.0/0"}
    ports = {"start_port": APP_PORT, "end_port": APP_PORT}
    done(client, client.add_rule_to_security_group(id=group, **rule, **ports))
    kinds = client.list_instance_types()["instance-types"]
    pool = client.create_instance_pool(
        name="web",
        size=2,
        instance_type={"id": next(kind["id"] for kind in kinds if kind["size"] == "micro")},
        template={"id": client.list_templates()["templates"][0]["id"]},
        disk_size=10,
        labels={"role": "member"},
        security_groups=[{"id": group}],
        user_data=user_data,
    )
    pool_id = done(client, pool)
    nlb_id = done(client, client.create_load_balancer(name="lb"))
    service = client.add_service_to_load_balancer(
        id=nlb_id,
        name="http",
        instance_pool={"id": pool_id},
        protocol="tcp",
        strategy="round-robin",
        port=80,
        target_port=APP_PORT,
        healthcheck=HEALTHCHECK,
    )
    done(client, service)
    return Service(client=client, pool_id=pool_id, nlb_id=nlb_id)


@pytest.fixture(params=["attentive", "plain"])
def balanced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    with running(tmp_path_factory, balancer=request.param) as cloud:
        yield cloud


def shrink(cloud: Cloud, drain_s: float) -> Loops:
    """Take one of two members away under load, and tell what clients saw."""
    settings = StackSettings(
        key="EXO", secret="-", speed=SPEED, drain_s=drain_s, slowapp_env={"LOAD_SECONDS": "3"}
    )
    client = cloud.client
    with closing(client.http_client):
        service = serve(client, member_user_data(settings))
        service.settled(2)
        ip = client.get_load_balancer(id=service.nlb_id)["ip"]
        with Loops(ip, cloud.entry.character.http_port) as loops:
            loops.await_both()
            service.evict_oldest()
            service.settled(1)
    return loops


def test_a_pool_of_the_stacks_members_shrinks_under_load_and_loses_nothing(
    balanced: Cloud,
) -> None:
    loops = shrink(balanced, StackSettings(key="EXO", secret="-").drain_s)
    assert loops.lost == {}
    assert loops.answers[RIGHT[LONG]] >= 2


def test_members_that_do_not_drain_cost_requests_unless_their_balancer_drains(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory, balancer="plain") as cloud:
        assert shrink(cloud, 0.0).lost

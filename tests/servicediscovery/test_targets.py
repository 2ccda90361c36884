"""What becomes a target, and how the file looks."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

from exotide_servicediscovery.targets import LEAVING, Instance, Pool, render
from hypothesis import given
from hypothesis import strategies as st

STATES = ["running", "starting", "stopping", "stopped", "migrating", "error", *sorted(LEAVING)]
instances = st.builds(
    Instance,
    id=st.uuids().map(str),
    name=st.text(min_size=1),
    state=st.sampled_from(STATES),
    ip=st.none() | st.ip_addresses(),
)
some = st.lists(instances, max_size=12, unique_by=lambda found: found.id)


def pool_of(members: list[Instance]) -> Pool:
    return Pool(id="p", name="web", instances=tuple(members))


def document(members: list[Instance], port: int = 9100) -> bytes:
    return render(pool_of(members), zone="at-vie-1", port=port)


def test_a_member_is_one_group_with_its_labels() -> None:
    member = Instance(id="i", name="web-1", state="running", ip=IPv4Address("198.51.100.7"))
    assert json.loads(document([member])) == [
        {
            "targets": ["198.51.100.7:9100"],
            "labels": {
                "instance_id": "i",
                "instance_name": "web-1",
                "pool": "web",
                "pool_id": "p",
                "zone": "at-vie-1",
            },
        }
    ]


def test_an_empty_pool_is_an_empty_list() -> None:
    assert json.loads(document([])) == []


@given(some, st.integers(1, 65535))
def test_every_member_that_can_be_reached_is_a_target_and_no_other(
    members: list[Instance], port: int
) -> None:
    groups = json.loads(document(members, port))
    gone = {*LEAVING, "error"}
    hosts = {
        m.id: f"[{m.ip}]" if m.ip.version == 6 else str(m.ip)
        for m in members
        if m.ip and m.state not in gone
    }
    found = {group["labels"]["instance_id"]: group["targets"][0] for group in groups}
    assert found == {id_: f"{host}:{port}" for id_, host in hosts.items()}
    assert set(pool_of(members).left_out) == {m.id for m in members} - set(found)


@given(some.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_the_order_of_the_answer_does_not_change_the_file(
    orders: tuple[list[Instance], list[Instance]],
) -> None:
    assert document(orders[0]) == document(orders[1])

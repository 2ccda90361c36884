"""
The acceptance contract as data, in the order in which it is checked.

What only looks comes first. Then the members are deleted once for sections 1 and 2, and the load is
made once for sections 2 and 3; while the pool calms down, the autoscaler is checked on a pool of
its own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from exotide.access import rights

from . import agents, grafana, monitoring, pool, scaling
from .model import Check

PARTS: Final = (1, 2, 3)
SOON_S: Final = 300.0
"""The contract's limit for most."""
CHANGE_S: Final = 120.0
REPEAT_S: Final = 480.0
"""The alert is repeated after 5 minutes, then a pass and a server's start follow."""
PATIENCE_S: Final = 900.0
"""The patience of the contract's checker."""
SERVERS_S: Final = 600.0
"""
How much longer the real cloud is waited for where servers start, a pool changes or packages are
installed: a start takes 30 to 60 s there and a pool's change minutes, by what others measured.
Together with the contract's 300 s that is the patience of the contract's checker.
"""
ANSWERS_S: Final = 60.0
"""The same where only an answer has to cross the internet."""
_LOAD: Final = (
    "requests /load in 10 parallel loops until the pool has grown by two members, for some "
    "minutes; without load they go again"
)

_LOOKS: Final = (
    Check(
        id="pool-one",
        parts=(1,),
        says="There is exactly one instance pool",
        look=pool.one_pool,
        advise=pool.advise_one_pool,
    ),
    Check(
        id="balancer-one",
        parts=(1,),
        says="There is exactly one load balancer, with exactly one service, on port 80",
        look=pool.one_balancer,
        advise=pool.advise_one_balancer,
    ),
    Check(
        id="backends-healthy",
        parts=(1,),
        says="All backends are healthy",
        look=pool.healthy,
        advise=pool.advise_healthy,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("pool-one", "balancer-one"),
    ),
    Check(
        id="health-ok",
        parts=(1,),
        says='The service answers 200 and exactly "OK" to /health',
        look=pool.health_ok,
        advise=pool.advise_health_ok,
        needs=("balancer-one",),
    ),
    Check(
        id="server-one",
        parts=(2,),
        says="There is exactly one instance beside the pool's members",
        look=monitoring.one_server,
        advise=monitoring.advise_one_server,
        needs=("pool-one",),
    ),
    Check(
        id="prometheus-answers",
        parts=(2,),
        says="Prometheus answers from outside",
        look=monitoring.prometheus_answers,
        advise=monitoring.advise_prometheus,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("server-one",),
    ),
    Check(
        id="members-up",
        parts=(2,),
        says="Every member is up in Prometheus",
        look=monitoring.members_up,
        advise=monitoring.advise_members_up,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("prometheus-answers",),
    ),
    Check(
        id="cpu-lines",
        parts=(2,),
        says="The CPU query has one line for each member",
        look=monitoring.cpu_lines,
        advise=monitoring.advise_cpu,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("prometheus-answers",),
    ),
    Check(
        id="grafana-answers",
        parts=(3,),
        says="Grafana answers from outside",
        look=grafana.grafana_answers,
        advise=grafana.advise_grafana,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("server-one",),
        lacks=grafana.no_grafana,
    ),
    Check(
        id="grafana-source",
        parts=(3,),
        says="Its data source is Prometheus",
        look=grafana.data_source,
        advise=grafana.advise_settings,
        within_s=60.0,
        slower_s=ANSWERS_S,
        needs=("grafana-answers",),
        lacks=grafana.no_password,
    ),
    Check(
        id="grafana-graphs",
        parts=(3,),
        says="A dashboard has two graphs of the pool's average CPU",
        look=grafana.two_graphs,
        advise=grafana.advise_settings,
        within_s=60.0,
        slower_s=ANSWERS_S,
        needs=("grafana-answers", "prometheus-answers"),
        lacks=grafana.no_password,
    ),
    Check(
        id="grafana-rules",
        parts=(3,),
        says="One alert fires above 80 %, one below 20 %, each after 1 minute",
        look=grafana.rules,
        advise=grafana.advise_settings,
        needs=("grafana-answers",),
        lacks=grafana.no_password,
    ),
    Check(
        id="grafana-calls",
        parts=(3,),
        says="They call /up and /down, again after 5 minutes, and not when they resolve",
        look=grafana.calls,
        advise=grafana.advise_settings,
        needs=("grafana-answers",),
        lacks=grafana.no_password,
    ),
    Check(
        id="discovery-writes",
        parts=(2,),
        says="Run with the contract's environment, service discovery writes all members to a file",
        act=agents.start_discovery,
        look=agents.file_follows,
        advise=agents.advise_discovery,
        within_s=CHANGE_S,
        slower_s=ANSWERS_S,
        needs=("pool-one",),
    ),
)

_DELETION: Final = (
    Check(
        id="members-replaced",
        parts=(1, 2),
        says="All members are deleted through the API, and the pool has others",
        act=pool.delete_members,
        look=pool.others,
        advise=pool.advise_others,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        since="deleted",
        needs=("pool-one", "backends-healthy"),
        warns="deletes all members of the pool: the service is down until others serve, for a "
        "minute on a local cloud, for some on the real one",
        rights=rights.DELETING_MEMBERS,
    ),
    Check(
        id="backends-healthy-again",
        parts=(1, 2),
        says="All backends are healthy again",
        look=pool.healthy,
        advise=pool.advise_healthy,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        since="deleted",
        needs=("members-replaced",),
    ),
    Check(
        id="discovery-follows",
        parts=(2,),
        says="Its file shows the change",
        look=agents.file_follows,
        advise=agents.advise_discovery,
        within_s=CHANGE_S,
        slower_s=ANSWERS_S,
        since="members-replaced",
        along=True,
        needs=("discovery-writes", "members-replaced"),
    ),
    Check(
        id="members-up-again",
        parts=(2,),
        says="Every new member is up in Prometheus",
        look=monitoring.members_up,
        advise=monitoring.advise_members_up,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        since="deleted",
        along=True,
        needs=("members-replaced", "prometheus-answers"),
    ),
    Check(
        id="health-ok-again",
        parts=(1,),
        says='The service answers 200 and exactly "OK" to /health again',
        look=pool.health_ok,
        advise=pool.advise_health_ok,
        needs=("members-replaced",),
    ),
    Check(
        id="discovery-ends",
        parts=(2,),
        says="Service discovery exits with 0 on TERM",
        act=agents.end_discovery,
        look=agents.discovery_ended,
        advise=agents.advise_discovery,
        within_s=10.0,
        needs=("discovery-writes",),
    ),
)

_LOADED: Final = (
    Check(
        id="load-visible",
        parts=(2,),
        says="Repeated GET /load raises the CPU visibly",
        act=monitoring.start_loops,
        look=monitoring.load_visible,
        advise=monitoring.advise_load,
        within_s=CHANGE_S,
        slower_s=ANSWERS_S,
        since="loops",
        needs=("health-ok", "cpu-lines"),
        warns=_LOAD,
    ),
    # Not before the load: for a minute the query still shows those that were deleted.
    Check(
        id="cpu-lines-again",
        parts=(2,),
        says="The CPU query has one line for each new member",
        look=monitoring.cpu_lines,
        advise=monitoring.advise_cpu,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        since="deleted",
        needs=("members-replaced", "prometheus-answers"),
    ),
    Check(
        id="pool-grows",
        parts=(3,),
        says="Under ten parallel loops of GET /load the pool grows by one member",
        act=monitoring.start_loops,
        look=scaling.grown,
        advise=scaling.advise_grown,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        since="loops",
        along=True,
        needs=("pool-one", "health-ok", "server-one"),
        warns=_LOAD,
        server_hours=1.0,
    ),
    Check(
        id="pool-grows-on",
        parts=(3,),
        says="It grows on while the load lasts",
        look=scaling.grown_on,
        advise=scaling.advise_grown,
        within_s=REPEAT_S,
        slower_s=SERVERS_S,
        since="pool-grows",
        needs=("pool-grows",),
    ),
    Check(
        id="none-lost",
        parts=(3, 2),
        says="The loops end, and no request of theirs was lost",
        act=scaling.end_loops,
        look=scaling.none_lost,
        advise=scaling.advise_lost,
        lacks=scaling.no_loops,
    ),
)

_OWN_POOL: Final = (
    Check(
        id="autoscaler-up",
        parts=(3,),
        says="Run with the contract's environment, the autoscaler answers 200 to one GET /up, "
        "and its pool has 2 members",
        act=agents.start_autoscaler,
        look=agents.has_two,
        advise=agents.advise_autoscaler,
        within_s=SOON_S,
        slower_s=SERVERS_S,
        needs=("pool-one",),
        warns="makes a pool of its own, of 1 to 2 small instances, for about 5 minutes",
        server_hours=0.5,
        rights=rights.OWN_POOL,
    ),
    Check(
        id="autoscaler-down",
        parts=(3,),
        says="It answers 200 to one GET /down, and its pool has 1 member",
        act=agents.send_down,
        look=agents.has_one,
        advise=agents.advise_autoscaler,
        within_s=PATIENCE_S,
        slower_s=SERVERS_S,
        needs=("autoscaler-up",),
    ),
    Check(
        id="autoscaler-ignores",
        parts=(3,),
        says="It answers 200 to GET /down at size 1, and ignores it",
        act=agents.send_down_again,
        look=agents.has_one,
        advise=agents.advise_autoscaler,
        holds_s=65.0,  # longer than an interval, after which it would be served
        needs=("autoscaler-down",),
    ),
    Check(
        id="autoscaler-ends",
        parts=(3,),
        says="The autoscaler exits with 0 on TERM",
        act=agents.end_autoscaler,
        look=agents.autoscaler_ended,
        advise=agents.advise_autoscaler,
        within_s=30.0,
        needs=("autoscaler-up",),
    ),
    # Last: until here it had its time, also if it has long been as small. The checks' own pool is
    # not waited for.
    Check(
        id="pool-shrinks",
        parts=(3,),
        says="Without load the pool comes back to its size",
        act=agents.leave_own_pool,
        look=scaling.shrunk,
        advise=scaling.advise_shrunk,
        within_s=PATIENCE_S,
        slower_s=SERVERS_S,
        since="calm",
        needs=("pool-grows",),
    ),
)

CONTRACT: Final = (*_LOOKS, *_DELETION, *_LOADED, *_OWN_POOL)


def chosen(parts: Collection[int]) -> tuple[Check, ...]:
    """Give the checks of these sections, and those of others that they need."""
    wanted = {check.id for check in CONTRACT if set(check.parts) & set(parts)}
    for check in reversed(CONTRACT):
        if check.id in wanted:
            wanted.update(check.needs)
    return tuple(check for check in CONTRACT if check.id in wanted)

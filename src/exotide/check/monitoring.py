"""Section 2 of the contract: one server watches the members, whoever they are."""

from __future__ import annotations

from typing import Final

from exotide.stack.errors import StackError
from exotide.stack.userdata import EXPORTER_PORT, PROMETHEUS_PORT

from .bootstrap import Bootstrap, bootstrap
from .errors import WebFault
from .model import Seen
from .scene import Scene, names
from .things import Server

CPU_QUERY: Final = (
    'sum by (instance)(rate(node_cpu_seconds_total{mode!="idle"}[1m]))'
    " / sum by (instance)(rate(node_cpu_seconds_total[1m]))"
)
"""Word for word the contract's."""
COUNTED: Final = "all that is not idle counts, also waiting for a disk and what other guests take"
"""What CPU means to that query: iowait and steal are busy to it."""
RISE: Final = 0.3
"""What is visible: so much more of a member's CPU than before."""
LOOPS: Final = 10


def one_server(scene: Scene) -> Seen:
    """Find the monitoring server: the one that is no member."""
    beside = _beside(scene)
    if len(beside) != 1:
        text = f"{len(beside)} instances beside the pool's members: {names(beside)}"
        return Seen(fine=False, final=True, text=text)
    scene.server = beside[0]
    return Seen(fine=True, text=f"{beside[0].name} on {beside[0].ip}")


def advise_one_server(scene: Scene) -> str:
    """Tell what to do."""
    if _beside(scene):
        return "delete what is too much, or name the stack that is meant: --name exotide"
    return "the monitoring server is gone: terraform apply makes it anew"


def prometheus_answers(scene: Scene) -> Seen:
    """See whether Prometheus can be asked from here, and if not, how far the set-up is."""
    try:
        scene.prometheus.values("up")
    except WebFault as fault:
        return Seen(fine=False, text=_shown(bootstrap(scene)) or str(fault))
    return Seen(fine=True, text=f"{scene.prometheus.url} answers")


def advise_server(scene: Scene, *, port: int, unit: str) -> str:
    """Tell why a service of the monitoring server does not answer."""
    state = bootstrap(scene)
    if state is not None and state.error:
        return f"the set-up failed at '{state.now}': {state.error}; {_JOURNAL}"
    if state is not None:
        return f"the set-up has not ended: {state.text}; {_JOURNAL}"
    name = scene.server.name if scene.server else "the monitoring server"
    return (
        f"does {name} let this machine in? its security group opens {port}/tcp to the variable "
        f"operator_cidr; if it does, on it: journalctl -u {unit} -u exotide-bootstrap"
    )


def advise_prometheus(scene: Scene) -> str:
    """Tell why Prometheus does not answer."""
    return advise_server(scene, port=PROMETHEUS_PORT, unit="prometheus")


def members_up(scene: Scene) -> Seen:
    """Look for every member among the targets that are up."""
    wanted, up = scene.exporters(), scene.prometheus.by_instance("up")
    missing = sorted(wanted - up.keys())
    down = sorted(address for address in wanted & up.keys() if up[address] != 1)
    text = f"{len(wanted) - len(missing) - len(down)} of {len(wanted)} members up"
    text += f"; not scraped: {', '.join(missing)}" if missing else ""
    text += f"; down: {', '.join(down)}" if down else ""
    return Seen(fine=bool(wanted) and not missing and not down, text=text)


def cpu_lines(scene: Scene) -> Seen:
    """Compare the lines of the contract's query with the members."""
    wanted, lines = scene.exporters(), set(scene.prometheus.by_instance(CPU_QUERY))
    text = f"{len(lines & wanted)} of {len(wanted)} members have a line"
    if lines - wanted:
        text += f"; lines of no member: {', '.join(sorted(lines - wanted))}"
    return Seen(fine=bool(wanted) and lines == wanted, text=text)


def advise_members_up(scene: Scene) -> str:
    """Tell which of service discovery, security group and exporter it is."""
    wanted, up = scene.exporters(), scene.prometheus.by_instance("up")
    if wanted - up.keys():
        return (
            "Prometheus does not know these members: on the monitoring server, journalctl -u "
            "exotide-servicediscovery; cat /srv/service-discovery/config.json"
        )
    return (
        f"Prometheus does not get through: do the members let {EXPORTER_PORT}/tcp in from the "
        "monitoring server's security group? on a member: systemctl status prometheus-node-exporter"
    )


def advise_cpu(scene: Scene) -> str:
    """Tell what else may have a line."""
    if set(scene.prometheus.by_instance(CPU_QUERY)) - scene.exporters():
        return "the query also shows what is no member: rename those series when they are scraped"
    return advise_members_up(scene)


def start_loops(scene: Scene) -> None:
    """Begin the contract's load, unless it runs already."""
    if scene.loops is not None:
        return
    pool = scene.pool()
    scene.size_before, scene.members_before = pool.size, pool.member_ids
    scene.cpu_before = busiest(scene) or 0.0
    scene.loops = scene.load.start(f"{scene.service_url}/load", loops=LOOPS)
    scene.cleanup.callback(scene.loops.abandon)
    scene.note("loops")


def load_visible(scene: Scene) -> Seen:
    """Compare the busiest member's CPU with what it was before the load."""
    cpu = busiest(scene)
    if cpu is None:
        return Seen(fine=False, text="no member has a line")
    # A member that was half busy before is visibly busier at 80 %.
    wanted = min(scene.cpu_before, 0.5) + RISE
    text = f"busiest member at {cpu:.0%}, before {scene.cpu_before:.0%}"
    return Seen(fine=cpu >= wanted, text=text)


def advise_load(scene: Scene) -> str:
    """Tell where the load may have gone."""
    return (
        f"does {scene.service_url}/load burn CPU on the members? "
        f"it should take about 10 s to answer; {COUNTED}"
    )


def busiest(scene: Scene) -> float | None:
    """The highest share of CPU of a member; None if no line can be had."""
    try:
        lines = scene.prometheus.by_instance(CPU_QUERY)
        members = scene.exporters()
    except (WebFault, StackError):
        return None
    return max((lines[address] for address in members & lines.keys()), default=None)


def average(scene: Scene) -> float | None:
    """The members' average share of CPU; None if no line can be had."""
    try:
        values = list(scene.prometheus.by_instance(CPU_QUERY).values())
    except WebFault:
        return None
    return sum(values) / len(values) if values else None


_JOURNAL: Final = "on it: journalctl -u exotide-bootstrap"


def _shown(state: Bootstrap | None) -> str:
    return f"the monitoring server is being set up: {state.text}" if state else ""


def _beside(scene: Scene) -> list[Server]:
    servers, pools = scene.account.servers(), scene.account.pools()
    return [each for each in scene.mine(servers, pools=pools) if each.pool_id != scene.pool_id]

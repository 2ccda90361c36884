"""Section 3 of the contract, first half: Grafana watches the average and calls the autoscaler."""

from __future__ import annotations

import re
from typing import Any, Final

from .alarms import Alarm, graphs, read_alarms, wrong_calls, wrong_rules
from .bootstrap import bootstrap
from .errors import WebFault
from .model import Seen
from .monitoring import advise_server
from .prometheus import understood
from .scene import GRAFANA_PORT, Scene

USER: Final = "admin"
_VARIABLE: Final = re.compile(r"\$(?:\{\w+\}|\w+)")


def no_grafana(scene: Scene) -> str:
    """Tell that alerting is Alertmanager's."""
    try:
        if scene.server is not None and scene.prometheus.alertmanagers():
            return "this stack's alerting is Alertmanager's, not Grafana's"
    except WebFault:
        return ""
    return ""


def no_password(scene: Scene) -> str:
    """Tell what reading Grafana's settings needs."""
    if why := no_grafana(scene):
        return why
    if scene.options.grafana_password:
        return ""
    return (
        "Grafana's password is not known: set EXOTIDE_GRAFANA_PASSWORD to "
        "`terraform output -raw grafana_password`, or run this beside terraform.tfstate"
    )


def grafana_answers(scene: Scene) -> Seen:
    """See whether Grafana is up and has its database."""
    try:
        page = scene.web.get(f"{scene.grafana_url}/api/health")
    except WebFault as fault:
        state = bootstrap(scene)
        shown = f"the monitoring server is being set up: {state.text}" if state else str(fault)
        return Seen(fine=False, text=shown)
    with understood(page.url):
        fine = page.status == 200 and page.json()["database"] == "ok"
    return Seen(fine=fine, text=f"{page.url} answers {page.status}")


def advise_grafana(scene: Scene) -> str:
    """Tell why it does not answer."""
    return advise_server(scene, port=GRAFANA_PORT, unit="grafana-server")


def data_source(scene: Scene) -> Seen:
    """Look for a data source of the kind Prometheus, and ask a question through it."""
    with understood(scene.grafana_url):
        sources = [each for each in _read(scene, "datasources") if each["type"] == "prometheus"]
        if not sources:
            return Seen(fine=False, final=True, text="no data source is a Prometheus")
        path = f"datasources/proxy/uid/{sources[0]['uid']}/api/v1/query"
        lines = _read(scene, path, query="up")["data"]["result"]
        name = sources[0]["name"]
    return Seen(fine=bool(lines), text=f"{name}, which answers with {len(lines)} lines of `up`")


def two_graphs(scene: Scene) -> Seen:
    """Look for a dashboard with two graphs that each show one line of CPU: the average."""
    best: list[str] = []
    with understood(scene.grafana_url):
        for entry in _read(scene, "search", type="dash-db"):
            board = _read(scene, f"dashboards/uid/{entry['uid']}")["dashboard"]
            found = [title for title, query in graphs(board) if _is_average(scene, query)]
            best = max(best, found, key=len)
    text = f"{len(best)} graphs of the average CPU: {'; '.join(best) or 'none'}"
    return Seen(fine=len(best) >= 2, text=text)


def rules(scene: Scene) -> Seen:
    """Compare limits and pending times with the contract's."""
    alarms = _alarms(scene)
    wrong = wrong_rules(alarms, speed=scene.options.speed)
    shown = "; ".join(wrong or map(str, alarms))
    return Seen(fine=not wrong, final=bool(wrong), text=shown)


def calls(scene: Scene) -> Seen:
    """Compare receivers and repeats with the contract's."""
    alarms = _alarms(scene)
    wrong = wrong_calls(alarms, speed=scene.options.speed)
    shown = "; ".join(wrong or (f"{each.title} calls {each.url}" for each in alarms))
    return Seen(fine=bool(alarms) and not wrong, final=bool(wrong), text=shown or "no alert rule")


def advise_settings(_: Scene) -> str:
    """Tell where Grafana's settings come from."""
    return (
        "compare with monitoring/grafana/provisioning; on the monitoring server: "
        "journalctl -u grafana-server | grep level=error"
    )


def _alarms(scene: Scene) -> list[Alarm]:
    with understood(scene.grafana_url):
        return read_alarms(
            _read(scene, "v1/provisioning/alert-rules"),
            _read(scene, "v1/provisioning/policies"),
            _read(scene, "v1/provisioning/contact-points"),
        )


def _is_average(scene: Scene, query: str) -> bool:
    if "cpu" not in query.lower():
        return False
    expression = _VARIABLE.sub("1m", query)
    try:
        # A line of one member has the label `instance`, one of their average has none; several such
        # lines are parts of it.
        single = len(scene.prometheus.values(expression)) == 1
        return single and scene.prometheus.by_instance(expression).keys() == {""}
    except WebFault:
        return False


def _read(scene: Scene, path: str, **query: str) -> Any:
    login = (USER, scene.options.grafana_password)
    page = scene.web.get(f"{scene.grafana_url}/api/{path}", query=query, login=login)
    if page.status == 401:
        raise WebFault("Grafana refuses the password (401): terraform output -raw grafana_password")
    if page.status != 200:
        raise WebFault(f"Grafana answers {page.status} to {page.url}")
    return page.json()

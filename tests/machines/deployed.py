"""A stack on machines: its user-data is what Terraform renders, all else is made by the SDK."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from exotide.stack import Patience, Stack, StackSettings, bundle, create, probes
from exotide.stack.userdata import AgentKey, AgentKeys

from .site import ZONE, Cloud, Machine, eventually

SPEED = 20.0
MAX_SIZE = 3
PASSWORD = "password-of-the-test"
"""Of Grafana's user admin."""
READY_WITHIN_S = 120.0
PATIENCE = Patience(longest_s=0.5, limit_s=READY_WITHIN_S)
Render = Callable[[Mapping[str, Any]], dict[str, str]]
Edit = Callable[[str], str]


def as_it_is(text: str) -> str:
    return text


def text_of(user_data: str) -> str:
    return gzip.decompress(base64.b64decode(user_data)).decode()


def with_text(user_data: str, edit: Edit) -> str:
    """Change what a server is told, as the API takes it."""
    return base64.b64encode(gzip.compress(edit(text_of(user_data)).encode())).decode()


@dataclass(kw_only=True)
class Rendered:
    """Adapter of StackText: evaluates terraform/userdata, as the root module does."""

    render: Render
    variables: Mapping[str, Any]
    edit_monitoring: Edit = as_it_is
    """What a test wants to be wrong with the next monitoring server."""
    keys: AgentKeys | None = None
    """Those of the newest monitoring server."""

    def member(self) -> str:
        return self.render(self.variables)["member"]

    def monitoring(self, *, pool_id: str, keys: AgentKeys) -> str:
        self.keys = keys
        given = {
            "pool_id": pool_id,
            "autoscaler_key": _as_variable(keys.autoscaler),
            "servicediscovery_key": _as_variable(keys.discovery),
        }
        return with_text(
            self.render({**self.variables, **given})["monitoring"], self.edit_monitoring
        )


def _as_variable(key: AgentKey) -> dict[str, str]:
    return {"key": key.key, "secret": key.secret}


def variables_for(cloud: Cloud, *, alerting: str, folder: Path) -> dict[str, Any]:
    """What the root module would give to terraform/userdata, at a higher speed."""
    bundle.write(folder, speed=SPEED)
    return {
        "zone": ZONE,
        "endpoint": cloud.agent_url,
        "alerting": alerting,
        "bundle_file": str(folder / bundle.name_of(alerting)),
        "grafana_password": PASSWORD,
        "policy": {
            "min_size": 1,
            "max_size": MAX_SIZE,
            "interval_s": 60 / SPEED,
            "cooldown_s": 0,
            "intent_ttl_s": 900 / SPEED,
        },
        "refresh_s": 1,
        "slowapp_environment": {"LOAD_SECONDS": "2", "DRAIN_SECONDS": f"{20 / SPEED:g}"},
    }


def settings_for(cloud: Cloud) -> StackSettings:
    return StackSettings(
        key=cloud.key,
        secret=cloud.secret,
        endpoint=cloud.url,
        agent_endpoint=cloud.agent_url,
        zone=ZONE,
    )


@dataclass(kw_only=True)
class Deployed:
    """A stack that was created, with what tests ask of it."""

    cloud: Cloud
    alerting: str
    settings: StackSettings
    text: Rendered
    stack: Stack = field(init=False)
    took_s: dict[str, float] = field(default_factory=dict)

    def create(self) -> None:
        """Make what is missing; returns when the API says that everything runs."""
        self.stack = create(self.settings, text=self.text, patience=PATIENCE)
        if self.alerting == "grafana" and not self.took_s:
            self.cloud.change("add_rule_to_security_group", **self._grafana_s_port())

    def _grafana_s_port(self) -> dict[str, Any]:
        """What the root module opens to the operator beside what the SDK's stack has."""
        return {
            "id": self.stack.monitoring_group_id,
            "flow_direction": "ingress",
            "protocol": "tcp",
            "network": "0.0.0.0/0",
            "start_port": 3000,
            "end_port": 3000,
        }

    def await_healthy(self) -> tuple[str, ...]:
        return probes.wait_healthy(self.settings, self.stack, patience=PATIENCE)

    def await_scraped(self) -> tuple[str, ...]:
        return probes.wait_prometheus(self.settings, self.stack, patience=PATIENCE)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Report how long something took, at the end of the test run."""
        began_s = time.monotonic()
        yield
        self.took_s[what] = time.monotonic() - began_s

    @property
    def monitoring(self) -> Machine:
        return Machine(cloud=self.cloud, id=self.stack.monitoring_id)

    def pool(self) -> dict[str, Any]:
        return dict(self.cloud.client.get_instance_pool(id=self.stack.pool_id))

    def size(self) -> int:
        return int(self.pool()["size"])

    def members(self) -> list[Machine]:
        return [Machine(cloud=self.cloud, id=ref["id"]) for ref in self.pool()["instances"]]

    def scale(self, size: int) -> None:
        """Scale as an operator would, past the autoscaler."""
        if self.size() != size:
            self.cloud.change("scale_instance_pool", id=self.stack.pool_id, size=size)

    def await_size(self, size: int, *, within_s: float) -> None:
        eventually(lambda: self.size() == size or None, within_s=within_s, what=f"a pool of {size}")

    def decisions(self) -> list[dict[str, Any]]:
        """What the autoscaler decided, newest last."""
        url = f"{self.stack.autoscaler_url}/decisions?limit=1000"
        answer = httpx2.get(url, trust_env=False, timeout=5)
        return list(answer.raise_for_status().json()["decisions"])

    def query(self, expression: str) -> list[dict[str, Any]]:
        url = f"{self.stack.prometheus_url}/api/v1/query"
        answer = httpx2.get(url, params={"query": expression}, trust_env=False, timeout=5)
        return list(answer.raise_for_status().json()["data"]["result"])

    def bootstrap(self) -> dict[str, Any]:
        """How far the monitoring server says it is; nothing before it begins."""
        done = self.monitoring.run("cat", "/run/exotide/bootstrap.json")
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def await_bootstrap(self) -> None:
        eventually(
            lambda: self.bootstrap().get("finished") or None,
            within_s=READY_WITHIN_S,
            what="the end of the bootstrap",
        )


@dataclass
class Requests:
    """One request after another to the service, until told to stop."""

    url: str
    answers: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            try:
                answer = httpx2.get(self.url, trust_env=False, timeout=10)
                self.answers.append(f"{answer.status_code} {answer.text}")
            except httpx2.HTTPError as error:
                self.answers.append(type(error).__name__)
